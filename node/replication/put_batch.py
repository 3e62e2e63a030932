"""Puts that came together and are stored by the same replicas (`request_batch`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec

from node.causality.causal_context import EMPTY_CONTEXT
from node.causality.siblings import StoredObject, encode_context
from node.errors import OverloadedError
from node.node_state import NodeState
from node.ports import Instant
from node.protocol.client_messages import ClientPut, PutDone, PutKind
from node.protocol.messages import ReplicaPutReport, ReplicaPuts
from node.replication.prior_read import copy_to_overwrite
from node.replication.put_coordinator import PutCoordinator
from node.replication.replica import Minted
from node.replication.request import Origin, RequestCoordinator
from node.replication.request_batch import Grouping, RequestBatch, RequestTable, least_deadline_ms
from node.replication.request_checks import check_put
from node.replication.slots import Slots

OVERHEAD_BYTES: Final = 64
"""Of a put in a message, besides key, object and requests."""
_OVERWRITE: Final = int(PutKind.OVERWRITE)
_CONTEXT: Final = int(PutKind.CONTEXT)


class Stored(NamedTuple):
    """A put as it was stored here, in this turn."""

    minted: Minted
    before: StoredObject | None
    """The copy on which an overwrite was built, None for another put."""


class PutBatch(RequestBatch[ClientPut, Stored]):
    """Coordinates first attempts of puts: all of them overwrite, or none does."""

    __slots__ = ("_overwrites",)

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
        self._overwrites = overwrites

    def start(self, now: Instant) -> None:
        quorum = self._defaults
        # Overwriting needs R witnesses of what was there, and an acknowledgement is one.
        self._begin(max(quorum.w, quorum.r) if self._overwrites else quorum.w)
        puts = []
        for request, (minted, _) in zip(self._requests, self._done_here, strict=True):
            content, recent = minted.record.content, minted.record.recent
            puts.append((request.key, content, recent, minted.base, minted.base_recent))
        message = ReplicaPuts(self.id, puts, self._ends_ms, self._overwrites)
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
        name, apart = self.state.name, self._apart
        puts = enumerate(zip(self._requests, self._done_here, strict=True))
        self.state.outbox.reply_all(
            self.origin.client,
            [
                PutDone(request.id, encode_context(minted.answer), minted.siblings, name, acked)
                for at, (request, (minted, _)) in puts
                if at not in apart
            ],
        )

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
    replica, accepts_writes = state.replica, state.storage.accepts_writes
    partition_of = state.map.partition_of
    usual_w = (0, state.quorum.w)
    least_ms = least_deadline_ms(state, now)

    def grouping(*, overwrites: bool) -> Grouping[PutBatch]:
        return Grouping(
            state,
            lambda slots: PutBatch(state, table, client, slots, now, overwrites=overwrites),
        )

    overwriting, blind = grouping(overwrites=True), grouping(overwrites=False)
    alone: list[ClientPut] = []
    for request in requests:
        key = request.key
        if (
            request.deadline_ms < least_ms
            or request.kind == _CONTEXT
            or request.attempt
            or request.w not in usual_w
            or request.mode
            or check_put(state, request, now) is not None
            or not accepts_writes()
        ):
            alone.append(request)
            continue
        overwrites = request.kind == _OVERWRITE
        alike = overwriting if overwrites else blind
        partition = partition_of(key)
        batch = alike.batch_for(partition)
        copy = None
        if batch is not None and overwrites:
            copy = copy_to_overwrite(state, request, partition, batch.slots)
        if batch is None or (overwrites and copy is None):
            alone.append(request)
            continue
        try:
            minted = replica.mint(
                partition,
                key,
                request.value,
                seen=None if overwrites else EMPTY_CONTEXT,
                request=(request.client, request.sequence),
                stamp_ms=now.wall_ms,
                shared_by_all=False,
                copy=copy,
            )
        except OverloadedError:
            alone.append(request)
        else:
            record = minted.record
            size_bytes = len(key) + len(record.content) + len(record.recent) + OVERHEAD_BYTES
            stored = Stored(minted, None if copy is None else copy.stored)
            alike.with_room(batch, size_bytes).add(request, partition, stored, size_bytes)
    return overwriting.batches + blind.batches, alone
