"""The node: routes messages and deadlines to the parts that understand them; nothing else.

`Node` is a pure state machine. Whoever runs it, a process or a simulation, owes it these duties, in
this order, once per turn:

1. hand it what happened: `on_link`, `on_peer_frame`, `on_client_requests`, then `tick`;
2. commit the storage; if that fails, forget the outbox and stop for good;
3. only then send what is in the `outbox`, and clear it.

Time comes in as an `Instant`, chance as a `random.Random`; there is no other source of either.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from kvctl_node.admin import AdminCommands
from kvctl_node.config import ClusterConfig
from kvctl_node.errors import FailureKind, ProtocolError
from kvctl_node.identity import NodeIdentity
from kvctl_node.membership.membership import Membership
from kvctl_node.node_state import NodeState
from kvctl_node.operator_requests import OperatorRequests
from kvctl_node.outbox import Outbox
from kvctl_node.ports import Instant, StorageEngine
from kvctl_node.protocol.client_messages import (
    ClientAdmin,
    ClientDescribe,
    ClientGet,
    ClientPut,
    ClientRequest,
    ClientScan,
    ClientSetQuorum,
    ClientStatus,
)
from kvctl_node.protocol.messages import (
    Forward,
    GossipDeltas,
    GossipDigest,
    GossipReply,
    MembershipMessage,
    PeerFrame,
    PeerMessage,
    Ping,
    PingAck,
    ReplicaGet,
    ReplicaGets,
    ReplicaPut,
    ReplicaPuts,
    ReplicaScan,
)
from kvctl_node.replication.anti_entropy import AntiEntropy
from kvctl_node.replication.coordination import Coordination
from kvctl_node.replication.operation_trace import OperationTrace
from kvctl_node.replication.replica_service import ReplicaService
from kvctl_node.replication.tombstone_reaping import TombstoneReaping
from kvctl_node.status import snapshot_of

_ASKING = ReplicaPut | ReplicaPuts | ReplicaGet | ReplicaGets | ReplicaScan | Forward
"""Messages whose sender waits for an answer."""


class Node:
    """One node of the cluster, without any I/O."""

    def __init__(
        self,
        config: ClusterConfig,
        identity: NodeIdentity,
        storage: StorageEngine,
        rng: random.Random,
    ) -> None:
        self.state = NodeState(config, identity, storage, rng)
        self.outbox: Outbox = self.state.outbox
        self.runtime_stats: Callable[[], dict[str, Any]] = dict
        """What only the runtime can see, merged into the status snapshot."""
        self.admin = AdminCommands()
        """Operators' commands; the runtime adds its own."""
        self.refused_messages = 0
        """Messages from peers that were dropped: malformed inside, stale, or of unknown members."""
        self._coordination = Coordination(self.state)
        self._replica_service = ReplicaService(self.state)
        self._operator_requests = OperatorRequests(self.state, self.admin, self._snapshot)
        self.membership = Membership(self.state)
        self.admin.register("gossip", lambda _, now: self.membership.row(now))
        self._anti_entropy = AntiEntropy(self.state)
        self._reaping = TombstoneReaping(self.state)
        self._anti_entropy.register(self.admin)
        self._trace = OperationTrace(self.state)
        self.admin.register("operations", self._trace.on_command)
        self._on_peer: dict[type, Callable[[str, Any, Instant], None]] = {
            Ping: self.membership.on_ping,
            PingAck: self.on_ping_ack,
            GossipDigest: self.membership.on_gossip_digest,
            GossipReply: self.membership.on_gossip_reply,
            GossipDeltas: self.membership.on_gossip_deltas,
            **self._coordination.handlers(),
            **self._replica_service.handlers(),
            **self._anti_entropy.handlers(),
            **self._reaping.handlers(),
        }
        self._on_client: dict[type, Callable[[bytes, Any, Instant], None]] = {
            ClientScan: self._coordination.on_client_scan,
            ClientDescribe: self._operator_requests.on_client_describe,
            ClientStatus: self._operator_requests.on_client_status,
            ClientSetQuorum: self._operator_requests.on_client_set_quorum,
            ClientAdmin: self._operator_requests.on_client_admin,
        }

    @property
    def identity(self) -> NodeIdentity:
        """Who this node is."""
        return self.state.identity

    @property
    def ring_epoch(self) -> int:
        """The epoch of the ring in force; every peer frame carries it."""
        return self.state.map.epoch

    # ------------------------------------------------------------ turns

    def start(self, now: Instant) -> None:
        """Begin to live: once, before anything else."""
        now = self.state.clock.read(now)
        identity = self.state.identity
        self.outbox.record(
            "node_started",
            generation=identity.generation,
            actor_epoch=identity.actor_epoch,
            storage_uuid=identity.storage_uuid,
        )
        self.membership.start(now)
        self._anti_entropy.start(now)
        self._tick(now)

    def tick(self, now: Instant) -> None:
        """Do whatever has fallen due."""
        self._tick(self.state.clock.read(now))

    def _tick(self, now: Instant) -> None:
        self._coordination.on_tick(now)
        self._anti_entropy.on_tick(now)
        self._reaping.on_tick(now)
        self.state.handoff.on_tick(self.state.liveness.reachable, now)
        if now.monotonic_s >= self.membership.next_s():
            for peer in self.membership.on_tick(now):
                self._lose(peer, "silent", now)
        if self.state.trace is not None:
            self.state.trace.on_tick(now)

    def next_wakeup_s(self, now: Instant) -> float:
        """Seconds until `tick` has something to do, 0 if it has now."""
        now = self.state.clock.read(now)
        waits = [self.membership.next_s() - now.monotonic_s]
        waits.append(self._anti_entropy.next_s() - now.monotonic_s)
        waits.append(self._reaping.next_s(now) - now.monotonic_s)
        handoff_s = self.state.handoff.next_s()
        if handoff_s is not None:
            waits.append(handoff_s - now.monotonic_s)
        due_ms = self._coordination.next_ms()
        if due_ms is not None:
            waits.append(due_ms / 1000 - now.monotonic_s)
        return max(0.0, min(waits))

    # ------------------------------------------------------------ peers

    def on_link(self, peer: str, connected: bool, now: Instant) -> None:
        """The connection to a peer was opened or lost."""
        now = self.state.clock.read(now)
        if self.state.liveness.on_link(peer, connected, now):
            self._lose(peer, "connection closed", now)
        if connected:
            self.membership.on_link(peer, now)

    def on_peer_frame(self, frame: PeerFrame, now: Instant) -> None:
        """Handle every message of a peer's frame. A bad message is counted and dropped."""
        now = self.state.clock.read(now)
        sender = frame.sender
        if sender == self.state.name or sender not in self.state.map.members:
            self.refused_messages += len(frame.messages)
            return
        try:
            self.outbox.trace.merge(sender, frame.clock)
        except ProtocolError as error:
            self._refuse_message(sender, error)
        self.state.handled += len(frame.messages)
        self.state.liveness.on_heard(sender, now)
        if sender not in self.state.liveness.reachable:
            self.membership.on_unproven(sender, now)
        if frame.ring_epoch != self.state.map.epoch:
            self._refuse_other_epoch(frame, now)
            return
        for message in frame.messages:
            self._handle(sender, message, now)

    def _handle(self, sender: str, message: PeerMessage, now: Instant) -> None:
        """Handle one message; a bad one does not take those behind it along."""
        try:
            self._on_peer[type(message)](sender, message, now)
        except ProtocolError as error:
            self._refuse_message(sender, error)

    def _refuse_message(self, sender: str, error: ProtocolError) -> None:
        self.refused_messages += 1
        self.outbox.record("message_refused", peer=sender, reason=error.message)

    def on_ping_ack(self, sender: str, message: PingAck, now: Instant) -> None:
        """A direct answer: whatever waits for this peer may go on."""
        if self.membership.on_ping_ack(sender, message, now):
            self.outbox.record("peer_reachable", peer=sender)
            self.state.handoff.wake()

    def _lose(self, peer: str, reason: str, now: Instant) -> None:
        """Requests that wait for a peer that is gone need not wait for their deadline."""
        self.outbox.record("peer_unreachable", peer=peer, reason=reason)
        self._coordination.on_link_lost(peer, now)
        self.state.handoff.on_link_lost(peer)
        self.membership.on_lost(peer, now)

    def _refuse_other_epoch(self, frame: PeerFrame, now: Instant) -> None:
        """Requests made under another ring are refused, so that their sender catches up."""
        for message in frame.messages:
            if isinstance(message, _ASKING):
                self._replica_service.refuse(
                    frame.sender, message.id, FailureKind.UNAVAILABLE, "other ring epoch"
                )
            elif isinstance(message, MembershipMessage):
                self._handle(frame.sender, message, now)
            else:
                self.refused_messages += 1

    # ------------------------------------------------------------ clients

    def on_client_requests(
        self, client: bytes, requests: list[ClientRequest], now: Instant
    ) -> None:
        """Handle every request of a client's frame: its puts together, and then its gets."""
        now = self.state.clock.read(now)
        self.state.handled += len(requests)
        puts: list[ClientPut] = []
        gets: list[ClientGet] = []
        for request in requests:
            if type(request) is ClientPut:
                puts.append(request)
            elif type(request) is ClientGet:
                gets.append(request)
            else:
                self._on_client[type(request)](client, request, now)
        if puts:
            self._coordination.on_client_puts(client, puts, now)
        if gets:
            self._coordination.on_client_gets(client, gets, now)

    def _snapshot(self, now: Instant) -> dict[str, Any]:
        snapshot = snapshot_of(self.state, now, in_flight=self._coordination.in_flight)
        snapshot["refused_messages"] = self.refused_messages
        snapshot.update(self._anti_entropy.snapshot())
        snapshot["members"] = self.membership.row(now)
        snapshot.update(self.runtime_stats())
        return snapshot

    def check_invariants(self) -> None:
        """Assert what must hold between turns; for tests and simulation."""
        self.outbox.trace.check_invariants()
        self.membership.check_invariants()
        self._coordination.check_invariants()
        self.state.handoff.check_invariants()
        self._anti_entropy.check_invariants()
        self._reaping.check_invariants()
        self._trace.check_invariants()
