"""Puts that came together and are stored by the same replicas (`request_batch`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from node.causality.causal_context import EMPTY_CONTEXT
from node.causality.siblings import EMPTY_OBJECT, StoredObject, encode_context
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
from node.replication.slots import Slots

OVERHEAD_BYTES: Final = 64
"""Of a put in a message, besides key, object and requests."""
_OVERWRITE: Final = int(PutKind.OVERWRITE)
_KINDS: Final = (_OVERWRITE, int(PutKind.BLIND))


class PutBatch(RequestBatch[ClientPut]):
    """Coordinates first attempts of puts: all of them overwrite, or none does."""

    __slots__ = ("_before", "_minted", "_overwrites")

    def __init__(
        self,
        state: NodeState,
        table: RequestTable,
        client: bytes,
        deadline_ms: int,
        slots: Slots,
        now: Instant,
        *,
        overwrites: bool,
    ) -> None:
        super().__init__(state, table, client, deadline_ms, slots, now)
        self._overwrites = overwrites
        self._minted: list[Minted] = []
        self._before: list[StoredObject] = []
        """The copies on which overwrites were built."""

    def add(
        self,
        request: ClientPut,
        partition: int,
        minted: Minted,
        before: StoredObject,
        size_bytes: int,
    ) -> None:
        """One more, stored here in this turn; `size_bytes`: what is sent of it. Before `start`."""
        self._take(request, partition, size_bytes)
        self._minted.append(minted)
        self._before.append(before)

    def start(self, now: Instant) -> None:
        quorum = self._defaults
        # Overwriting needs R witnesses of what was there, and an acknowledgement is one.
        self._begin(max(quorum.w, quorum.r) if self._overwrites else quorum.w)
        puts = []
        for request, one in zip(self._requests, self._minted, strict=True):
            record = one.record
            puts.append((request.key, record.content, record.recent, one.base, one.base_recent))
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
        puts = enumerate(zip(self._requests, self._minted, strict=True))
        self.state.outbox.reply_all(
            self.origin.client,
            [
                PutDone(request.id, encode_context(minted.answer), minted.siblings, name, acked)
                for at, (request, minted) in puts
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
        before = self._before[at] if self._overwrites else None
        one.go_on(self._minted[at], before, self._quorum.copy(), answered=self.answered)
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
    replica, limits, accepts_writes = state.replica, state.limits, state.storage.accepts_writes
    partition_of = state.map.partition_of
    key_bytes_max, value_bytes_max = limits.key_bytes_max, limits.value_bytes_max
    usual_w = (0, state.quorum.w)
    latest_ms = now.wall_ms + state.timing.replica_timeout_ms
    least_ms = least_deadline_ms(state, now)

    def grouping(*, overwrites: bool) -> Grouping[PutBatch]:
        return Grouping(
            state,
            lambda slots: PutBatch(
                state, table, client, latest_ms, slots, now, overwrites=overwrites
            ),
        )

    overwriting, blind = grouping(overwrites=True), grouping(overwrites=False)
    alone: list[ClientPut] = []
    for request in requests:
        key, value = request.key, request.value
        if (
            request.deadline_ms < least_ms
            or request.kind not in _KINDS
            or request.attempt
            or request.w not in usual_w
            or request.mode
            or not 0 < len(key) <= key_bytes_max
            or (value is not None and len(value) > value_bytes_max)
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
                value,
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
            before = EMPTY_OBJECT if copy is None else copy.stored
            alike.with_room(batch, size_bytes).add(request, partition, minted, before, size_bytes)
    return overwriting.batches + blind.batches, alone
