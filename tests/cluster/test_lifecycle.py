"""Clusters of real processes: started, broken, observed and removed, each step done on return."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec
import psutil
import pytest

import kvctl
from kvctl.cluster import creation, lifecycle
from kvctl.cluster.directory import cluster_directory
from kvctl.cluster.held_cluster import HeldCluster
from kvctl.cluster.local_cluster import Cluster
from kvctl.cluster.options import UpOptions, number_ports
from kvctl.cluster.ports import choose_ports, ports_of
from kvctl.cluster.processes import ProcessIdentity, end_processes, find_deferred, find_nodes
from kvctl.cluster.run_state import Registry
from kvctl.cluster.supervisor import Supervisor
from kvctl.errors import (
    ClusterNotFoundError,
    ContradictionError,
    NodeStartError,
    PortTakenError,
    WaitTimeoutError,
)
from kvctl_node.config import NodeSpec
from kvctl_node.errors import ConfigError

Located = dict[str, ProcessIdentity]
Eventually = Callable[[Callable[[], object]], None]


def states(cluster: Cluster) -> dict[str, str]:
    return {node.id: node.state for node in cluster.status().nodes}


def process_count(directory: Path) -> int:
    """Processes of a cluster, helpers included."""
    nodes = [node for node in find_nodes() if node.directory == directory]
    return len(nodes) + len(find_deferred(directory))


# ------------------------------------------------------------------ one shared cluster


def test_a_cluster_that_is_up_serves_and_everyone_sees_everyone(three_nodes: Cluster) -> None:
    status = three_nodes.status()
    assert status.healthy
    assert [node.id for node in status.nodes] == ["n1", "n2", "n3"]
    assert sum(node.share for node in status.nodes) == pytest.approx(1.0)
    for node in status.nodes:
        assert node.snapshot is not None
        assert node.pid == node.snapshot["pid"]
        assert all(peer["reachable"] for peer in node.snapshot["peers"].values())
        assert (node.keys, node.hints, node.conflicts) == (0, 0, 0)


def test_up_again_changes_nothing_and_a_contradiction_is_refused(three_nodes: Cluster) -> None:
    before = three_nodes.supervisor.running_pids("local")
    report = three_nodes.supervisor.up("local", UpOptions(nodes=3, r=2))
    assert (report.created, report.started) == (False, ())
    with pytest.raises(ContradictionError, match="-n 4"):
        three_nodes.supervisor.up("local", UpOptions(nodes=4))
    assert three_nodes.supervisor.running_pids("local") == before


def test_a_changed_file_counts_from_the_next_start_and_is_refused_before(
    three_nodes: Cluster,
) -> None:
    config = three_nodes.config
    repair = msgspec.structs.replace(config.repair, compare_interval_ms=12_345)
    changed = UpOptions(config=msgspec.structs.replace(config, repair=repair))
    with pytest.raises(ContradictionError, match=r"repair\.compare_interval_ms 12345"):
        three_nodes.supervisor.up("local", changed)
    assert three_nodes.config == config
    three_nodes.stop()
    report = three_nodes.supervisor.up("local", changed)
    assert "repair.compare_interval_ms is 12345" in report.announcements[0]
    assert three_nodes.config.repair == repair
    assert three_nodes.supervisor.up("local", changed).announcements == ()


def test_a_killed_node_is_dead_and_serves_again_after_a_start(three_nodes: Cluster) -> None:
    old = three_nodes.status().node("n2")
    three_nodes.kill("n2")
    assert old.pid is not None
    assert not psutil.pid_exists(old.pid)
    dead = three_nodes.status().node("n2")
    assert (dead.state, dead.pid, dead.keys) == ("dead", None, None)
    assert dead.reason
    three_nodes.start("n2")
    new = three_nodes.status().node("n2")
    assert new.state == "up"
    assert new.snapshot is not None
    assert old.snapshot is not None
    assert new.snapshot["generation"] == old.snapshot["generation"] + 1
    assert new.snapshot["storage_uuid"] == old.snapshot["storage_uuid"]
    assert new.endpoint == old.endpoint
    for peer in ("n1", "n3"):
        snapshot = three_nodes.status().node(peer).snapshot
        assert snapshot is not None
        assert snapshot["peers"]["n2"]["reachable"]


def test_a_stopped_node_is_stopped_not_dead(three_nodes: Cluster) -> None:
    three_nodes.stop("n3")
    assert states(three_nodes) == {"n1": "up", "n2": "up", "n3": "stopped"}
    report = three_nodes.supervisor.up("local")
    assert report.started == ("n3",)
    assert states(three_nodes)["n3"] == "up"


def test_a_paused_node_stands_still_until_it_is_resumed(three_nodes: Cluster) -> None:
    three_nodes.pause("n1")
    began_s = time.monotonic()
    assert states(three_nodes) == {"n1": "paused", "n2": "up", "n3": "up"}
    assert time.monotonic() - began_s < 0.9, "a paused node is known as such, not waited for"
    with pytest.raises(ContradictionError, match="paused, not stopped"):
        three_nodes.start("n1")
    three_nodes.resume("n1")
    assert states(three_nodes)["n1"] == "up"


def test_a_pause_for_a_time_is_lifted_by_itself(
    three_nodes: Cluster, eventually: Eventually
) -> None:
    three_nodes.pause("n1", for_s=0.3)
    assert states(three_nodes)["n1"] == "paused"
    eventually(lambda: states(three_nodes)["n1"] == "up")
    eventually(lambda: find_deferred(three_nodes.directory.path) == [])


def test_what_was_deferred_is_off_when_another_command_came_first(
    three_nodes: Cluster, eventually: Eventually
) -> None:
    supervisor = three_nodes.supervisor
    supervisor.kill("local", ["n2"], for_s=0.3)
    supervisor.stop("local", ["n2"])
    eventually(lambda: find_deferred(three_nodes.directory.path) == [])
    assert states(three_nodes)["n2"] == "stopped"
    three_nodes.start("n2")


def test_only_the_action_that_was_deferred_last_is_done(three_nodes: Cluster) -> None:
    supervisor = three_nodes.supervisor
    supervisor.kill("local", ["n2"], for_s=600)
    meant = Registry(three_nodes.home).read("local").node("n2").deferred
    assert meant is not None
    supervisor.run_deferred("local", "an earlier one")
    assert states(three_nodes)["n2"] == "dead"
    supervisor.run_deferred("local", meant.id)
    assert supervisor.start("local", ["n2"]) == (), "it was started already"
    end_processes(find_deferred(three_nodes.directory.path), grace_s=5)


def test_a_node_that_hangs_is_unresponsive_and_delays_nobody(
    three_nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    pid = three_nodes.supervisor.running_pids("local")["n3"]
    os.kill(pid, signal.SIGSTOP)
    try:
        # To an observer who cannot tell a stopped process, it runs and does not answer.
        monkeypatch.setattr(psutil.Process, "status", lambda process: psutil.STATUS_RUNNING)
        began_s = time.monotonic()
        status = three_nodes.supervisor.status("local", timeout_s=0.3)
        assert [node.state for node in status.nodes] == ["up", "up", "unresponsive"]
        assert time.monotonic() - began_s < 2
    finally:
        os.kill(pid, signal.SIGCONT)


def test_a_node_that_dies_just_when_it_is_started_is_started(
    three_nodes: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SIGKILL takes a moment, in which the process is still there."""
    locate = HeldCluster.processes
    killed: list[int] = []

    def processes(held: HeldCluster, names: Iterable[str] | None = None) -> Located:
        found = locate(held, names)
        if not killed:
            killed.append(found["n2"].pid)
            os.kill(found["n2"].pid, signal.SIGKILL)
        return found

    monkeypatch.setattr(HeldCluster, "processes", processes)
    assert three_nodes.supervisor.start("local", ["n1", "n2"]) == ("n2",)
    assert states(three_nodes)["n2"] == "up"
    assert three_nodes.supervisor.running_pids("local")["n2"] not in killed


