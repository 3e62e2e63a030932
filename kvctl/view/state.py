"""`ClusterView`: everything the dashboard knows of a cluster at one moment, as immutable values.

Views share what did not change, so a field that `is` the same object in two views is equal in them:
that is how a screen knows, without comparing anything, what it has to paint again (`changed`).

Facts and beliefs are kept apart. `NodeView` holds what a node's process and its own answers show;
`beliefs` holds what the nodes think of each other. `condition` puts the two together in the one
word and glyph people get to see.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Any

import msgspec

from kvctl.view.event_sequence import Place
from kvctl.view.observation import ConflictsSeen, DeclaredNode, ProcessWord
from kvctl_node.config import QuorumConfig
from kvctl_node.ring.partition_map import PartitionMap

HISTORY_MAX = 32
"""Samples kept for a sparkline."""
EVENTS_MAX = 2000
OPERATIONS_MAX = 32


class Condition(Enum):
    """A node in one word, for people."""

    UP = "up"
    SUSPECT = "suspect"
    """It answers nobody, or a peer that is up doubts it."""
    DOWN = "down"
    PAUSED = "paused"
    CUT = "cut"
    """It answers, and injected faults keep it from every other node that does."""
    UNKNOWN = "unknown"
    """Not asked yet."""


class Figures(msgspec.Struct, frozen=True, kw_only=True):
    """What a node said of itself when it last answered. Counts and bytes; rates per second."""

    state: str = "ok"
    generation: int = 0
    pid: int = 0
    keys: int = 0
    hints: int = 0
    conflicts: int = 0
    in_flight: int = 0
    accepts_writes: bool = True
    ring_epoch: int = 0
    ring_hash: str = ""
    uptime_s: float = 0.0
    cpu_s: float = 0.0
    cpu_share: float = 0.0
    """Of one core since the answer before, 0 to 1."""
    rss_bytes: int = 0
    turns: int = 0
    turns_per_s: float = 0.0
    messages: int = 0
    """Received from clients and peers since the start."""
    messages_per_s: float = 0.0
    storage: Mapping[str, Any] = {}
    """`kvctl_node.ports.StorageStats`."""
    peers_reachable: tuple[str, ...] = ()


class NodeView(msgspec.Struct, frozen=True, kw_only=True):
    """One node: how it is declared, what it showed, and when."""

    declared: DeclaredNode
    share: float = 0.0
    """Fraction of all replicas it owns, 0 to 1."""
    process: ProcessWord | None = None
    """None until asked; RUNNING if it answered."""
    answers: bool = False
    """Whether it answered when last asked."""
    seen_ms: int = 0
    """When it was last asked with a result, an answer or silence."""
    answered_ms: int = 0
    """When it last answered; 0: never."""
    rtt_ms: float = 0.0
    figures: Figures = Figures()
    heartbeat_ages_ms: tuple[int, ...] = ()
    """How old its newest heartbeat was at the freshest of its peers, oldest sample first."""
    last_event: Place | None = None

    @property
    def name(self) -> str:
        """The node's name."""
        return self.declared.name


class Belief(msgspec.Struct, frozen=True):
    """What one node thinks of another."""

    state: str
    """`up`, `suspect`, `down` or `left`."""
    generation: int = 0
    heartbeat: int = 0
    age_ms: int = 0
    """Age of the newest heartbeat it knows of."""
    phi: float = 0.0
    observers: tuple[str, ...] = ()


class HintQueueView(msgspec.Struct, frozen=True):
    """What one node keeps for another."""

    holder: str
    target: str
    count: int
    bytes: int = 0
    oldest_ms: int = 0
    """Age of the oldest hint."""
    delivered: int = 0
    held: bool = False
    at_ms: int = 0
    drained_per_s: float = 0.0
    history: tuple[int, ...] = ()

    @property
    def eta_s(self) -> float | None:
        """Seconds until it is empty at the present rate; None while it does not drain."""
        return self.count / self.drained_per_s if self.drained_per_s > 0 else None


