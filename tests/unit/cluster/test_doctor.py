"""The doctor finds what crashes and people leave behind, and never deletes data."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvctl.cluster import strays
from kvctl.cluster.directory import ClusterDirectory, cluster_directory
from kvctl.cluster.facts import Finding
from kvctl.cluster.locking import hold_lock
from kvctl.cluster.processes import ProcessState, find_nodes, start_time_s, state_of
from kvctl.cluster.run_state import ClusterRun, DeferredAction, NodeRun, Registry
from kvctl.cluster.strays import clear_place
from kvctl.cluster.supervisor import Supervisor
from kvctl.errors import AlreadyRunningError, HomeError
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig
from kvctl_node.runtime.security import create_keys

CONFIG = ClusterConfig(
    nodes=(NodeSpec(name="n1", client_port=21000, peer_port=21001, event_port=21002),),
    quorum=QuorumConfig(n=1, r=1, w=1),
    cluster_id="1" * 32,
    name="shop",
)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def shop(home: Path) -> ClusterDirectory:
    """A healthy cluster that is down."""
    directory = cluster_directory("shop", home)
    directory.node("n1").mkdir(parents=True)
    create_keys(directory.keys, ["n1"])
    directory.path.chmod(0o700)
    directory.write_format()
    directory.save(CONFIG)
    Registry(home).write("shop", ClusterRun(cluster_id=CONFIG.cluster_id))
    return directory


def examine(home: Path, *, fix: bool = False) -> list[Finding]:
    """The findings about this home; other tests' leftovers elsewhere are not our business."""
    findings = Supervisor(home, lock_wait_s=0.05).doctor(fix=fix)
    return [one for one in findings if "another home" not in one.fix]


def the_only(findings: list[Finding]) -> Finding:
    assert len(findings) == 1, findings
    return findings[0]


def assert_mended(home: Path, kind: str) -> None:
    """The finding is reported, left alone without `fix`, mended with it, and then gone."""
    assert the_only(examine(home)).kind == kind
    assert the_only(examine(home)).fixable
    assert the_only(examine(home, fix=True)).fixed
    assert examine(home) == []


def test_a_healthy_home_and_a_missing_one_have_no_findings(
    home: Path, shop: ClusterDirectory
) -> None:
    assert examine(home) == []
    assert examine(home / "nowhere") == []
    assert not (home / "nowhere").exists()


def test_a_process_remembered_and_gone_is_forgotten(home: Path, shop: ClusterDirectory) -> None:
    run = NodeRun(wanted="running", pid=2**22 + 5, started_s=1.0, nonce="feed", generation=4)
    Registry(home).write("shop", ClusterRun(cluster_id=CONFIG.cluster_id, nodes={"n1": run}))
    assert_mended(home, "stale_process")
    known = Registry(home).read("shop").node("n1")
    assert (known.pid, known.wanted, known.generation) == (0, "running", 4)


def test_a_lost_registry_is_rebuilt_from_the_nodes_disks(
    home: Path, shop: ClusterDirectory
) -> None:
    Registry(home).forget("shop")
    with sqlite3.connect(shop.node("n1") / "data.sqlite") as connection:
        connection.execute("CREATE TABLE metadata (name TEXT, value BLOB, checksum INTEGER)")
        connection.execute("INSERT INTO metadata VALUES ('generation', '7', 0)")
        connection.execute("INSERT INTO metadata VALUES ('actor_epoch', '3', 0)")
    connection.close()
    assert_mended(home, "missing_registry")
    known = Registry(home).read("shop").node("n1")
    assert (known.generation, known.actor_epoch, known.wanted) == (7, 3, "stopped")


def test_an_unreadable_registry_is_set_aside_and_rebuilt(
    home: Path, shop: ClusterDirectory
) -> None:
    Registry(home).path.write_bytes(b"no database, " * 100)
    findings = examine(home, fix=True)
    assert [one.kind for one in findings] == ["unreadable_registry", "missing_registry"]
    assert examine(home) == []
    assert (home / "registry.unreadable").exists()


def test_a_cluster_in_the_registry_without_a_directory_is_forgotten(home: Path) -> None:
    Registry(home).write("ghost", ClusterRun(cluster_id="2" * 32))
    assert_mended(home, "stale_registry")


