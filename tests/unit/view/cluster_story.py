"""Observations for tests: a cluster of five nodes, and what its nodes might say."""

from __future__ import annotations

from typing import Any

from kvctl.view.observation import (
    ClusterSeen,
    DeclaredNode,
    NodeAnswered,
    NodeEvent,
    NodeSilent,
    Observation,
    OperationSeen,
    ProcessWord,
)
from kvctl.view.reduce import reduce
from kvctl.view.state import ClusterView
from kvctl_node.ring.claim import claim
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.server import Server

BEGAN_MS = 1_763_878_400_000
NAMES = ("n1", "n2", "n3", "n4", "n5")


def ring_of(names: tuple[str, ...] = NAMES, *, n: int = 3, partitions: int = 64) -> PartitionMap:
    """A ring of equal nodes."""
    return claim([Server(name, 1.0, "") for name in names], partitions=partitions, n=n)


def cluster_seen(
    names: tuple[str, ...] = NAMES,
    *,
    n: int = 3,
    r: int = 2,
    w: int = 2,
    mode: str = "sloppy",
    at_ms: int = BEGAN_MS,
) -> ClusterSeen:
    """What a feed tells first."""
    nodes = tuple(
        DeclaredNode(name, "", 1.0, f"tcp://127.0.0.1:{7000 + place}")
        for place, name in enumerate(names)
    )
    return ClusterSeen(at_ms, "demo", nodes, ring_of(names, n=n).to_document(), n, r, w, mode)


def beliefs(names: tuple[str, ...] = NAMES, *, age_ms: int = 400, **states: str) -> dict[str, Any]:
    """A row of the belief matrix; everybody is up but those in `states`."""
    return {
        name: {
            "state": states.get(name, "up"),
            "generation": 1,
            "heartbeat": 7,
            "age_ms": age_ms,
            "phi": 0.2 if states.get(name, "up") == "up" else 9.0,
            "observers": [],
        }
        for name in names
    }


def answered(node: str, at_ms: int, **changes: Any) -> NodeAnswered:
    """An answer. `changes` go into the snapshot, but those that `NodeAnswered` has itself."""
    own = {
        name: tuple(changes.pop(name))
        for name in ("hints", "repair", "faults", "operations")
        if isinstance(changes.get(name), list)
    }
    snapshot: dict[str, Any] = {
        "name": node,
        "pid": 4000 + int(node[1:]),
        "generation": 1,
        "state": "ok",
        "ring_epoch": 1,
        "quorum": {"n": 3, "r": 2, "w": 2, "mode": "sloppy"},
        "peers": {name: {"reachable": True} for name in NAMES if name != node},
        "keys": 120,
        "hints": 0,
        "conflicts": 0,
        "in_flight": 0,
        "accepts_writes": True,
        "storage": {"memtable_keys": 120, "memtable_bytes": 36_000, "sstables": 2},
        "members": beliefs(),
        "uptime_s": 61.0,
        "cpu_s": 1.0,
        "rss_bytes": 48 * 1024 * 1024,
        "turns": 500,
        "transport": {"peers": {"messages_in": 900}, "clients": {"messages_in": 100}},
    }
    snapshot.update(changes)
    return NodeAnswered(at_ms, node, 1.5, snapshot, **own)


def silent(node: str, at_ms: int, word: ProcessWord = ProcessWord.DEAD) -> NodeSilent:
    """No answer."""
    return NodeSilent(at_ms, node, word)


def event(
    node: str, seq: int, kind: str, *, at_ms: int = BEGAN_MS, own: int = 1, **fields: Any
) -> NodeEvent:
    """An event in the generation `own`."""
    return NodeEvent(at_ms, node, own, seq, kind, fields)


def put_seen(key: str, at_ms: int, **hinted: str) -> OperationSeen:
    """A put that two nodes acknowledged."""
    asked = ("n1", "n2", *(hinted or ("n3",)))
    return OperationSeen(at_ms, "put", key, "n1", ("n1", "n2"), hinted, "ok", 2.5, asked)


def all_up(at_ms: int = BEGAN_MS + 1000) -> list[Observation]:
    """A cluster in which every node answers."""
    return [cluster_seen(), *(answered(name, at_ms) for name in NAMES)]


def cut_fault(*links: tuple[str, str], hits: int = 0, id: str = "f1") -> dict[str, Any]:
    """A fault that lets nothing pass on these links, as a node reports it."""
    return {
        "id": id,
        "kind": "partition",
        "links": [list(link) for link in links],
        "drop": True,
        "loss": 0.0,
        "hits": hits,
        "expires_ms": None,
    }


def view_after(*observations: Observation) -> ClusterView:
    """The view that these lead to."""
    view = ClusterView()
    for observation in observations:
        view = reduce(view, observation)
    return view
