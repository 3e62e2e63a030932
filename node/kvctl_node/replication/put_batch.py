"""Puts that came together and are stored by the same replicas (`request_batch`)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import repeat
from typing import Final, NamedTuple

import msgspec

from kvctl_node.causality.causal_context import EMPTY_CONTEXT, CausalContext
from kvctl_node.causality.siblings import EMPTY_OBJECT, StoredObject, encode_context
from kvctl_node.errors import OverloadedError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import ClientPut, PutDone, PutKind, PutsDone, ReplyMessage
from kvctl_node.protocol.messages import ReplicaPutReport, ReplicaPuts
from kvctl_node.replication.new_copies import may_be_held, mint_new
from kvctl_node.replication.prior_read import copy_to_overwrite
from kvctl_node.replication.put_coordinator import PutCoordinator
from kvctl_node.replication.replica import Minted
from kvctl_node.replication.request import Origin, RequestCoordinator
from kvctl_node.replication.request_batch import (
    Grouping,
    RequestBatch,
    RequestTable,
    least_deadline_ms,
)
from kvctl_node.replication.request_checks import check_put
from kvctl_node.replication.slots import Slots
from kvctl_node.ring.placed_keys import PlacedKeys

OVERHEAD_BYTES: Final = 64
"""Of a put in a message, besides key, object and requests."""
SLICE_BYTES: Final = 64 * 1024
"""Before so much more is stored, the storage is asked whether it takes it."""
_OVERWRITE: Final = int(PutKind.OVERWRITE)
_CONTEXT: Final = int(PutKind.CONTEXT)


class Stored(NamedTuple):
    """A put as it was stored here, in this turn."""

    minted: Minted
    before: StoredObject | None
    """The copy on which an overwrite was built, None for another put."""


class PutBatch(RequestBatch[ClientPut, Stored]):
    """Coordinates first attempts of puts: all of them overwrite, or none does."""

    __slots__ = ("overwrites",)

    def __init__(
        self,
        state: NodeState,
        table: RequestTable,
        client: bytes,
        slots: Slots,
        now: Instant,
        *,
        overwrites: bool,
    ) -> None:
        super().__init__(state, table, client, slots, now)
        self.overwrites = overwrites
        """Whether its puts overwrite."""

    def store(
        self, requests: Sequence[ClientPut], placed: PlacedKeys, grouping: Grouping[PutBatch]
    ) -> list[ClientPut]:
        """Store puts here, all new keys together, and add them to this batch or to another of
        `grouping` with the same replicas; returns what has to go alone instead and was not stored.
        """
        state = self.state
        alone: list[ClientPut] = []
        held = may_be_held(state, placed)
        new = [at for at in range(len(requests)) if at not in held]
        # To overwrite nothing takes evidence that there is nothing.
        evident = state.replica.all_evident or not self.overwrites
        for some in _slices(new, requests):
            of_new = [requests[at] for at in some]
            if evident and state.storage.accepts_writes():
                self._store_new(of_new, placed.at(some), grouping)
            else:
                alone += of_new
        for at in sorted(held):
            request, partition = requests[at], placed.partitions[at]
            stored = self._store(request, partition)
            if stored is None:
                alone.append(request)
            else:
                size_bytes = _size_bytes(request, stored.minted)
                grouping.add(self, request, partition, stored, size_bytes)
        return alone

    def _store_new(
        self, requests: Sequence[ClientPut], placed: PlacedKeys, grouping: Grouping[PutBatch]
    ) -> None:
        before = EMPTY_OBJECT if self.overwrites else None
        minted = mint_new(self.state, placed, requests, self._began.wall_ms)
        done = list(map(Stored, minted, repeat(before)))
        sizes_bytes = list(map(_size_bytes, requests, minted))
        grouping.add_all(self, requests, placed.partitions, done, sizes_bytes)

    def _store(self, request: ClientPut, partition: int) -> Stored | None:
        """Store it beside or over what is here; None if that is not to be done in a batch."""
        state, copy = self.state, None
        if self.overwrites:
            copy = copy_to_overwrite(state, request, partition, self.slots)
            if copy is None:
                return None
        if not state.storage.accepts_writes():
            return None
        try:
            minted = state.replica.mint(
                partition,
                request.key,
                request.value,
                seen=None if self.overwrites else EMPTY_CONTEXT,
                request=(request.client, request.sequence),
                attempt=request.attempt,
                stamp_ms=self._began.wall_ms,
                copy=copy,
            )
        except OverloadedError:
            return None
        return Stored(minted, None if copy is None else copy.stored)

    def start(self, now: Instant) -> None:
        quorum = self._defaults
        # Overwriting needs R witnesses of what was there, and an acknowledgement is one.
        self._begin(max(quorum.w, quorum.r) if self.overwrites else quorum.w)
        puts = []
        for request, (minted, _) in zip(self._requests, self._done_here, strict=True):
            content, recent = minted.record.content, minted.record.recent
            puts.append((request.key, content, recent, minted.base, minted.base_recent))
        message = ReplicaPuts(self.id, puts, self._ends_ms, self.overwrites)
        self.state.outbox.send_to_all(self.slots.others, message)
        self._consider()

    def on_replica_put_ack(self, sender: str, now: Instant) -> None:
        self._agree(sender, (), now)

    def on_replica_put_ack_but(self, sender: str, but: Sequence[int], now: Instant) -> None:
        self._agree(sender, but, now)

    def on_replica_put_report(self, sender: str, message: ReplicaPutReport, now: Instant) -> None:
        one = self._part_to_hear(sender, message.at)
        if one is not None:
            self._table.step(one, now, one.on_replica_put_report, sender, message)

    def _tell_agreed(self, one: RequestCoordinator, sender: str, now: Instant) -> None:
        self._table.step(one, now, one.on_replica_put_ack, sender)

    def _answer_all(self, acked: tuple[str, ...]) -> None:
        """Those that were minted together, as new keys are, have one context and share a reply."""
        apart = self._apart
        replies: list[ReplyMessage] = []
        context: CausalContext | None = None
        sharing: list[int] = []
        """The ids that the last reply is for, once they are several."""
        for at, (request, (minted, _)) in enumerate(
            zip(self._requests, self._done_here, strict=True)
        ):
            if at in apart:
                continue
            if minted.answer is not context:
                context, sharing = minted.answer, []
                encoded = encode_context(context)
                done = PutDone(request.id, encoded, minted.siblings, self.state.name, acked)
                replies.append(done)
                continue
            if not sharing:
                sharing = [done.id]
                replies[-1] = PutsDone(sharing, done)
            sharing.append(request.id)
        self.state.outbox.reply_all(self.origin.client, replies)

    def _consider(self) -> None:
        super()._consider()
        if self.overwrites and len(self._quorum.acked) == len(self.slots.by_node):
            note, apart = self.state.replica.shared.note, self._apart
            for at, (request, done) in enumerate(zip(self._requests, self._done_here, strict=True)):
                if at not in apart:
                    note(request.key, done.minted.record)

    @property
    def _matters(self) -> bool:
        """Who did not acknowledge gets a hint, whether the client has its answer or not."""
        return not self._quorum.complete

    def _alone(self, at: int) -> PutCoordinator:
        request = msgspec.structs.replace(
            self._requests[at], w=self._defaults.w, mode=self._default_mode
        )
        origin = Origin(self.origin.client, request.id)
        one = PutCoordinator(
            self.state, request, self._partitions[at], self.slots, origin, self._began
        )
        one.go_on(*self._done_here[at], self._quorum.copy(), answered=self.answered)
        return one


def _slices(indices: Sequence[int], requests: Sequence[ClientPut]) -> Iterator[Sequence[int]]:
    """These puts in parts of `SLICE_BYTES` of values, if need be with one value more."""
    begin = size_bytes = 0
    for end, at in enumerate(indices, 1):
        value = requests[at].value
        size_bytes += 0 if value is None else len(value)
        if size_bytes >= SLICE_BYTES:
            yield indices[begin:end]
            begin, size_bytes = end, 0
    if begin < len(indices):
        yield indices[begin:]


def _size_bytes(request: ClientPut, minted: Minted) -> int:
    """What a put takes in the message to a replica."""
    record = minted.record
    return len(request.key) + len(record.content) + len(record.recent) + OVERHEAD_BYTES


def batches_of_puts(
    state: NodeState,
    table: RequestTable,
    client: bytes,
    requests: Sequence[ClientPut],
    now: Instant,
) -> tuple[list[PutBatch], list[ClientPut]]:
    """The puts of a frame in batches, stored here and to be started, and those that have to go
    alone and were not stored. HOT PATH.

    A put goes alone if anything about it is special: what it asks for, how long it may take, an
    owner that is away, a retry, a context, or a copy here on which it cannot build.
    """
    usual_w = (0, state.quorum.w)
    least_ms = least_deadline_ms(state, now)
    placed = state.map.placed([request.key for request in requests])

    def grouping(*, overwrites: bool) -> Grouping[PutBatch]:
        return Grouping(
            state,
            lambda slots: PutBatch(state, table, client, slots, now, overwrites=overwrites),
        )

    overwriting, blind = grouping(overwrites=True), grouping(overwrites=False)
    members: defaultdict[PutBatch, list[int]] = defaultdict(list)
    alone: list[ClientPut] = []
    for at, (request, partition) in enumerate(zip(requests, placed.partitions, strict=True)):
        kind, batch = request.kind, None
        if not (
            kind == _CONTEXT
            or request.deadline_ms < least_ms
            or request.attempt
            or request.w not in usual_w
            or request.mode
            or check_put(state, request, now) is not None
        ):
            batch = (overwriting if kind == _OVERWRITE else blind).batch_for(partition)
        if batch is None:
            alone.append(request)
        else:
            members[batch].append(at)
    for batch, indices in members.items():
        grouping_of_batch = overwriting if batch.overwrites else blind
        puts = [requests[at] for at in indices]
        alone += batch.store(puts, placed.at(indices), grouping_of_batch)
    return overwriting.batches + blind.batches, alone