def test_a_wiped_node_is_a_new_disk_with_higher_numbers(three_nodes: Cluster) -> None:
    old = three_nodes.status().node("n3").snapshot
    three_nodes.wipe("n3")
    new = three_nodes.status().node("n3").snapshot
    assert old is not None
    assert new is not None
    assert new["storage_uuid"] != old["storage_uuid"]
    assert new["generation"] > old["generation"]
    assert new["actor_epoch"] > old["actor_epoch"]
    assert (three_nodes.directory.node("n3") / "events.jsonl").exists()
    three_nodes.wait("converged")  # until it is rebuilt it counts in no read of other tests


def test_a_node_wiped_after_a_crash_and_a_lost_registry_still_gets_higher_numbers(
    three_nodes: Cluster,
) -> None:
    old = three_nodes.status().node("n2").snapshot
    three_nodes.kill("n2")
    Registry(three_nodes.home).forget("local")
    three_nodes.wipe("n2")
    assert old is not None
    remembered = Registry(three_nodes.home).read("local").node("n2")
    assert remembered.generation >= old["generation"], "read from the disk before it was deleted"
    assert remembered.actor_epoch >= old["actor_epoch"]
    three_nodes.start("n2")
    new = three_nodes.status().node("n2").snapshot
    assert new is not None
    assert new["actor_epoch"] > old["actor_epoch"]
    assert new["generation"] > old["generation"]
    three_nodes.wait("converged")


