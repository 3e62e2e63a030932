"""Gets that came together and ask the same replicas (`request_batch`)."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from kvctl_node.errors import CorruptRecordError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant, Record
from kvctl_node.protocol.client_messages import ClientGet, GetDone
from kvctl_node.protocol.messages import ReplicaGetReply, ReplicaGets
from kvctl_node.replication.get_coordinator import GetCoordinator
from kvctl_node.replication.request import Origin, RequestCoordinator
from kvctl_node.replication.request_batch import (
    Grouping,
    RequestBatch,
    RequestTable,
    least_deadline_ms,
)
from kvctl_node.replication.request_checks import check_get

OVERHEAD_BYTES = 32
"""Of a get in a message, besides its key."""


class GetBatch(RequestBatch[ClientGet, Record]):
    """Coordinates gets that ask for nothing special; each with the copy here, which is evidence."""

    __slots__ = ()

    def start(self, now: Instant) -> None:
        self._begin(self._defaults.r)
        message = ReplicaGets(
            self.id,
            [
                (request.key, record.digest)
                for request, record in zip(self._requests, self._done_here, strict=True)
            ],
            self._ends_ms,
        )
        self.state.outbox.send_to_all(self.slots.others, message)
        self._consider()

    def on_replica_same(self, sender: str, now: Instant) -> None:
        self._agree(sender, (), now)

    def on_replica_same_but(self, sender: str, but: Sequence[int], now: Instant) -> None:
        self._agree(sender, but, now)

    def on_replica_get_reply(self, sender: str, message: ReplicaGetReply, now: Instant) -> None:
        one = self._part_to_hear(sender, message.at)
        if one is not None:
            self._table.step(one, now, one.on_replica_get_reply, sender, message)

    def _tell_agreed(self, one: RequestCoordinator, sender: str, now: Instant) -> None:
        self._table.step(one, now, one.on_replica_same, sender)

    def _answer_all(self, acked: tuple[str, ...]) -> None:
        name, apart = self.state.name, self._apart
        copies = enumerate(zip(self._requests, self._done_here, strict=True))
        self.state.outbox.reply_all(
            self.origin.client,
            [
                GetDone(request.id, record.content, name, acked)
                for at, (request, record) in copies
                if at not in apart
            ],
        )

    def _alone(self, at: int) -> GetCoordinator:
        request = msgspec.structs.replace(
            self._requests[at], r=self._defaults.r, mode=self._default_mode
        )
        origin = Origin(self.origin.client, request.id)
        one = GetCoordinator(
            self.state, request, self._partitions[at], self.slots, origin, self._began
        )
        one.go_on(self._done_here[at], self._quorum.copy(), answered=self.answered)
        return one


def batches_of_gets(
    state: NodeState,
    table: RequestTable,
    client: bytes,
    requests: Sequence[ClientGet],
    now: Instant,
) -> tuple[list[GetBatch], list[ClientGet]]:
    """The gets of a frame in batches, to be started, and those that have to go alone. HOT PATH.

    A get goes alone if anything about it is special: what it asks for, how long it may take, an
    owner that is away, or a copy here that is missing or damaged. The caller has made sure that
    copies are evidence (`Replica.all_evident`).
    """
    read, partition_of = state.storage.get, state.map.partition_of
    usual_r = (0, state.quorum.r)
    least_ms = least_deadline_ms(state, now)
    grouping = Grouping(state, lambda slots: GetBatch(state, table, client, slots, now))
    batch_for = grouping.batch_for
    alone: list[ClientGet] = []
    for request in requests:
        key = request.key
        if (
            request.deadline_ms >= least_ms
            and request.r in usual_r
            and not (request.mode or request.repair or request.explain)
            and check_get(state, request, now) is None
        ):
            partition = partition_of(key)
            batch = batch_for(partition)
            if batch is not None:
                try:
                    record = read(partition, key)
                except CorruptRecordError:
                    record = None
                if record is not None:
                    grouping.add(batch, request, partition, record, len(key) + OVERHEAD_BYTES)
                    continue
        alone.append(request)
    return grouping.batches, alone
