"""Directories removed or moved under running nodes: nothing is stored where nobody looks."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import kvctl
from kvctl.client import Client, connect
from kvctl.cluster.options import UpOptions
from kvctl.cluster.processes import FoundNode, end_processes, find_nodes
from kvctl.cluster.supervisor import Supervisor
from kvctl.errors import ClusterNotFoundError

Eventually = Callable[[Callable[[], object]], None]


class Home:
    """A home with one cluster of three, which others may come to lie in."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.supervisor = Supervisor(path)
        self.cluster = path / "clusters" / "shop"

    def up(self) -> tuple[str, ...]:
        return self.supervisor.up("shop", UpOptions(nodes=3)).announcements

    def processes(self) -> list[FoundNode]:
        return [node for node in find_nodes() if node.directory == self.cluster]

    def states(self) -> list[str]:
        return [node.state for node in self.supervisor.status("shop").nodes]

    def connect(self) -> Client:
        return connect("shop", home=self.path)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    try:
        home.up()
        yield home
    finally:
        end_processes([node.identity for node in home.processes()], grace_s=5)


@pytest.mark.parametrize("paused", [False, True])
def test_up_in_the_place_of_a_removed_home_is_not_disturbed_by_its_nodes(
    home: Home, paused: bool
) -> None:
    before = home.processes()
    if paused:
        for node in before:
            os.kill(node.identity.pid, signal.SIGSTOP)
    shutil.rmtree(home.path)
    home.up()
    with home.connect() as client:
        client.put("k", "v")
        assert client.get("k").value == b"v"
    assert len(home.processes()) == 3
    assert {node.identity for node in home.processes()}.isdisjoint(node.identity for node in before)


def test_nodes_whose_home_was_removed_end_by_themselves(home: Home, eventually: Eventually) -> None:
    shutil.rmtree(home.path)
    eventually(lambda: home.processes() == [])
    assert not home.path.exists()


def test_down_ends_what_stands_still_for_a_cluster_that_was_removed(home: Home) -> None:
    for node in home.processes():
        os.kill(node.identity.pid, signal.SIGSTOP)
    shutil.rmtree(home.path)
    assert sorted(home.supervisor.down("shop").stopped) == ["n1", "n2", "n3"]
    assert home.processes() == []
    with pytest.raises(ClusterNotFoundError):
        home.supervisor.down("shop")


def test_a_write_into_a_removed_directory_is_not_acknowledged(
    home: Home, eventually: Eventually
) -> None:
    with home.connect() as client:
        client.put("before", "v", via="n1")
        shutil.rmtree(home.cluster / "nodes" / "n1")
        with pytest.raises((kvctl.IndeterminateError, kvctl.ClusterUnreachableError)):
            client.put("after", "v", via="n1", w=1, blind=True, timeout_s=1.0)
        eventually(lambda: home.states() == ["dead", "up", "up"])
        reason = home.supervisor.status("shop").node("n1").reason
        assert "its directory was removed" in reason
        home.supervisor.start("shop", ["n1"])
        assert home.states() == ["up"] * 3
        assert client.get("before", via="n1").value == b"v"


def test_a_node_is_started_anew_at_once_though_it_has_not_noticed_yet(home: Home) -> None:
    before = home.supervisor.running_pids("shop")
    shutil.rmtree(home.cluster / "nodes" / "n1")
    assert home.supervisor.start("shop", ["n1"]) == ("n1",)
    after = home.supervisor.running_pids("shop")
    assert after["n1"] != before["n1"]
    assert (home.cluster / "nodes" / "n1" / "data.sqlite").exists()


def test_a_cluster_that_was_moved_while_it_ran_goes_on_in_its_new_place(
    home: Home, tmp_path: Path
) -> None:
    with home.connect() as client:
        client.put("k", "v")
    moved = Home(tmp_path / "moved")
    home.path.rename(moved.path)
    try:
        moved.up()
        assert moved.states() == ["up"] * 3
        assert len(moved.processes()) == 3
        assert home.processes() == []
        with moved.connect() as client:
            assert client.get("k").value == b"v"
    finally:
        moved.supervisor.down("shop", purge=True)


def test_a_new_cluster_in_the_place_of_one_that_was_moved_away_is_left_alone_by_it(
    home: Home, tmp_path: Path
) -> None:
    moved = Home(tmp_path / "moved")
    home.path.rename(moved.path)
    try:
        home.up()
        with home.connect() as client:
            client.put("k", "new")
            moved.up()
            moved.supervisor.down("shop")
            assert home.states() == ["up"] * 3
            for node in ("n1", "n2", "n3"):
                assert (home.cluster / "nodes" / node / "data.sqlite-wal").exists()
            assert client.get("k").value == b"new"
    finally:
        moved.supervisor.down("shop", purge=True)