def test_nodes_are_found_again_when_the_registry_is_lost(three_nodes: Cluster) -> None:
    before = three_nodes.supervisor.running_pids("local")
    Registry(three_nodes.home).forget("local")
    assert three_nodes.supervisor.running_pids("local") == before
    assert states(three_nodes) == dict.fromkeys(("n1", "n2", "n3"), "up")
    assert three_nodes.supervisor.up("local").started == ()
    assert Registry(three_nodes.home).read("local").node("n1").pid == before["n1"]


def test_a_quorum_is_changed_live_and_kept_for_later_starts(three_nodes: Cluster) -> None:
    change = three_nodes.set_quorum(r=1, w=3, mode="strict")
    assert (change.confirmed, change.unconfirmed) == (("n1", "n2", "n3"), ())
    three_nodes.restart("n1")
    for node in three_nodes.status().nodes:
        assert node.snapshot is not None
        assert node.snapshot["quorum"] == {"n": 3, "r": 1, "w": 3, "mode": "strict"}
    with pytest.raises(ConfigError):
        three_nodes.set_quorum(r=4)
    with pytest.raises(ContradictionError):
        three_nodes.supervisor.set_quorum("local", n=2)
    three_nodes.set_quorum(r=2, w=2, mode="sloppy")


def test_an_unknown_node_is_refused_before_anything_happens(three_nodes: Cluster) -> None:
    with pytest.raises(ConfigError, match="n9"):
        three_nodes.kill("n1", "n9")
    assert states(three_nodes)["n1"] == "up"


def test_a_cluster_is_not_ready_while_one_of_its_nodes_cannot_answer(three_nodes: Cluster) -> None:
    pid = three_nodes.supervisor.running_pids("local")["n1"]
    three_nodes.kill("n2")
    os.kill(pid, signal.SIGSTOP)
    try:
        # n1 stands still; a start of n2 waits for nobody who does not run ...
        three_nodes.start("n2")
    finally:
        os.kill(pid, signal.SIGCONT)
    # ... and no node is ready before it could be.
    three_nodes.kill("n3")
    with pytest.raises(WaitTimeoutError, match="n3 does not answer"):
        three_nodes.supervisor.start("local", ["n3"], timeout_s=0.0)
    three_nodes.supervisor.up("local")
    assert three_nodes.status().healthy


def test_the_client_handle_reads_what_it_wrote(three_nodes: Cluster) -> None:
    client = three_nodes.client()
    client.put(b"greeting", b"hello")
    assert client.get(b"greeting").value == b"hello"


# ------------------------------------------------------------------ clusters of their own


@pytest.fixture
def supervisor(tmp_path: Path) -> Supervisor:
    return Supervisor(tmp_path / "home")


def test_down_leaves_no_process_and_purge_no_file(supervisor: Supervisor) -> None:
    directory = cluster_directory("shop", supervisor.home)
    try:
        supervisor.up("shop", UpOptions(nodes=2))
        supervisor.pause("shop", ["n1"], for_s=60)
        assert process_count(directory.path) == 3
        # Nothing that kvctl wrote down is needed to find them.
        Registry(supervisor.home).forget("shop")
        config = directory.config_path.read_bytes()
        directory.config_path.write_bytes(b"{")
        report = supervisor.down("shop")
        assert (sorted(report.stopped), report.killed) == (["n1", "n2"], ())
        directory.config_path.write_bytes(config)
        assert process_count(directory.path) == 0
        assert supervisor.down("shop").stopped == ()
        assert [one.state for one in supervisor.status("shop").nodes] == ["stopped", "stopped"]
    finally:
        supervisor.down("shop", purge=True)
    assert not directory.path.exists()
    assert supervisor.list_clusters() == []
    with pytest.raises(ClusterNotFoundError):
        supervisor.status("shop")


def test_a_cluster_stops_and_removes_itself_when_its_time_is_over(
    supervisor: Supervisor, eventually: Eventually
) -> None:
    report = supervisor.up("brief", UpOptions(nodes=1, ephemeral=True, ttl_s=0.2))
    assert "N=1, R=1, W=1" in report.announcements[0]
    directory = cluster_directory("brief", supervisor.home)
    eventually(lambda: not directory.path.exists())
    eventually(lambda: process_count(directory.path) == 0)


