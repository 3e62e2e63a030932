"""What the parts of one node share: its identity, ring, replica, reachable peers and outbox.

`NodeState` holds no protocol logic; it is the table the parts sit around. It is created by `Node`
and lives as long as the process.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from typing import TYPE_CHECKING

from kvctl_node.causality.trace_clock import TraceClock
from kvctl_node.config import ClusterConfig, QuorumConfig, QuorumMode
from kvctl_node.identity import NodeIdentity
from kvctl_node.membership.cluster_clock import ClusterClock
from kvctl_node.membership.failure_detector import Belief, FailureDetector
from kvctl_node.membership.member import MemberStatus
from kvctl_node.membership.peer_liveness import PeerLiveness
from kvctl_node.outbox import Outbox
from kvctl_node.ports import StorageEngine
from kvctl_node.replication.hinted_handoff import HintedHandoff
from kvctl_node.replication.merkle_tree import MerkleTree
from kvctl_node.replication.replica import Replica
from kvctl_node.ring.claim import claim
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.server import Server

if TYPE_CHECKING:
    from kvctl_node.replication.operation_trace import OperationTrace


class NodeState:
    """The shared state of one node."""

    def __init__(
        self,
        config: ClusterConfig,
        identity: NodeIdentity,
        storage: StorageEngine,
        rng: random.Random,
    ) -> None:
        self.config = config
        self.name = identity.name
        self.identity = identity
        self.storage = storage
        self.rng = rng
        self.next_id: Callable[[], int] = count((identity.generation << 40) + 1).__next__
        """A correlation id never used before by this node, in whatever life: late answers to a
        request of an earlier one must not match any of this."""
        self.outbox = Outbox(TraceClock(identity.name, generation=identity.generation))
        self.set_quorum(config.quorum)
        self.limits = config.limits
        self.timing = config.timing
        self.replica = Replica(
            storage,
            identity,
            config.limits,
            config.timing,
            self.outbox,
            MerkleTree(config.partitions),
        )
        self.map: PartitionMap = claim(
            [Server(spec.name, spec.capacity, spec.zone) for spec in config.nodes],
            partitions=config.partitions,
            n=config.quorum.n,
        )
        self.handoff = HintedHandoff(
            storage, self.outbox, config.limits, config.timing, next_id=self.next_id
        )
        self.liveness = PeerLiveness(
            [name for name in self.map.members if name != self.name],
            dead_after_ms=config.timing.link_dead_after_ms,
        )
        self.detector = FailureDetector(
            self.name,
            suspect_after_ms=config.timing.suspect_after_ms,
            interval_ms=config.timing.gossip_interval_ms,
        )
        self.clock = ClusterClock(skew_ms=config.timing.clock_skew_ms)
        """What the members agree the time is."""
        self.status = MemberStatus.NORMAL
        """Where this node is in its life; the other members learn it by gossip."""
        self.handled = 0
        """Requests and messages handled since the start: the measure of load."""
        self.stale_requests = 0
        """Requests past their deadline, not acted on: a node that was paused finds many."""
        self.trace: OperationTrace | None = None
        """Who is to be told of every answer; None while nobody watches."""
        self.earlier_uuid = ""
        """The disk that peers remember under this name, if it was another than the present one."""

    def set_quorum(self, quorum: QuorumConfig) -> None:
        """Use these defaults from now on; requests in flight keep what they started with."""
        self.quorum = quorum
        self._default_mode = QuorumMode.parse(quorum.mode)

    def can_reach(self, node: str) -> bool:
        """Whether a node (this one included) is believed reachable now."""
        return node == self.name or node in self.liveness.reachable

    def believed(self, node: str) -> Belief:
        """What this node thinks of a member: up, suspect, down, or left the ring."""
        return self.detector.believed(node)

    def reachable_of(self, nodes: tuple[str, ...]) -> tuple[str, ...]:
        """Those of `nodes` that are believed reachable, in the same order."""
        reachable = self.liveness.reachable
        own = self.name
        for node in nodes:
            if node != own and node not in reachable:
                return tuple(one for one in nodes if one == own or one in reachable)
        return nodes

    def mode_of(self, requested: int) -> QuorumMode:
        """The quorum mode of a request: its own, else the cluster's."""
        return QuorumMode(requested) if requested else self._default_mode
