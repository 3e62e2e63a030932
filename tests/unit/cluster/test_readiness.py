"""What is missing until a cluster is ready, and why a node did not start, in words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kvctl.cluster.directory import cluster_directory
from kvctl.cluster.processes import ProcessIdentity
from kvctl.cluster.readiness import missing_for_readiness, missing_for_reads, start_failure
from kvctl.cluster.spawn import exit_note_path
from kvctl.errors import PortTakenError
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig

NAMES = ("n1", "n2", "n3")
PROCESSES = {name: ProcessIdentity(1, 0.0, f"nonce of {name}") for name in NAMES}


def snapshot(name: str, *seen: str) -> dict[str, Any]:
    peers = {peer: {"reachable": peer in seen} for peer in NAMES if peer != name}
    return {"nonce": f"nonce of {name}", "peers": peers}


def all_see_all() -> dict[str, dict[str, Any]]:
    return {name: snapshot(name, *NAMES) for name in NAMES}


def test_nothing_is_missing_when_all_see_all() -> None:
    assert missing_for_readiness(NAMES, PROCESSES, all_see_all()) == ""


def test_a_node_that_does_not_answer_is_named() -> None:
    snapshots = all_see_all()
    del snapshots["n2"]
    assert missing_for_readiness(NAMES, PROCESSES, snapshots) == "n2 does not answer"


def test_an_answer_of_the_process_before_does_not_count() -> None:
    snapshots = all_see_all()
    snapshots["n2"]["nonce"] = "an earlier one"
    assert "for n2" in missing_for_readiness(NAMES, PROCESSES, snapshots)


@pytest.mark.parametrize(("blind", "unseen"), [("n1", "n3"), ("n3", "n1")])
def test_one_direction_that_is_not_seen_is_enough_to_wait(blind: str, unseen: str) -> None:
    snapshots = all_see_all()
    snapshots[blind] = snapshot(blind, *(name for name in NAMES if name != unseen))
    assert missing_for_readiness(NAMES, PROCESSES, snapshots) == f"{blind} does not see {unseen}"
    assert missing_for_readiness([unseen], PROCESSES, snapshots) != ""


def test_a_start_waits_neither_for_links_of_others_nor_for_nodes_that_hang() -> None:
    snapshots = all_see_all()
    snapshots["n1"] = snapshot("n1", "n2")  # does not see n3
    del snapshots["n3"]
    assert missing_for_readiness(["n2"], PROCESSES, snapshots) == ""
    snapshots = {**all_see_all(), "n1": snapshot("n1", "n2")}
    assert missing_for_readiness(["n2"], PROCESSES, snapshots) == ""


def test_a_node_that_ended_is_reported_in_its_own_words(tmp_path: Path) -> None:
    directory = cluster_directory("shop", tmp_path)
    directory.node("n1").mkdir(parents=True)
    assert "no message" in start_failure(directory, "n1").message
    directory.stderr_path("n1").write_text("Traceback\n  ...\nImportError: no module named zmq\n")
    assert "ImportError: no module named zmq" in start_failure(directory, "n1").message
    exit_note_path(directory, "n1").write_text(
        '{"code": 75, "kind": "port", "message": "port 7000 of n1 is taken.", "hint": "free it."}'
    )
    error = start_failure(directory, "n1")
    assert isinstance(error, PortTakenError)
    assert error.message == "n1 ended while starting: port 7000 of n1 is taken."
    assert error.hint == "free it."


def config_of(r: int) -> ClusterConfig:
    return ClusterConfig(nodes=tuple(map(NodeSpec, NAMES)), quorum=QuorumConfig(3, r, 3))


@pytest.mark.parametrize(
    ("r", "rebuilding", "waits"),
    [(2, "", False), (2, "n1", False), (2, "n1 n2", True), (1, "n1 n2", False), (3, "n3", True)],
)
def test_reads_are_waited_for_while_fewer_than_r_nodes_can_vouch_for_a_key(
    r: int, rebuilding: str, waits: bool
) -> None:
    snapshots = {name: {"rebuilding": 8 * (name in rebuilding)} for name in NAMES}
    missing = missing_for_reads(config_of(r), snapshots)
    assert bool(missing) is waits
    assert all(name in missing for name in rebuilding.split()) or not waits


def test_a_rebuild_is_not_waited_for_when_the_node_to_rebuild_from_is_down() -> None:
    snapshots = {name: {"rebuilding": 8} for name in ("n1", "n2")}
    assert missing_for_reads(config_of(2), snapshots) == ""
