"""Client requests and the coordinators that serve them.

`Coordination` decides where a request is coordinated (here, if this node fills a slot of the key;
else at a node that does, once), and keeps the table of requests in flight: it hands each answer,
lost link and deadline to the request it concerns, and forgets requests that are done. Everything is
bounded: above the limit of unanswered requests a new one is refused as `overloaded`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvctl_node.errors import FailureKind
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientScan,
    Failed,
)
from kvctl_node.protocol.messages import (
    Forward,
    ForwardReply,
    ReplicaGetReply,
    ReplicaPutAck,
    ReplicaPutReport,
    ReplicaRefused,
    ReplicaSame,
    ReplicaScanReply,
)
from kvctl_node.replication.forwarding import Forwarding
from kvctl_node.replication.get_batch import batches_of_gets
from kvctl_node.replication.get_coordinator import GetCoordinator
from kvctl_node.replication.put_batch import batches_of_puts
from kvctl_node.replication.put_coordinator import PutCoordinator
from kvctl_node.replication.request import Origin, RequestCoordinator
from kvctl_node.replication.request_checks import check_get, check_put, check_scan
from kvctl_node.replication.scan_coordinator import ScanCoordinator
from kvctl_node.replication.slots import choose_slots
from kvctl_node.timers import DeadlineWheel

COLLECTING_MAX = 65_536
"""Requests that were answered and still collect late replies; the oldest go beyond this."""
FORWARDS_KNOWN_MAX = 8192
"""Forwarded puts that are remembered, to know a repeated message for what it is."""


class Coordination:
    """The requests that this node coordinates or has passed on."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._requests: dict[int, RequestCoordinator] = {}
        self._unanswered = 0
        self._in_flight_max = state.limits.requests_in_flight_max
        self._deadlines = DeadlineWheel()
        self._forwarding = Forwarding(state)
        self._forwards_known: dict[tuple[str, int], None] = {}
        """(sender, id) of forwarded puts, the oldest first."""

    def handlers(self) -> dict[type, Callable[[str, Any, Instant], None]]:
        """Message of a peer → handler."""
        return {
            ReplicaPutAck: self.on_replica_put_ack,
            ReplicaPutReport: self.on_replica_put_report,
            ReplicaSame: self.on_replica_same,
            ReplicaGetReply: self.on_replica_get_reply,
            ReplicaScanReply: self.on_replica_scan_reply,
            ReplicaRefused: self.on_replica_refused,
            Forward: self.on_forward,
            ForwardReply: self.on_forward_reply,
        }

    @property
    def in_flight(self) -> int:
        """Client requests that have no answer yet."""
        return self._unanswered + len(self._forwarding.pending)

    def on_tick(self, now: Instant) -> None:
        """Tell requests whose deadline has come. HOT PATH."""
        next_ms = self.next_ms()
        now_ms = int(now.monotonic_s * 1000)
        if next_ms is None or now_ms < next_ms:
            return
        for request_id in self._deadlines.due(now_ms):
            request = self._requests.get(request_id)
            if request is not None:
                self.step(request, now, request.on_deadline)
                if not request.done:
                    self._deadlines.add(request_id, request.due_ms)
        self._forwarding.on_tick(now)

    def next_ms(self) -> int | None:
        """When a deadline may come, in monotonic milliseconds; None while nothing waits."""
        own_ms, forwards_ms = self._deadlines.next_ms, self._forwarding.next_ms()
        if own_ms is None or forwards_ms is None:
            return forwards_ms if own_ms is None else own_ms
        return min(own_ms, forwards_ms)

    def on_link_lost(self, peer: str, now: Instant) -> None:
        """Requests that wait for a peer that is gone need not wait for their deadline."""
        for request in list(self._requests.values()):
            self.step(request, now, request.on_link_lost, peer)
        self._forwarding.on_link_lost(peer)

    # ------------------------------------------------------------ requests come in

    def on_client_put(self, client: bytes, request: ClientPut, now: Instant) -> None:
        """Coordinate a put here, or hand it to a node that holds the key."""
        refusal = check_put(self._state, request, now) or self._overloaded(request.id)
        if refusal is None:
            self._route(request, Origin(client, request.id), now)
        else:
            self._state.outbox.reply(client, refusal)

    def on_client_get(self, client: bytes, request: ClientGet, now: Instant) -> None:
        """Coordinate a get here, or hand it to a node that holds the key."""
        refusal = check_get(self._state, request, now) or self._overloaded(request.id)
        if refusal is None:
            self._route(request, Origin(client, request.id), now)
        else:
            self._state.outbox.reply(client, refusal)

    def on_client_puts(self, client: bytes, requests: list[ClientPut], now: Instant) -> None:
        """Coordinate the puts of a frame; those with the same replicas do it together."""
        alone = requests
        if self._may_share(requests):
            batches, alone = batches_of_puts(self._state, self, client, requests, now)
            self._begin_all(batches, now)
        for request in alone:
            self.on_client_put(client, request, now)

    def on_client_gets(self, client: bytes, requests: list[ClientGet], now: Instant) -> None:
        """Coordinate the gets of a frame; those with the same replicas do it together."""
        alone = requests
        if self._may_share(requests):
            batches, alone = batches_of_gets(self._state, self, client, requests, now)
            self._begin_all(batches, now)
        for request in alone:
            self.on_client_get(client, request, now)

    def _may_share(self, requests: Sequence[ClientPut | ClientGet]) -> bool:
        """Not if each has to be traced, or to be refused, or to be weighed for what it proves."""
        state = self._state
        return (
            len(requests) > 1
            and state.trace is None
            and self.in_flight + len(requests) <= self._in_flight_max
            and state.replica.all_evident
        )

    def _begin_all(self, batches: Sequence[RequestCoordinator], now: Instant) -> None:
        for batch in batches:
            if batch.size:
                self._begin(batch, now)

    def _route(self, request: ClientPut | ClientGet, origin: Origin, now: Instant) -> None:
        """Coordinate here if this node fills a slot of the key, else hand the request on, once."""
        state = self._state
        partition = state.map.partition_of(request.key)
        slots = choose_slots(state, partition, request.mode)
        if state.name in slots.by_node:
            if isinstance(request, ClientPut):
                self._begin(PutCoordinator(state, request, partition, slots, origin, now), now)
            else:
                self._begin(GetCoordinator(state, request, partition, slots, origin, now), now)
        elif origin.forwarded_by:
            refused = ReplicaRefused(origin.forward_id, FailureKind.UNAVAILABLE, "not a replica")
            state.outbox.send(origin.forwarded_by, refused)
        else:
            self._forwarding.forward(origin.client, request, slots, now)

    def on_client_scan(self, client: bytes, request: ClientScan, now: Instant) -> None:
        """Coordinate one page of a scan."""
        refusal = check_scan(self._state, request, now) or self._overloaded(request.id)
        if refusal is not None:
            self._state.outbox.reply(client, refusal)
            return
        self._begin(ScanCoordinator(self._state, request, Origin(client, request.id), now), now)

    def on_forward(self, sender: str, message: Forward, now: Instant) -> None:
        """Coordinate another node's request; never forwarded again."""
        state, request = self._state, message.request
        if isinstance(request, ClientPut) and self._is_repeated(sender, message.id):
            return
        if message.target_generation not in (0, state.identity.generation):
            # It may be a second copy of what an earlier life of this node has answered already.
            refused = ReplicaRefused(message.id, FailureKind.UNAVAILABLE, "restarted since")
            state.outbox.send(sender, refused)
            return
        refusal = self._overloaded(request.id)
        if isinstance(request, ClientPut):
            refusal = refusal or check_put(state, request, now)
        else:
            refusal = refusal or check_get(state, request, now)
        if refusal is not None:
            self._state.outbox.send(sender, ForwardReply(message.id, refusal))
        else:
            self._route(request, Origin(b"", request.id, sender, message.id), now)

    def _is_repeated(self, sender: str, forward_id: int) -> bool:
        """A put that was refused is over: a second copy of the message must not store it."""
        known = self._forwards_known
        if (sender, forward_id) in known:
            return True
        known[sender, forward_id] = None
        if len(known) > FORWARDS_KNOWN_MAX:
            del known[next(iter(known))]
        return False

    def _overloaded(self, request_id: int) -> Failed | None:
        if self._unanswered + len(self._forwarding.pending) < self._in_flight_max:
            return None
        return Failed(
            request_id,
            FailureKind.OVERLOADED,
            f"{self._state.name} already has {self.in_flight} requests in flight.",
            "slow down, or try another node.",
        )

    def _begin(self, request: RequestCoordinator, now: Instant) -> None:
        request.start(now)
        if request.done:
            return
        if not request.answered:
            self._unanswered += request.size
        self.adopt(request)

    def adopt(self, request: RequestCoordinator) -> None:
        """Keep a request that has been counted already."""
        self._requests[request.id] = request
        self._deadlines.add(request.id, request.due_ms)
        if len(self._requests) > COLLECTING_MAX + self._in_flight_max:
            self._forget_oldest_answered()

    def step(
        self, request: RequestCoordinator, now: Instant, handler: Callable[..., None], *args: Any
    ) -> None:
        """Let a request handle one thing, and account for what became of it."""
        request_id, was_answered = request.id, request.answered
        handler(*args, now)
        self._account(request_id, request, was_answered)

    def _account(self, request_id: int, request: RequestCoordinator, was_answered: bool) -> None:
        if request.answered and not was_answered:
            self._unanswered -= request.size
        if request.done:
            self._requests.pop(request_id, None)
        elif request.id != request_id:
            # It has begun a round of its own, with new answers to wait for.
            del self._requests[request_id]
            self._requests[request.id] = request
            self._deadlines.add(request.id, request.due_ms)

    def _forget_oldest_answered(self) -> None:
        for request_id, request in self._requests.items():
            if request.answered:
                del self._requests[request_id]
                return

    # ------------------------------------------------------------ answers come in

    def on_replica_put_ack(self, sender: str, message: ReplicaPutAck, now: Instant) -> None:
        """A replica stored what a request sent it."""
        request = self._requests.get(message.id)
        if request is None:
            return
        if message.but:
            self.step(request, now, request.on_replica_put_ack_but, sender, message.but)
        else:
            self.step(request, now, request.on_replica_put_ack, sender)

    def on_replica_same(self, sender: str, message: ReplicaSame, now: Instant) -> None:
        """A replica's copies are those that a request knows."""
        request = self._requests.get(message.id)
        if request is None:
            return
        if message.but:
            self.step(request, now, request.on_replica_same_but, sender, message.but)
        else:
            self.step(request, now, request.on_replica_same, sender)

    def on_replica_get_reply(self, sender: str, message: ReplicaGetReply, now: Instant) -> None:
        """A replica answered a read."""
        request = self._requests.get(message.id)
        if request is not None:
            self.step(request, now, request.on_replica_get_reply, sender, message)

    def on_replica_put_report(self, sender: str, message: ReplicaPutReport, now: Instant) -> None:
        """A replica stored what a request sent it, and had held something else."""
        request = self._requests.get(message.id)
        if request is not None:
            self.step(request, now, request.on_replica_put_report, sender, message)

    def on_replica_scan_reply(self, sender: str, message: ReplicaScanReply, now: Instant) -> None:
        """A replica answered with a page."""
        request = self._requests.get(message.id)
        if request is not None:
            self.step(request, now, request.on_replica_scan_reply, sender, message)

    def on_replica_refused(self, sender: str, message: ReplicaRefused, now: Instant) -> None:
        """A replica will not do what it was asked, or not take a forwarded request."""
        request = self._requests.get(message.id)
        if request is not None:
            self.step(request, now, request.on_replica_refused, sender, message)
        else:
            self._forwarding.on_refused(message.id, message.kind, message.reason)

    def on_forward_reply(self, sender: str, message: ForwardReply, now: Instant) -> None:
        """The answer to a request this node handed on."""
        self._forwarding.on_reply(message)

    def check_invariants(self) -> None:
        """Assert that the table and the count of unanswered requests agree."""
        waiting = [one for one in self._requests.values() if not one.answered]
        assert self._unanswered == sum(one.size for one in waiting)
        assert all(not one.done for one in self._requests.values())
