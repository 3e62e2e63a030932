"""What the supervisor reports: plain, typed facts, ready to be printed or encoded as JSON.

A fact is what a process, a socket or an answer showed a moment ago. What nodes *believe* of each
other is another matter (`kvctl gossip`).
"""

from __future__ import annotations

from typing import Any

import msgspec

from kvctl_node.config import ClusterConfig, QuorumConfig

UP = "up"
UNRESPONSIVE = "unresponsive"
"""The process is there and does not answer."""
PAUSED = "paused"
STOPPED = "stopped"
"""No process, as asked for."""
DEAD = "dead"
"""No process, though it should run."""
JOINING = "joining"
LEAVING = "leaving"
NODE_STATES = (UP, UNRESPONSIVE, PAUSED, STOPPED, DEAD, JOINING, LEAVING)


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node. Figures only an answer can give are None when there was none."""

    id: str
    state: str
    """One of `NODE_STATES`."""
    pid: int | None = None
    endpoint: str
    zone: str
    capacity: float
    share: float
    """Fraction of all replicas in the ring that this node owns, 0 to 1."""
    keys: int | None = None
    hints: int | None = None
    conflicts: int | None = None
    reason: str = ""
    """Why, for a node that is dead or does not answer."""
    snapshot: dict[str, Any] | None = None
    """All the node said of itself (`kvctl_node.status`), None without an answer."""


class QuorumStatus(msgspec.Struct, frozen=True):
    """The quorum as status shows it."""

    n: int
    r: int
    w: int
    mode: str


class ClusterStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One cluster: `kvctl status -o json` is this, encoded (without the nodes' snapshots)."""

    cluster: str
    quorum: QuorumStatus
    epoch: int
    nodes: tuple[NodeStatus, ...]

    @property
    def healthy(self) -> bool:
        """Every node serves; what `kvctl status --check` asks."""
        return all(node.state == UP for node in self.nodes)

    def node(self, name: str) -> NodeStatus:
        """The status of one node; `KeyError` if there is none of that name."""
        for node in self.nodes:
            if node.id == name:
                return node
        raise KeyError(name)


class ClusterSummary(msgspec.Struct, frozen=True, kw_only=True):
    """One line of `kvctl ls`."""

    name: str
    nodes: int
    running: int
    """Nodes with a process, answering or not."""
    ephemeral: bool = False
    expires_ms: int = 0
    """Wall-clock milliseconds at which it stops itself; 0: never."""
    directory: str = ""
    problem: str = ""
    """Why the cluster cannot be used, for example an unreadable cluster.json."""


class UpReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `up` did."""

    name: str
    created: bool
    started: tuple[str, ...]
    """Nodes that were started or resumed now; the others ran already."""
    announcements: tuple[str, ...] = ()
    """Sentences a person should see, for example which quorum a small cluster was given."""
    config: ClusterConfig
    seconds: float


class DownReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `down` did."""

    name: str
    stopped: tuple[str, ...]
    killed: tuple[str, ...]
    """Nodes that did not end in the time of grace and were killed."""
    purged: bool
    """The directory with all data is gone."""


class QuorumChange(msgspec.Struct, frozen=True, kw_only=True):
    """What `set_quorum` did."""

    quorum: QuorumConfig
    confirmed: tuple[str, ...]
    """Nodes that use the new quorum now."""
    unconfirmed: tuple[str, ...]
    """Nodes that run and did not confirm it; they learn it when they next start."""


class Finding(msgspec.Struct, frozen=True, kw_only=True):
    """Something `doctor` found."""

    kind: str
    """`stale_process`, `orphan_process`, `missing_registry`, `unreadable_config`, ..."""
    subject: str
    """The cluster, node or file it is about."""
    message: str
    fix: str
    """What `--fix` does about it, or what a person has to do."""
    fixable: bool = True
    fixed: bool = False
