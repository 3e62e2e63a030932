"""A disk that is not the one that stopped there, on real processes and a real file system."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import kvctl
from kvctl.cluster.local_cluster import Cluster
from tests.cluster.node_events import events_of

Eventually = Callable[[Callable[[], object]], None]


def rebuilds_of(cluster: Cluster, node: str) -> list[str]:
    """Why the node had to rebuild itself, each time."""
    events = events_of(cluster, node)
    return [event["reason"] for event in events if event["kind"] == "rebuild_started"]


def test_a_backup_of_the_present_life_that_is_put_back_is_noticed_and_rebuilt(
    eventually: Eventually, tmp_path: Path
) -> None:
    with Cluster(nodes=3) as cluster:
        client = cluster.client()
        data, backup = cluster.directory.node("n1"), tmp_path / "backup"
        client.put("k", "v1", via="n1", w=3)
        cluster.pause("n1")
        shutil.copytree(data, backup, copy_function=shutil.copy2)
        cluster.resume("n1")
        cluster.wait("ready")
        for number in range(20):
            client.put("k", f"v{number + 2}", via="n1", w=3)
            client.put(f"later{number}", "v", via="n1", w=3)
        cluster.kill("n1")
        shutil.rmtree(data)
        shutil.copytree(backup, data, copy_function=shutil.copy2)
        cluster.start("n1")
        assert rebuilds_of(cluster, "n1") == ["its disk is an old copy"]
        client.put("k", "blind", via="n1", blind=True)
        eventually(lambda: not client.status("n1")["rebuilding"])
        found = client.get("k", r=3)
        assert {one.value for one in found.siblings} == {b"v21", b"blind"}
        assert all(client.get(f"later{number}", r=3).found for number in range(20))
        cluster.kill("n1")
        cluster.start("n1")
        assert len(rebuilds_of(cluster, "n1")) == 1, "once it was noted, it is the node's own disk"


def test_a_kill_and_a_restart_are_not_taken_for_a_backup() -> None:
    with Cluster(nodes=3) as cluster:
        client = cluster.client()
        client.put("k", "v", via="n1", w=3)
        epoch = client.status("n1")["actor_epoch"]
        for _ in range(3):
            cluster.kill("n1")
            cluster.start("n1")
        assert rebuilds_of(cluster, "n1") == []
        assert client.status("n1")["actor_epoch"] == epoch


FRAME_BYTES = 24 + 4096


def flip_a_bit(log: Path) -> None:
    """Damage the write-ahead log in the middle of what was written since it began anew."""
    data = log.read_bytes()
    salts, frames = data[16:24], 0
    while data[32 + frames * FRAME_BYTES + 8 :][:8] == salts:
        frames += 1
    place = 32 + frames // 2 * FRAME_BYTES + 2000
    with log.open("r+b") as file:
        file.seek(place)
        file.write(bytes([data[place] ^ 1]))


def cut_off(log: Path) -> None:
    os.truncate(log, 32 + 3 * FRAME_BYTES)


@pytest.mark.parametrize("damage", [flip_a_bit, cut_off, Path.unlink])
def test_a_commit_log_that_lost_its_tail_hides_and_loses_nothing(
    damage: Callable[[Path], None],
) -> None:
    keys = [f"k{number}" for number in range(20)]
    with Cluster(nodes=3, mode="strict") as cluster:
        client = cluster.client()
        for key in keys:
            client.put(key, "before", via="n1", w=3)
        cluster.stop("n1")  # its log is moved into its database
        cluster.start("n1")
        cluster.kill("n3")
        for key in keys:
            client.put(key, "after", via="n1")
        cluster.kill("n1", "n2")
        damage(cluster.directory.node("n1") / "data.sqlite-wal")
        cluster.start("n1")
        cluster.start("n3")
        assert rebuilds_of(cluster, "n1") == ["the end of its commit log is missing"]
        for key in keys:
            with pytest.raises(kvctl.UnavailableError):
                client.get(key, timeout_s=5)
        cluster.start("n2")
        for key in keys:
            client.put(key, "blind", via="n1", blind=True)
        cluster.wait("converged")
        for key in keys:
            assert {one.value for one in client.get(key, r=3).siblings} == {b"after", b"blind"}


def looks_changed(path: Path, target: Path) -> bool:
    one, other = path.stat(), target.stat()
    return (one.st_size, one.st_mtime_ns) != (other.st_size, other.st_mtime_ns)


def put_back_what_looks_changed(backup: Path, data: Path) -> None:
    """As rsync does: files of equal size and time of change are left as they are."""
    for path in (path for path in backup.rglob("*") if path.is_file()):
        target = data / path.relative_to(backup)
        if not target.exists() or looks_changed(path, target):
            beside = target.with_name("beside")
            shutil.copy2(path, beside)
            beside.replace(target)


def test_a_backup_put_back_without_the_files_that_look_unchanged_loses_nothing() -> None:
    keys = [f"k{number}" for number in range(20)]
    with Cluster(nodes=3) as cluster:
        client = cluster.client()
        data = cluster.directory.node("n1")
        backup = data.with_name("backup-of-n1")
        for key in keys:
            client.put(key, "v1", via="n1", w=3)
        cluster.stop("n1")
        shutil.copytree(data, backup, copy_function=shutil.copy2)
        cluster.start("n1")
        for key in keys:
            client.put(key, "v2", via="n1", w=3)
        cluster.kill("n1")
        put_back_what_looks_changed(backup, data)
        shutil.rmtree(backup)
        cluster.start("n1")
        assert rebuilds_of(cluster, "n1") == ["its disk is an old copy"]
        for key in keys:
            client.put(key, "blind", via="n1", blind=True)
        cluster.wait("converged")
        for key in keys:
            assert {one.value for one in client.get(key, r=3).siblings} == {b"v2", b"blind"}


def test_two_directories_that_changed_places_are_refused_by_name() -> None:
    with Cluster(nodes=3, mode="strict") as cluster:
        client = cluster.client()
        client.put("k", "v", w=3)
        cluster.stop("n1", "n2")
        one, other = cluster.directory.node("n1"), cluster.directory.node("n2")

        def swap() -> None:
            aside = one.with_name("aside")
            one.rename(aside)
            other.rename(one)
            aside.rename(other)

        swap()
        with pytest.raises(kvctl.NodeStartError, match="n1 holds the data of n2") as refused:
            cluster.start("n1")
        assert "back in its own place" in refused.value.hint
        assert "holds the data of n2" in cluster.status().node("n1").reason
        cluster.stop("n1")
        swap()
        cluster.start("n1", "n2")
        assert client.get("k", r=3).value == b"v"