def test_a_taken_port_is_named_and_the_node_starts_when_it_is_free(
    supervisor: Supervisor,
) -> None:
    try:
        config = supervisor.up("shop", UpOptions(nodes=1)).config
        supervisor.stop("shop", ["n1"])
        with socket.socket() as thief:
            thief.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            thief.bind(("127.0.0.1", config.nodes[0].peer_port))
            thief.listen()
            with pytest.raises(PortTakenError) as caught:
                supervisor.start("shop", ["n1"])
            assert f"port {config.nodes[0].peer_port}" in caught.value.message
            assert f"process {os.getpid()}" in caught.value.message
        assert supervisor.start("shop", ["n1"]) == ("n1",)
    finally:
        supervisor.down("shop", purge=True)


def test_a_new_cluster_whose_port_was_snatched_away_gets_other_ports(
    supervisor: Supervisor, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as thief:
        thief.bind(("127.0.0.1", 0))
        thief.listen()
        snatched = thief.getsockname()[1]
        specs = number_ports((NodeSpec(name="n1"),), snatched - 1)
        choices = iter([specs])
        monkeypatch.setattr(
            creation,
            "choose_ports",
            lambda nodes, **options: next(choices, None) or choose_ports(nodes, **options),
        )
        # The check before a start comes too early to see it: only the node's own bind does.
        monkeypatch.setattr(lifecycle, "check_ports", lambda nodes: None)
        try:
            config = supervisor.up("shop", UpOptions(nodes=1)).config
            assert snatched not in ports_of(config.nodes)
            assert supervisor.status("shop").healthy
        finally:
            supervisor.down("shop", purge=True)


def test_a_node_that_cannot_start_says_why_in_its_own_words(supervisor: Supervisor) -> None:
    directory = cluster_directory("shop", supervisor.home)
    try:
        supervisor.up("shop", UpOptions(nodes=1))
        supervisor.down("shop")
        (directory.keys / "n1.key").write_text("{}")
        with pytest.raises(NodeStartError, match=r"n1 ended while starting: .*n1\.key"):
            supervisor.start("shop", ["n1"])
        dead = supervisor.status("shop").node("n1")
        assert dead.state == "dead"
        assert "n1.key" in dead.reason
    finally:
        supervisor.down("shop", purge=True)


def test_a_failed_creation_leaves_no_directory(supervisor: Supervisor) -> None:
    with pytest.raises(ConfigError):
        supervisor.up("shop", UpOptions(nodes=2, replicas=3))
    assert not cluster_directory("shop", supervisor.home).path.exists()


def test_a_cluster_is_removed_after_an_exception_too() -> None:
    with pytest.raises(KeyError), Cluster(nodes=1) as cluster:
        home, directory = cluster.home, cluster.directory.path
        raise KeyError
    assert not home.exists()
    assert process_count(directory) == 0


def test_a_cluster_is_removed_even_if_its_owner_is_killed(eventually: Eventually) -> None:
    code = (
        "import os, signal, kvctl\n"
        "with kvctl.Cluster(nodes=1) as cluster:\n"
        "    print(cluster.home, flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    owner = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, timeout=60
    )
    home = Path(owner.stdout.strip())
    assert owner.returncode == -signal.SIGKILL
    assert home.name.startswith("kvctl-")
    try:
        eventually(lambda: not home.exists())
        assert process_count(home / "clusters" / "local") == 0
    finally:
        if home.exists():
            Supervisor(home).down("local", purge=True)


FOREGROUND = """
import sys, pathlib
from kvctl.cluster.options import UpOptions
from kvctl.cluster.supervisor import Supervisor
from kvctl.errors import exit_code_of
try:
    Supervisor(pathlib.Path(sys.argv[1])).run_in_foreground(
        "shop", UpOptions(nodes=1), ready=lambda report: print("ready", flush=True)
    )
except KeyboardInterrupt as error:
    sys.exit(exit_code_of(error))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_cluster_in_the_foreground_ends_with_its_command(
    tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, str(tmp_path)], stdout=subprocess.PIPE, text=True
    ) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "ready\n"
        assert process_count(tmp_path / "clusters" / "shop") == 1
        command.send_signal(number)
        assert command.wait(30) == 130
    assert process_count(tmp_path / "clusters" / "shop") == 0


def test_the_pytest_fixture_gives_a_running_cluster_of_three(kvctl_cluster: kvctl.Cluster) -> None:
    assert kvctl_cluster.nodes == ("n1", "n2", "n3")
    assert kvctl_cluster.status().healthy
