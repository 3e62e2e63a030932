"""Observations: everything a feed can tell about a cluster, one immutable value each.

The same values travel from a live cluster, from a script in a test, and from a recording, in which
each is one JSON line headed by its tag. So they hold plain data only, and `at_ms`, the wall-clock
milliseconds at which the watcher learned it, is the time everything else is computed from: the
model never looks at a clock.

A recording is a file format. Fields are added at the end with a default, never renamed.
"""

from __future__ import annotations

from enum import Enum
from typing import Any

import msgspec


class ProcessWord(Enum):
    """What the operating system says of a node that does not answer."""

    RUNNING = "running"
    PAUSED = "paused"
    DEAD = "dead"
    """Gone, though it should run."""
    STOPPED = "stopped"
    """Gone, as asked for."""


class DeclaredNode(msgspec.Struct, frozen=True):
    """A node as the configuration has it."""

    name: str
    zone: str = ""
    capacity: float = 1.0
    endpoint: str = ""


class ClusterSeen(msgspec.Struct, frozen=True, tag="cluster"):
    """Which cluster this is: its nodes, its ring, its quorum."""

    at_ms: int
    cluster: str
    nodes: tuple[DeclaredNode, ...]
    ring: bytes
    """`PartitionMap.to_document()`."""
    n: int
    r: int
    w: int
    mode: str


class NodeAnswered(msgspec.Struct, frozen=True, tag="answer"):
    """A node's snapshot of itself, with what its admin commands say, asked all at once."""

    at_ms: int
    node: str
    rtt_ms: float
    """From question to answer."""
    snapshot: dict[str, Any]
    """See `kvctl_node.status`."""
    hints: tuple[dict[str, Any], ...] = ()
    """The queues of the command `hints`."""
    repair: tuple[dict[str, Any], ...] = ()
    """The pairs of the command `repair_status`."""
    faults: tuple[dict[str, Any], ...] = ()
    """The faults of the command `faults`, as far as they concern this node."""
    operations: tuple[dict[str, Any], ...] = ()
    """Operations it coordinated since it was asked before, oldest first; a sample of them, if they
    are many. See `kvctl_node.replication.operation_trace`."""


class NodeSilent(msgspec.Struct, frozen=True, tag="silent"):
    """A node was asked and did not answer in time."""

    at_ms: int
    node: str
    process: ProcessWord


class NodeEvent(msgspec.Struct, frozen=True, tag="event"):
    """Something a node told of itself. (generation, seq) orders the events of one node."""

    at_ms: int
    """By the clock of the node."""
    node: str
    generation: int
    seq: int
    kind: str
    fields: dict[str, Any]
    clock: dict[str, int] = {}
    """Node → how many of its events came before this or are it; empty if the node does not say."""


class OperationSeen(msgspec.Struct, frozen=True, tag="operation"):
    """A request and what became of it, told by its coordinator, or by its client."""

    at_ms: int
    op: str
    """`put`, `get` or `del`."""
    key: str
    coordinator: str
    answered: tuple[str, ...] = ()
    """Nodes that acknowledged or replied in time to count."""
    hinted: dict[str, str] = {}
    """Holder of a hint → the primary it stands for."""
    outcome: str = "ok"
    """`ok`, `degraded`, `not found`, `conflict`, or the kind of the failure."""
    took_ms: float = 0.0
    asked: tuple[str, ...] = ()
    """Nodes it was sent to; empty if a client tells, which does not know."""
    partition: int = -1
    """-1: by the hash of the key, which a client knows whole."""
    missing: tuple[str, ...] = ()
    """Primaries that were away and had nobody to stand in."""


class EventsMissed(msgspec.Struct, frozen=True, tag="missed"):
    """So many events were left out here: a recording that had to keep its rate."""

    at_ms: int
    count: int


class VersionSeen(msgspec.Struct, frozen=True):
    """One of several versions of a key."""

    dot: tuple[str, int]
    """Which write it is: (node, count), as `kvctl resolve --pick` names it."""
    value: str | None
    """Its value; None: it deletes the key."""
    enc: str = "utf-8"
    """`base64` if the value is not text."""
    is_cut: bool = False
    """Whether only the beginning of the value is here."""
    bytes: int = -1
    """Size of the whole value; -1: whoever told did not say."""

    @property
    def size_bytes(self) -> int | None:
        """Size of the whole value, None if nobody knows."""
        if self.bytes >= 0 or self.value is None:
            return max(0, self.bytes)
        return len(self.value.encode("utf-8")) if self.is_whole_text else None

    @property
    def is_whole_text(self) -> bool:
        """Whether the value is text, and all of it is here; a tombstone is."""
        return self.enc == "utf-8" and not self.is_cut


class KeyConflict(msgspec.Struct, frozen=True):
    """A key with siblings."""

    key: str
    clock: tuple[tuple[str, int], ...]
    """The clock of the whole object: every write that any version, or their past, is made of."""
    versions: tuple[VersionSeen, ...]


class ConflictsSeen(msgspec.Struct, frozen=True, tag="conflicts"):
    """The keys with siblings, as a scan found them."""

    at_ms: int
    keys: tuple[KeyConflict, ...]
    has_more: bool = False
    """Whether the scan ended at its limit."""


Observation = (
    ClusterSeen
    | NodeAnswered
    | NodeSilent
    | NodeEvent
    | OperationSeen
    | EventsMissed
    | ConflictsSeen
)
