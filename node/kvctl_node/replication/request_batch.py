"""Requests that came together and go to the same replicas: one message to each, and one answer.

Nearly always the replicas agree to all of them, and then the requests of a batch differ in nothing
but their keys: they share messages, a quorum and a deadline, and the batch is little more work than
one of them. Whatever happens to one makes it a coordinator of its own, in the state that the batch
has reached:

    17 gets ── n2: the same ──▶ 17 answers
       └─ n3: the same, but for the 5th ──▶ the 5th alone: waits for n3's copy, merges it, mends

A replica that is lost, or the deadline, does so with all that still wait for something. From then
on the batch hands them what it hears, as long as they wait for answers to its own messages: a round
that one of them begins later is its own affair. So a batch decides nothing unusual, and every rule
of a request stands in its coordinator only.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

from kvctl_node.errors import ProtocolError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import ClientGet, ClientPut
from kvctl_node.replication.quorum import Quorum
from kvctl_node.replication.request import Origin, RequestCoordinator
from kvctl_node.replication.slots import Slots, choose_slots

BATCH_MAX = 256
"""Requests in a batch."""
BATCH_BYTES_MAX = 256 * 1024
"""What a batch sends to a replica, but for a single large request: it travels in one message."""
LEAST_SHARE = 0.5
"""Whoever has less than this part of the time that replicas get at most goes alone, and does not
cut short the others' time."""

Request = TypeVar("Request", ClientGet, ClientPut)
Done = TypeVar("Done")
Batch = TypeVar("Batch", bound="RequestBatch[Any, Any]")


def least_deadline_ms(state: NodeState, now: Instant) -> int:
    """The earliest deadline with which a request may be part of a batch."""
    return now.wall_ms + int(LEAST_SHARE * state.timing.replica_timeout_ms)


class RequestTable(Protocol):
    """The requests in flight, among which those that leave a batch take their place."""

    def adopt(self, request: RequestCoordinator) -> None:
        """Keep a request that has been counted already."""
        ...

    def step(
        self, request: RequestCoordinator, now: Instant, handler: Callable[..., None], *args: Any
    ) -> None:
        """Let a request handle one thing, and account for what became of it."""
        ...


class RequestBatch(RequestCoordinator, Generic[Request, Done]):
    """Coordinates requests of one client whose replicas are the same, all in their own places.

    `Done`: what this node itself has done of one, and asks of the others.
    """

    __slots__ = (
        "_apart",
        "_began",
        "_default_mode",
        "_defaults",
        "_done_here",
        "_ends_ms",
        "_ids",
        "_partitions",
        "_quorum",
        "_requests",
        "_table",
        "bytes",
        "size",
        "slots",
    )

    def __init__(
        self,
        state: NodeState,
        table: RequestTable,
        client: bytes,
        slots: Slots,
        now: Instant,
    ) -> None:
        latest_ms = now.wall_ms + state.timing.replica_timeout_ms
        super().__init__(state, Origin(client, 0), latest_ms, now)
        self.size = 0
        """How many have not left the batch."""
        self.bytes = 0
        """Of what is sent for them."""
        self._table = table
        self._defaults, self._default_mode = state.quorum, int(state.mode_of(0))
        """What these requests started with, whatever the node is told later."""
        self.slots = slots
        self._began = now
        self._requests: list[Request] = []
        self._partitions: list[int] = []
        """Of their keys, in the same order."""
        self._done_here: list[Done] = []
        self._apart: dict[int, RequestCoordinator] = {}
        """Those that left, by their places in the batch."""
        self._ids: dict[int, int] = {}
        """Under which id each of them left."""

    def add(self, request: Request, partition: int, done: Done, size_bytes: int) -> None:
        """One more; `size_bytes`: what is sent of it. Before `start`."""
        self._requests.append(request)
        self._partitions.append(partition)
        self._done_here.append(done)
        self.bytes += size_bytes
        self.size += 1

    def add_all(
        self,
        requests: Sequence[Request],
        partitions: Sequence[int],
        done: Sequence[Done],
        size_bytes: int,
    ) -> None:
        """Several more; `size_bytes`: what is sent of all of them. Before `start`."""
        self._requests.extend(requests)
        self._partitions.extend(partitions)
        self._done_here.extend(done)
        self.bytes += size_bytes
        self.size += len(requests)

    def _begin(self, needed: int) -> None:
        """No more come; this node has done what is asked of the others."""
        self._quorum = Quorum(needed, self.slots.by_node)
        self._quorum.add_ack(self.state.name)
        deadlines = [request.deadline_ms for request in self._requests]
        self._ends_ms = min(self.deadline_ms, max(deadlines))
        """When the last of them is over; `deadline_ms` is when the first is."""
        self.deadline_ms = min(self.deadline_ms, *deadlines)

    # ------------------------------------------------------------ answers

    def _agree(self, sender: str, but: Sequence[int], now: Instant) -> None:
        """A replica says yes to all, but for those at some places, of which it says more."""
        if not self._quorum.is_waiting_for(sender):
            return
        for at in but:
            self._part(at)
        self._quorum.add_ack(sender)
        for at, one in self._listening():
            if at not in but:
                self._tell_agreed(one, sender, now)
        self._consider()

    def _consider(self) -> None:
        quorum = self._quorum
        if not self.answered and len(quorum.filled) >= quorum.needed:
            self.answered = True
            self._answer_all(tuple(quorum.acked))
        self.done = quorum.complete and not self._listening()

    @abstractmethod
    def _answer_all(self, acked: tuple[str, ...]) -> None:
        """Answer those that have not left the batch."""

    @abstractmethod
    def _tell_agreed(self, one: RequestCoordinator, sender: str, now: Instant) -> None:
        """Tell a request that has left that a replica says yes to it."""

    # ------------------------------------------------------------ leaving the batch

    @abstractmethod
    def _alone(self, at: int) -> RequestCoordinator:
        """A coordinator for the request at this place, as far as the batch has come."""

    def _part(self, at: int) -> RequestCoordinator:
        """The request at this place, on its own from now on. Raises `ProtocolError`."""
        one = self._apart.get(at)
        if one is None:
            if not 0 <= at < len(self._requests):
                raise ProtocolError(f"a batch of {len(self._requests)} has no number {at}.")
            one = self._apart[at] = self._alone(at)
            self._ids[at] = one.id
            self.size -= 1
            self._table.adopt(one)
        return one

    def _part_all(self) -> None:
        for at in range(len(self._requests)):
            self._part(at)

    def _listening(self) -> list[tuple[int, RequestCoordinator]]:
        """Those that left and wait for answers to the batch's messages, with their places."""
        ids = self._ids
        return [(at, one) for at, one in self._apart.items() if not one.done and one.id == ids[at]]

    def _part_to_hear(self, sender: str, at: int) -> RequestCoordinator | None:
        """Who at this place is to hear of an answer about it alone; None if nobody is any more.

        Raises `ProtocolError`.
        """
        if at not in self._apart and not self._quorum.is_waiting_for(sender):
            return None
        one = self._part(at)
        return one if one.id == self._ids[at] else None

    @property
    def _matters(self) -> bool:
        """Whether anything is still to be decided when replicas are silent."""
        return not self.answered

    def on_link_lost(self, peer: str, now: Instant) -> None:
        if not self._quorum.is_waiting_for(peer):
            return
        if self._matters:
            self._part_all()
        self._quorum.add_failure(peer)
        for _, one in self._listening():
            self._table.step(one, now, one.on_link_lost, peer)
        self._consider()

    def on_deadline(self, now: Instant) -> None:
        if self._matters:
            self._part_all()
        self.deadline_ms = self._ends_ms
        if self.is_over(now) or not self._listening():
            self.done = True  # else some have more time, and hear answers through this