def test_a_directory_that_never_became_a_cluster_is_deleted(home: Path) -> None:
    directory = cluster_directory("half", home)
    (directory.path / "nodes" / "n1").mkdir(parents=True)
    directory.path.chmod(0o700)
    assert_mended(home, "half_created")
    assert not directory.path.exists()


def test_a_directory_with_data_and_no_configuration_is_never_deleted(
    home: Path, shop: ClusterDirectory
) -> None:
    (shop.node("n1") / "data.sqlite").write_bytes(b"precious")
    shop.config_path.unlink()
    finding = the_only(examine(home, fix=True))
    assert (finding.kind, finding.fixable, finding.fixed) == ("missing_config", False, False)
    assert (shop.node("n1") / "data.sqlite").read_bytes() == b"precious"


def test_an_unreadable_configuration_is_left_to_a_person(
    home: Path, shop: ClusterDirectory
) -> None:
    shop.config_path.write_text("{")
    finding = the_only(examine(home, fix=True))
    assert (finding.kind, finding.fixed) == ("unreadable_config", False)
    assert shop.config_path.read_text() == "{"


def test_a_newer_format_is_left_alone(home: Path, shop: ClusterDirectory) -> None:
    shop.format_path.write_text("99\n")
    finding = the_only(examine(home, fix=True))
    assert (finding.kind, finding.fixed) == ("newer_format", False)
    assert shop.format_path.read_text() == "99\n"


def test_a_damaged_format_file_is_written_again(home: Path, shop: ClusterDirectory) -> None:
    shop.format_path.write_text("one")
    assert_mended(home, "damaged_format")


@pytest.mark.parametrize("which", ["directory", "keys", "key", "config"])
def test_what_others_could_read_is_closed(home: Path, shop: ClusterDirectory, which: str) -> None:
    key = shop.keys / "client.key"
    key.write_text("{}")
    key.chmod(0o600)
    path = {
        "directory": shop.path,
        "keys": shop.keys,
        "key": key,
        "config": shop.config_path,
    }[which]
    path.chmod(path.stat().st_mode | 0o044)
    assert_mended(home, "loose_permissions")
    assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


@pytest.mark.parametrize("mode", [0o1777, 0o777, 0o775, 0o755])
def test_the_mode_of_the_home_is_left_to_whoever_made_it(
    home: Path, shop: ClusterDirectory, mode: int
) -> None:
    home.chmod(mode)
    findings = examine(home, fix=True)
    assert stat.S_IMODE(home.stat().st_mode) == mode
    assert stat.S_IMODE(shop.path.parent.stat().st_mode) == 0o700
    left = {0o777: ["shared_home"], 0o775: ["shared_home"]}.get(mode, [])
    assert [one.kind for one in findings] == ["loose_permissions", *left]
    assert [one.kind for one in examine(home)] == left


def test_what_kvctl_did_not_make_is_neither_changed_nor_deleted(home: Path) -> None:
    directory = cluster_directory("mine", home)
    directory.path.mkdir(parents=True)
    (directory.path / "thesis.txt").write_text("three years of work")
    directory.path.chmod(0o755)
    finding = the_only(examine(home, fix=True))
    assert (finding.kind, finding.fixable) == ("foreign_directory", False)
    supervisor = Supervisor(home)
    with pytest.raises(HomeError, match=r"thesis\.txt"):
        supervisor.up("mine")
    with pytest.raises(HomeError, match=r"thesis\.txt"):
        supervisor.down("mine", purge=True)
    assert [path.name for path in directory.path.iterdir()] == ["thesis.txt"]
    assert stat.S_IMODE(directory.path.stat().st_mode) == 0o755


def test_leftovers_of_interrupted_commands_are_deleted(home: Path, shop: ClusterDirectory) -> None:
    (shop.path / "nodes" / ".n1.wiped-12ab").mkdir()
    (shop.path / ".cluster.json.123").write_text("{")
    assert [one.kind for one in examine(home, fix=True)] == ["leftover", "leftover"]
    assert examine(home) == []
    assert shop.load() == CONFIG


def test_a_command_that_died_while_it_held_the_lock_is_reported_once(
    home: Path, shop: ClusterDirectory
) -> None:
    shop.lock_path.write_text(json.dumps({"pid": 7, "command": "kvctl wipe n1", "since_ms": 1}))
    finding = the_only(examine(home))
    assert finding.kind == "interrupted_command"
    assert "kvctl wipe n1" in finding.message
    assert examine(home) == []


