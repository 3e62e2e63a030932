"""A home that was copied, with real processes: two clusters that do not know each other."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

import kvctl
from kvctl.client import Client, connect
from kvctl.cluster.directory import open_cluster
from kvctl.cluster.options import UpOptions
from kvctl.cluster.supervisor import Supervisor
from kvctl.errors import CopiedClusterError

KEYS = [f"k{number}" for number in range(20)]


class Home:
    """A home directory with one cluster of three."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.path = path
        self.supervisor = Supervisor(path)
        self._monkeypatch = monkeypatch

    @property
    def cluster(self) -> Path:
        return self.path / "clusters" / "shop"

    def up(self) -> tuple[str, ...]:
        return self.supervisor.up("shop", UpOptions(nodes=3)).announcements

    def connect(self) -> Client:
        self._monkeypatch.setenv("KVCTL_HOME", str(self.path))
        return connect("shop")

    def rebuilds(self) -> int:
        logs = self.cluster.glob("nodes/*/events.jsonl")
        return sum(log.read_text().count('"rebuild_started"') for log in logs)


@pytest.fixture
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Home, Home]]:
    """A home with a cluster that is down and holds the keys; and a copy of it."""
    first, copy = (Home(tmp_path / name, monkeypatch) for name in ("first", "copy"))
    try:
        first.up()
        with first.connect() as client:
            for key in KEYS:
                client.put(key, "first")
        first.supervisor.down("shop")
        shutil.copytree(first.path, copy.path, copy_function=shutil.copy2)
        yield first, copy
    finally:
        for home in (first, copy):
            if home.cluster.exists():
                home.supervisor.down("shop", purge=True)


def test_a_copied_home_is_a_cluster_of_its_own(homes: tuple[Home, Home]) -> None:
    first, copy = homes
    with pytest.raises(CopiedClusterError, match="copied from"):
        open_cluster("shop", copy.path)
    [announcement] = copy.up()
    assert "new keys and ports" in announcement
    with first.connect() as client, pytest.raises(kvctl.ClusterUnreachableError):
        client.put("k0", "nowhere")
    first.up()
    with first.connect() as one, copy.connect() as other:
        token = one.get("k0").context
        one.put("k0", "one")
        assert other.get("k0").value == b"first"
        with pytest.raises(kvctl.InvalidRequestError):
            other.put("k0", "other", context=token)
    assert copy.rebuilds() == 0


def test_what_a_copied_home_holds_is_read_with_a_node_dead(homes: tuple[Home, Home]) -> None:
    _, copy = homes
    copy.up()
    copy.supervisor.kill("shop", ["n3"])
    with copy.connect() as client:
        assert [client.get(key).value for key in KEYS] == [b"first"] * len(KEYS)


def test_stopping_the_copy_leaves_the_first_alone(homes: tuple[Home, Home]) -> None:
    first, copy = homes
    first.up()
    shutil.rmtree(copy.path)
    shutil.copytree(first.path, copy.path, copy_function=shutil.copy2)
    copy.supervisor.down("shop")
    assert {node.state for node in first.supervisor.status("shop").nodes} == {"up"}
    copy.up()
    assert {node.state for node in first.supervisor.status("shop").nodes} == {"up"}


def test_a_home_put_back_file_by_file_is_rebuilt_before_it_is_up(homes: tuple[Home, Home]) -> None:
    """All its disks are old, and the directory is the one it always was."""
    first, backup = homes
    first.up()
    with first.connect() as client:
        client.put("later", "lost with all disks")
    first.supervisor.down("shop")
    for path in backup.cluster.glob("nodes/*/*"):
        if path.is_file():
            shutil.copy2(path, first.cluster / path.relative_to(backup.cluster))
    first.up()
    assert first.rebuilds() == 3
    with first.connect() as client:
        assert [client.get(key).value for key in KEYS] == [b"first"] * len(KEYS)


def test_a_moved_home_is_the_same_cluster(homes: tuple[Home, Home], tmp_path: Path) -> None:
    first, copy = homes
    shutil.rmtree(copy.path)
    first.path.rename(copy.path)
    assert copy.up() == ()
    with copy.connect() as client:
        assert client.get("k0").value == b"first"