class Grouping(Generic[Batch]):
    """The batches that the requests of a frame make up, by who owns their keys."""

    def __init__(self, state: NodeState, new_batch: Callable[[Slots], Batch]) -> None:
        self.batches: list[Batch] = []
        """In the order in which they were begun."""
        self._bytes_max = min(BATCH_BYTES_MAX, state.limits.frame_bytes_max // 2)
        self._state = state
        self._new_batch = new_batch
        self._owners = state.map.owners
        self._by_owners: dict[tuple[str, ...], Batch | None] = {}
        self._newest: dict[tuple[str, ...], Batch] = {}
        """The batch begun last for these other replicas."""

    def batch_for(self, partition: int) -> Batch | None:
        """A batch with the replicas of this partition; None if a request goes alone there, as an
        owner is away, or this node is none."""
        row = self._owners[partition]
        try:
            return self._by_owners[row]
        except KeyError:
            batch = self._by_owners[row] = self._find(partition)
            return batch

    def _find(self, partition: int) -> Batch | None:
        state = self._state
        slots = choose_slots(state, partition, 0)
        if slots.degraded or state.name not in slots.by_node:
            return None
        batch = self._newest.get(slots.others)
        return self._begin(slots) if batch is None else batch

    def _begin(self, slots: Slots) -> Batch:
        batch = self._newest[slots.others] = self._new_batch(slots)
        self.batches.append(batch)
        return batch

    def add(self, batch: Batch, request: Any, partition: int, done: Any, size_bytes: int) -> None:
        """Add a request to this batch, or to another for the same replicas if that would be too
        much for it."""
        if not self._has_room(batch, 1, size_bytes):
            batch = self._newest[batch.slots.others]
            if not self._has_room(batch, 1, size_bytes):
                batch = self._begin(batch.slots)
        batch.add(request, partition, done, size_bytes)

    def add_all(
        self,
        batch: Batch,
        requests: Sequence[Any],
        partitions: Sequence[int],
        done: Sequence[Any],
        sizes_bytes: Sequence[int],
    ) -> None:
        """Add requests to this batch, and to others for the same replicas if they are too many."""
        total_bytes = sum(sizes_bytes)
        if self._has_room(batch, len(requests), total_bytes):
            batch.add_all(requests, partitions, done, total_bytes)
        else:
            for one in zip(requests, partitions, done, sizes_bytes, strict=True):
                self.add(batch, *one)

    def _has_room(self, batch: Batch, count: int, size_bytes: int) -> bool:
        return batch.size + count <= BATCH_MAX and batch.bytes + size_bytes <= self._bytes_max
