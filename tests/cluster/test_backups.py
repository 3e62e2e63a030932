"""A backup of a node's directory that is put back, on real processes and a real file system."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

from kvctl.cluster.local_cluster import Cluster

Eventually = Callable[[Callable[[], object]], None]


def rebuilds_of(cluster: Cluster, node: str) -> list[str]:
    """Why the node had to rebuild itself, each time."""
    lines = (cluster.directory.node(node) / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
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