def test_a_cluster_that_is_being_changed_is_not_taken_for_a_broken_one(
    home: Path, shop: ClusterDirectory
) -> None:
    shop.config_path.unlink()
    with hold_lock(shop.lock_path, wait_s=0, command="kvctl up"):
        finding = the_only(examine(home, fix=True))
    assert (finding.kind, finding.fixable) == ("busy", False)
    assert "kvctl up" in finding.message


def test_a_port_taken_from_a_stopped_node_is_named(home: Path, shop: ClusterDirectory) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]
        spec = NodeSpec(name="n1", client_port=port, peer_port=21001, event_port=21002)
        shop.save(
            ClusterConfig(
                nodes=(spec,), quorum=CONFIG.quorum, cluster_id=CONFIG.cluster_id, name="shop"
            )
        )
        finding = the_only(examine(home))
    assert (finding.kind, finding.fixable) == ("port_taken", False)
    assert str(port) in finding.message


@contextmanager
def spawn_like_a_node(
    directory: ClusterDirectory,
    name: str,
    beside: Path,
    *,
    cluster_id: str = "",
    working_directory: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A process with a node's command line; killed at the end, for it may have been paused."""
    (beside / "kvctl_node.py").write_text("import sys; print(flush=True); sys.stdin.read()")
    options = ["--directory", str(directory.path), "--name", name, "--nonce", "feed"]
    process = subprocess.Popen(
        [sys.executable, "-S", "-m", "kvctl_node", *options, "--cluster-id", cluster_id],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=working_directory or beside,
        env={**os.environ, "PYTHONPATH": str(beside)},
    )
    assert process.stdout is not None
    process.stdout.readline()
    with process:
        try:
            yield process
        finally:
            process.kill()


def test_a_process_of_a_deleted_cluster_is_ended(home: Path, tmp_path: Path) -> None:
    with spawn_like_a_node(cluster_directory("gone", home), "n1", tmp_path) as process:
        assert_mended(home, "orphan_process")
        assert process.wait(5) == -signal.SIGTERM


def test_a_process_is_ended_though_the_whole_home_was_removed(home: Path, tmp_path: Path) -> None:
    with spawn_like_a_node(cluster_directory("gone", home), "n1", tmp_path) as process:
        home.rmdir()
        assert_mended(home, "orphan_process")
        assert process.wait(5) == -signal.SIGTERM
    assert not home.exists()


def test_a_process_of_the_cluster_that_had_this_directory_before_is_ended(
    home: Path, shop: ClusterDirectory, tmp_path: Path
) -> None:
    with spawn_like_a_node(shop, "n1", tmp_path, cluster_id="2" * 32) as process:
        assert Supervisor(home).running_pids("shop") == {}
        assert_mended(home, "orphan_process")
        assert process.wait(5) == -signal.SIGTERM


def test_a_process_of_the_cluster_that_was_moved_from_here_is_left_alone(
    home: Path, shop: ClusterDirectory, tmp_path: Path
) -> None:
    elsewhere = tmp_path / "elsewhere" / "clusters" / "shop"
    with spawn_like_a_node(
        shop, "n1", tmp_path, cluster_id=CONFIG.cluster_id, working_directory=shop.path
    ) as process:
        elsewhere.parent.mkdir(parents=True)
        shop.path.rename(elsewhere)
        kinds = [one.kind for one in examine(home, fix=True)]
        assert "orphan_process" not in kinds
        assert process.poll() is None


def test_a_process_whose_cluster_cannot_be_told_is_left_alone(
    home: Path, shop: ClusterDirectory, tmp_path: Path
) -> None:
    shop.config_path.write_text("{")
    with spawn_like_a_node(shop, "n1", tmp_path, cluster_id="2" * 32) as process:
        assert [one.kind for one in examine(home, fix=True)] == ["unreadable_config"]
        assert process.poll() is None


def test_up_ends_what_is_left_of_the_cluster_that_had_the_directory_before(
    home: Path, tmp_path: Path
) -> None:
    directory = cluster_directory("shop", home)
    with (
        spawn_like_a_node(directory, "n1", tmp_path, cluster_id="2" * 32) as stray,
        spawn_like_a_node(
            cluster_directory("lab", home), "n1", tmp_path, cluster_id="2" * 32
        ) as another,
    ):
        directory.path.mkdir(parents=True)
        sentence = clear_place(directory, grace_s=5)
        assert f"n1 (process {stray.pid})" in sentence
        assert stray.wait(5) == -signal.SIGTERM
        assert another.poll() is None
        assert clear_place(directory, grace_s=5) == ""


def test_no_cluster_is_made_beside_nodes_that_stand_still_and_were_moved_from_there(
    home: Path, shop: ClusterDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(strays, "_NOTICE_S", 0.0)
    elsewhere = tmp_path / "else where" / "clusters" / "shop"
    elsewhere.parent.mkdir(parents=True)
    with spawn_like_a_node(
        shop, "n1", tmp_path, cluster_id=CONFIG.cluster_id, working_directory=shop.path
    ) as process:
        shop.path.rename(elsewhere)
        with pytest.raises(AlreadyRunningError, match=f"process {process.pid} is n1") as caught:
            Supervisor(home).up("shop")
        assert f"KVCTL_HOME='{tmp_path}/else where' kvctl -c shop down" in caught.value.hint
        assert process.poll() is None


def test_a_process_of_another_home_is_only_mentioned(home: Path, tmp_path: Path) -> None:
    elsewhere = cluster_directory("gone", tmp_path / "elsewhere")
    with spawn_like_a_node(elsewhere, "n1", tmp_path) as process:
        findings = Supervisor(home).doctor(fix=True)
        [finding] = [one for one in findings if one.subject == str(process.pid)]
        assert (finding.kind, finding.fixable) == ("orphan_process", False)
        assert process.poll() is None
        process.kill()


def test_a_node_process_the_registry_does_not_know_is_remembered(
    home: Path, shop: ClusterDirectory, tmp_path: Path
) -> None:
    with spawn_like_a_node(shop, "n1", tmp_path) as process:
        assert_mended(home, "unknown_process")
        known = Registry(home).read("shop").node("n1")
        assert (known.pid, known.wanted) == (process.pid, "running")
        assert state_of(known.identity) is ProcessState.RUNNING
        process.kill()


def test_a_process_that_is_no_node_of_its_cluster_is_ended(
    home: Path, shop: ClusterDirectory, tmp_path: Path
) -> None:
    with spawn_like_a_node(shop, "n9", tmp_path) as process:
        assert_mended(home, "orphan_process")
        process.wait(5)
    assert [one for one in find_nodes() if one.directory == shop.path] == []


def test_a_pause_that_nobody_lifted_is_lifted(
    home: Path, shop: ClusterDirectory, tmp_path: Path
) -> None:
    with spawn_like_a_node(shop, "n1", tmp_path) as process:
        os.kill(process.pid, signal.SIGSTOP)
        run = NodeRun(
            wanted="running",
            pid=process.pid,
            started_s=start_time_s(process.pid),
            nonce="feed",
            deferred=DeferredAction("x", "resume", due_ms=1),
        )
        Registry(home).write("shop", ClusterRun(cluster_id=CONFIG.cluster_id, nodes={"n1": run}))
        assert_mended(home, "overdue")
        assert state_of(run.identity) is ProcessState.RUNNING
        process.kill()


def test_an_unreadable_registry_is_reported_without_fix_and_does_not_hide_the_rest(
    home: Path, shop: ClusterDirectory
) -> None:
    Registry(home).path.write_bytes(b"no database, " * 100)
    shop.keys.chmod(0o755)
    kinds = [one.kind for one in examine(home)]
    assert kinds == ["unreadable_registry", "loose_permissions"]


@pytest.mark.parametrize("name", ["client", "n1"])
def test_a_lost_key_is_made_anew(home: Path, shop: ClusterDirectory, name: str) -> None:
    path = shop.keys / f"{name}.key"
    path.unlink()
    assert_mended(home, "missing_key")
    assert path.exists()


def test_what_an_interrupted_purge_left_is_deleted(home: Path, shop: ClusterDirectory) -> None:
    leftover = home / "clusters" / ".gone.removed-12ab"
    (leftover / "nodes").mkdir(parents=True)
    assert_mended(home, "leftover")
    assert not leftover.exists()