class MerklePairView(msgspec.Struct, frozen=True):
    """The comparison of two nodes that was started last."""

    a: str
    b: str
    state: str
    trigger: str = ""
    level: str = ""
    session: int = 0
    partitions: int = 0
    leaves_differing: int = 0
    keys_differing: int = 0
    keys_repaired: int = 0
    bytes: int = 0
    full_copy_bytes: int = 0
    finished: bool = True
    reason: str = ""
    last_success_ms: int | None = None

    @property
    def bytes_saved(self) -> int:
        """What comparing cost less than copying would have, in bytes."""
        return max(0, self.full_copy_bytes - self.bytes)


class FaultView(msgspec.Struct, frozen=True):
    """An injected fault."""

    id: str
    kind: str
    links: tuple[tuple[str, str], ...]
    """Directed: (from, to)."""
    hits: int = 0
    """Messages it touched, at all nodes together."""
    expires_ms: int = 0
    """Wall-clock milliseconds; 0: stays until healed."""
    parameters: Mapping[str, Any] = {}

    @property
    def cuts(self) -> bool:
        """Whether nothing at all passes its links."""
        return bool(self.parameters.get("drop")) or self.parameters.get("loss", 0) >= 1


class OperationView(msgspec.Struct, frozen=True):
    """A request that ran, as it is drawn over the ring."""

    at_ms: int
    op: str
    key: str
    partition: int
    coordinator: str
    answered: tuple[str, ...]
    hinted: Mapping[str, str]
    outcome: str
    took_ms: float
    asked: tuple[str, ...] = ()
    """Nodes it was sent to; empty if only the client has told of it."""
    missing: tuple[str, ...] = ()
    """Primaries that were away and had nobody to stand in."""


class TimelineEvent(msgspec.Struct, frozen=True):
    """An event with its trace clock."""

    at_ms: int
    node: str
    generation: int
    seq: int
    kind: str
    fields: Mapping[str, Any]
    clock: Mapping[str, int]
    """Node → how many of its events happened before or are this one, as far as is known."""


class ClusterView(msgspec.Struct, frozen=True, kw_only=True):
    """The whole picture."""

    cluster: str = ""
    at_ms: int = 0
    """When the latest observation was made."""
    ring: PartitionMap | None = None
    quorum: QuorumConfig = QuorumConfig()
    nodes: Mapping[str, NodeView] = {}
    """By name, in the order of the configuration."""
    beliefs: Mapping[str, Mapping[str, Belief]] = {}
    """Row → column: what row thinks of column."""
    hints: Mapping[tuple[str, str], HintQueueView] = {}
    """By (holder, target); only queues that hold something."""
    merkle: Mapping[tuple[str, str], MerklePairView] = {}
    """By the pair, as the node that asks names it."""
    faults: Mapping[str, FaultView] = {}
    faults_at: Mapping[str, Mapping[str, FaultView]] = {}
    """Node → the faults it knows of; `faults` is their union."""
    operations: tuple[OperationView, ...] = ()
    """The last ones, oldest first."""
    events: tuple[TimelineEvent, ...] = ()
    """The last ones, in the order they arrived."""
    clocks: Mapping[str, Mapping[str, int]] = {}
    """Node → the trace clock of its latest event."""
    starts: Mapping[tuple[str, int], Mapping[str, int]] = {}
    """(node, generation) → the trace clock of its `node_started`."""
    events_missed: int = 0
    siblings: ConflictsSeen | None = None
    """The last scan for keys with siblings; None: nobody looked yet."""

    @property
    def hints_total(self) -> int:
        """Hints kept by all nodes together."""
        return sum(queue.count for queue in self.hints.values())

    @property
    def conflicts(self) -> int:
        """Keys with siblings, about: each is counted by its N replicas once they agree."""
        counted = sum(node.figures.conflicts for node in self.nodes.values())
        return -(-counted // self.quorum.n)


def changed(before: ClusterView, after: ClusterView) -> frozenset[str]:
    """The names of the fields in which two views differ, told by identity alone."""
    return frozenset(
        name
        for name in ClusterView.__struct_fields__
        if getattr(before, name) is not getattr(after, name)
    )
