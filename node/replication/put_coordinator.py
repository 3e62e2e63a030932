"""One put, from the client's request to the last replica's acknowledgement.

    start ──┬─ usually ────────────────────────────▶ store locally, send to the rest
            │                                          │
            └─ a retry, or an overwrite whose local    ▼
               copy proves nothing ▶ READING ──▶ REPLICATING ── W acks ──▶ answer
                                       │           ▲   │  │ too few: indeterminate
                      too few: unavailable         │   ▼  ▼
                                       (once) REPLACING  collects until all answered

The line between "definitely not stored" and "may be stored" is the local store: before it every
failure is `unavailable` or a refusal, from it on every miss is `indeterminate`, whatever the reason
(Dynamo §4.5; the distinction itself is Maelstrom's).

An overwriting put supersedes what a read quorum holds now. Asking first would cost a round trip
that almost always learns nothing, so the put supersedes what the coordinator's own copy holds and
goes out at once, and a replica whose copy was another one reports it with its acknowledgement. When
W have stored it and R have given evidence (R answers meet every write that W acknowledged, as long
as R + W > N), either nothing new was reported, or the write gets a second dot, once, which covers
what was (`causality.siblings` says why a new one). In the meantime a reader may see both versions
as siblings; whoever waits for the answer does not.

A retry reads first, to find out whether an earlier attempt was applied. So does an overwrite whose
clock is long enough to be shortened, for which all copies have to be known as identical.
"""

from __future__ import annotations

from typing import Final

from node.causality.causal_context import EMPTY_CONTEXT, CausalContext, Dot
from node.causality.context_token import decode_token
from node.causality.recent_requests import decode_recent, mentions
from node.causality.siblings import (
    EMPTY_OBJECT,
    StoredObject,
    decode_object,
)
from node.config import QuorumMode
from node.errors import CorruptRecordError, FailureKind, OverloadedError, WrongContextError
from node.node_state import NodeState
from node.ports import Instant, Record
from node.protocol.client_messages import (
    ClientPut,
    PutDone,
    PutKind,
)
from node.protocol.messages import (
    ReplicaGet,
    ReplicaGetReply,
    ReplicaPut,
    ReplicaPutReport,
)
from node.replication.put_answers import (
    earlier_attempt_hidden,
    put_done,
    read_in_vain,
    takes_no_writes,
    too_few_acknowledged,
    too_few_reachable,
    too_few_witnesses,
)
from node.replication.quorum import Outcome, Quorum
from node.replication.read_round import ReadRound
from node.replication.replica import Copy, Minted
from node.replication.request import Origin, RequestCoordinator, Subject
from node.replication.slots import Slots

# Plain integers and names: reading a member of an enum costs as much as a small call.
_OVERWRITE: Final = int(PutKind.OVERWRITE)
_CONTEXT: Final = int(PutKind.CONTEXT)
_REACHED, _MISSED = Outcome.REACHED, Outcome.MISSED
_SLOPPY: Final = QuorumMode.SLOPPY


class PutCoordinator(RequestCoordinator):
    """Coordinates one put or delete at a primary of its key."""

    __slots__ = (
        "_answer",
        "_before",
        "_dot",
        "_given",
        "_partition",
        "_quorum",
        "_reading",
        "_reads",
        "_record",
        "_reporting",
        "_request",
        "_siblings",
        "_sloppy",
        "_slots",
        "_w",
    )

    def __init__(
        self,
        state: NodeState,
        request: ClientPut,
        partition: int,
        slots: Slots,
        origin: Origin,
        now: Instant,
    ) -> None:
        super().__init__(state, origin, request.deadline_ms, now)
        self._request = request
        self._partition = partition
        self._slots = slots
        self._w = request.w or state.quorum.w
        self._sloppy = state.mode_of(request.mode) is _SLOPPY
        self._given: CausalContext = EMPTY_CONTEXT
        self._reading = False
        """The copies are asked for first; nothing is stored yet."""
        self._reporting = False
        """Whether the replicas report what they held before."""
        self._reads: ReadRound | None = None
        """What is known of the other copies; None while all seem to be the local one."""
        self._before: StoredObject = EMPTY_OBJECT
        """The local copy on which an overwrite was built."""

    def start(self, now: Instant) -> None:
        state, request = self.state, self._request
        if len(self._slots.by_node) < self._w:
            self.refuse(too_few_reachable(self.origin.request_id, self._slots, self._w))
            return
        if not state.storage.accepts_writes():
            self.refuse(takes_no_writes(self.origin.request_id, state.name))
            return
        if request.kind == _CONTEXT:
            try:
                self._given = decode_token(
                    request.context, cluster_id=state.config.cluster_id, key=request.key
                )
            except WrongContextError as error:
                self.fail_with(error, FailureKind.WRONG_CONTEXT)
                return
        if request.attempt:
            self._read(now)
            return
        if request.kind != _OVERWRITE:
            self._replicate_new(self._given, now)
            return
        copy = self._copy_to_overwrite()
        if copy is None:
            self._read(now)
        else:
            self._reporting, self._before = True, copy.stored
            self._replicate_new(None, now, copy)

    # ------------------------------------------------------------ reading first

    def _copy_to_overwrite(self) -> Copy | None:
        """The local copy, if it is worth building on without asking anybody first; else None."""
        state, request = self.state, self._request
        replica = state.replica
        if len(self._slots.by_node) < state.quorum.r:
            return None
        if not replica.is_evidence(self._partition, request.key):
            return None
        try:
            local = replica.read(self._partition, request.key)
        except CorruptRecordError:
            return None
        if local is None:
            if self._slots.stand_ins and self._slots.stands_for(state.name):
                return None
            return Copy(None, EMPTY_OBJECT)
        if mentions(local.recent, request.client, request.sequence):
            return None
        stored = decode_object(local.content)
        if len(stored.context.vector) >= state.limits.clock_entries:
            return None
        return Copy(local, stored)

    def _read(self, now: Instant) -> None:
        """Ask every reachable primary for its copy, unless it is the same as ours."""
        state, request = self.state, self._request
        self._reading = True
        reads = self._reads = self._new_round()
        local: Record | None = None
        try:
            local = state.replica.read(self._partition, request.key)
        except CorruptRecordError:
            reads.quorum.add_failure(state.name)
        else:
            stands_in = local is None and self._slots.stands_for(state.name)
            if stands_in or not state.replica.is_evidence(self._partition, request.key):
                reads.quorum.add_failure(state.name)
            else:
                reads.add_same(state.name)
        if local is not None:
            reads.known = decode_object(local.content)
            reads.recent = decode_recent(local.recent)
        # A retry needs the request ids too, which a conditional read of equal copies would omit.
        known = b"" if local is None or request.attempt else local.digest
        message = ReplicaGet(self.id, request.key, known, self.deadline_ms)
        for node in self._slots.others:
            state.outbox.send(node, message)
        self._consider_read(reads, now)

    def _new_round(self, *agreeing: str) -> ReadRound:
        state = self.state
        return ReadRound(
            state.quorum.r,
            self._slots.by_node,
            recent_max=state.limits.recent_requests_max,
            agreeing=agreeing,
        )

    def on_replica_same(self, sender: str, now: Instant) -> None:
        reads = self._reads
        if self._reading and reads is not None and reads.add_same(sender):
            self._consider_read(reads, now)

    def on_replica_get_reply(self, sender: str, message: ReplicaGetReply, now: Instant) -> None:
        reads = self._reads
        if self._reading and reads is not None and reads.quorum.is_waiting_for(sender):
            reads.add(sender, message.state, message.content, message.recent)
            self._consider_read(reads, now)

    def _consider_read(self, reads: ReadRound, now: Instant) -> None:
        outcome = reads.quorum.outcome
        if outcome is _MISSED:
            self._read_in_vain(reads, now)
        elif outcome is _REACHED:
            self._settle(reads, now)

    def _superseded(self, reads: ReadRound) -> CausalContext | None:
        """What the read quorum has seen; None when that is just what the local copy has seen."""
        if self._request.kind != _OVERWRITE:
            return self._given
        if not reads.differs:
            return None
        try:
            local = self.state.replica.read(self._partition, self._request.key)
        except CorruptRecordError:
            local = None
        if local is None:
            return reads.known.context
        return reads.known.context.union(decode_object(local.content).context)

    def _read_in_vain(self, reads: ReadRound, now: Instant) -> None:
        """Fewer than R replicas could say what they hold.

        A sloppy overwrite goes on and supersedes what it did learn of: versions it did not see stay
        as siblings, so nothing is lost. A retry may not, as it could apply the request twice, and
        strict mode promises that an overwrite has seen a quorum.
        """
        if self._request.attempt or not self._sloppy:
            self._fail_reading(reads)
        else:
            self._replicate_new(self._superseded(reads), now)

    def _fail_reading(self, reads: ReadRound) -> None:
        self.refuse(read_in_vain(self.origin.request_id, reads.quorum))

    def _settle(self, reads: ReadRound, now: Instant) -> None:
        """The read quorum is there: find the request's dot before minting one.

        A first attempt is looked up as well: it may have been delayed, and its retry been applied
        and overwritten meanwhile; minting now would bring back a value that is long superseded.
        """
        request, state = self._request, self.state
        dot = reads.recent.find(request.client, request.sequence)
        if dot is not None and reads.known.siblings:
            record = state.replica.adopt(self._partition, request.key, reads.known, reads.recent)
            self._replicate_found(record, dot, now)
        elif request.attempt and not reads.recent.decides(
            request.client, request.sequence, request.started_ms, state.timing.clock_skew_ms
        ):
            self.refuse(earlier_attempt_hidden(self.origin.request_id))
        else:
            self._replicate_new(self._superseded(reads), now)

    def _replicate_found(self, record: Record, dot: Dot, now: Instant) -> None:
        """The request was applied before, as `dot`: see that W replicas have what came of it."""
        stored = decode_object(record.content)
        if self._request.kind == _OVERWRITE and [one.dot for one in stored.siblings] == [dot]:
            answer = stored.context  # its value is all there is; else others came after it
        else:
            answer = self._given.with_dot(dot.actor, dot.counter, 0)
        self._replicate(Minted(record, dot, b"", 0, len(stored.siblings), answer), now)

    # ------------------------------------------------------------ replicating

    def _replicate_new(
        self, seen: CausalContext | None, now: Instant, copy: Copy | None = None
    ) -> None:
        request = self._request
        if now.wall_ms > self.deadline_ms and self._reads is not None:
            # A node that was stalled in the middle must not act on what it began long ago.
            self._fail_reading(self._reads)
            return
        try:
            minted = self.state.replica.mint(
                self._partition,
                request.key,
                request.value,
                seen=seen,
                request=(request.client, request.sequence),
                stamp_ms=now.wall_ms,
                shared_by_all=self._all_primaries_identical(),
                copy=copy,
            )
        except OverloadedError as error:
            self.fail_with(error, FailureKind.OVERLOADED)
            return
        self._replicate(minted, now)

    def _all_primaries_identical(self) -> bool:
        """Whether the read round saw all N primaries hold exactly the local copy."""
        reads = self._reads
        return (
            self._request.kind == _OVERWRITE
            and reads is not None
            and not reads.differs
            and len(reads.quorum.acked) == len(self.state.map.owners[self._partition])
        )

    def _replicate(self, minted: Minted, now: Instant) -> None:
        """The local copy is stored (durable with this turn): send it to the other primaries."""
        state, slots = self.state, self._slots
        self._siblings, self._answer = minted.siblings, minted.answer
        self._record, self._dot = minted.record, minted.dot
        needed = self._w
        if self._reading:
            self._reading, self._reads = False, None
        elif self._reporting and needed < state.quorum.r:
            needed = state.quorum.r  # so many evident acknowledgements, unless one is not
        self._quorum = Quorum(needed, slots.by_node)
        self._quorum.add_ack(state.name)
        message = self._replica_put(minted, "")
        if slots.degraded:
            self._replicate_degraded(message, minted, now)
        else:
            for node in slots.others:
                state.outbox.send(node, message)
        self._consider_acks(now)

    def _replicate_degraded(self, message: ReplicaPut, minted: Minted, now: Instant) -> None:
        """Some primary is away: whoever stands in for it is told so, or it gets a hint here."""
        state, stand_ins = self.state, self._slots.stand_ins
        if state.name in stand_ins:
            self._keep_hint(stand_ins[state.name], now, counted=True)
        for primary in self._slots.missing:
            self._keep_hint(primary, now, counted=False)
        for node in self._slots.others:
            if node in stand_ins:
                state.outbox.send(node, self._replica_put(minted, stand_ins[node]))
            else:
                state.outbox.send(node, message)

    def _replica_put(self, minted: Minted, stands_for: str) -> ReplicaPut:
        record = minted.record
        return ReplicaPut(
            self.id,
            self._request.key,
            record.content,
            record.recent,
            self.deadline_ms,
            minted.base,
            stands_for,
            self._reporting,
            minted.base_recent,
        )

    def _keep_hint(self, primary: str, now: Instant, *, counted: bool) -> None:
        self.state.handoff.keep(
            primary,
            self._partition,
            self._request.key,
            self._record.content,
            self._record.recent,
            now,
            counted=counted,
        )

    def on_replica_put_ack(self, sender: str, now: Instant) -> None:
        if not self._reading and self._quorum.add_ack(sender):
            if self._reads is not None:
                self._reads.add_same(sender)
            self._consider_acks(now)

    def on_replica_put_report(self, sender: str, message: ReplicaPutReport, now: Instant) -> None:
        if self._reading or not self._quorum.is_waiting_for(sender):
            return
        if self._reporting and not self.answered:
            reads = self._begin_reads()
            reads.add(sender, message.state, message.content, message.recent)
        self._quorum.add_ack(sender)
        self._consider_acks(now)

    def _begin_reads(self) -> ReadRound:
        """Acknowledgement and evidence are not the same any more: count them apart."""
        if self._reads is None:
            self._reads = self._new_round(*self._quorum.acked)
            self._quorum.needed = self._w
        return self._reads

    def _consider_acks(self, now: Instant) -> None:
        quorum = self._quorum
        if not self.answered:
            if len(quorum.acked) < quorum.needed and not quorum.failed:
                return  # the usual case: the first of several
            outcome = quorum.outcome
            if outcome is _REACHED:
                if self._reads is None:
                    self.answer(self._success())
                else:
                    self._consider_reports(self._reads, now)
            elif outcome is _MISSED:
                self._fail_replicating()
        self.done = self._quorum.complete

    # ------------------------------------------------------------ replacing

    def _consider_reports(self, reads: ReadRound, now: Instant) -> None:
        """W replicas have stored the overwrite: is it known what it should have superseded?"""
        outcome = reads.quorum.outcome
        if outcome is _REACHED or (outcome is _MISSED and self._sloppy):
            if reads.goes_beyond(decode_object(self._record.content)):
                self._replace(reads, now)
            else:
                self.answer(self._success())
        elif outcome is _MISSED:
            self.answer(too_few_witnesses(self.origin.request_id, reads.quorum))

    def _replace(self, reads: ReadRound, now: Instant) -> None:
        """Give the write a second dot, which covers what was reported, and replicate that."""
        state, request = self.state, self._request
        if now.wall_ms > self.deadline_ms or not state.storage.accepts_writes():
            self._fail_replicating()
            return
        applied = reads.recent.find_besides(request.client, request.sequence, self._dot)
        if applied is not None:
            self._take_back(reads, applied, now)
            return
        replacement = state.replica.replace(
            self._partition,
            request.key,
            dot=self._dot,
            known=reads.known,
            seen=self._answer,
            request=(request.client, request.sequence),
            stamp_ms=now.wall_ms,
        )
        if replacement is None:
            self.answer(self._success())  # superseded already, and what else there was is kept
        else:
            self._replicate_again(replacement, now)

    def _take_back(self, reads: ReadRound, applied: Dot, now: Instant) -> None:
        """An earlier attempt had been applied after all, and something came after it."""
        record = self.state.replica.retract(
            self._partition, self._request.key, self._dot, reads.known, self._before.siblings
        )
        if record is None:
            self._fail_replicating()
        else:
            stored = decode_object(record.content)
            answer = self._given.with_dot(applied.actor, applied.counter, 0)
            again = Minted(record, applied, b"", 0, len(stored.siblings), answer)
            self._replicate_again(again, now)

    def _replicate_again(self, minted: Minted, now: Instant) -> None:
        """The second and last round, under an id of its own: late answers to the first are moot."""
        absent = self._quorum.absent
        self._reporting, self._reads = False, None
        self.id = self.state.next_id()
        self._replicate(minted, now)
        for node in absent:
            self._lose(node, now)

    # ------------------------------------------------------------ answering

    def _success(self) -> PutDone:
        return put_done(
            self.origin.request_id,
            self._answer,
            self._siblings,
            self.state.name,
            self._quorum.acked,
            self._slots,
        )

    def _fail_replicating(self) -> None:
        acked = len(self._quorum.acked)
        self.answer(too_few_acknowledged(self.origin.request_id, acked, self._w))

    # ------------------------------------------------------------ losing somebody

    def on_link_lost(self, peer: str, now: Instant) -> None:
        if self._reading:
            reads = self._reads
            if reads is not None and reads.quorum.is_waiting_for(peer):
                reads.quorum.add_failure(peer)
                self._consider_read(reads, now)
        elif self._quorum.is_waiting_for(peer):
            self._lose(peer, now)

    def _lose(self, peer: str, now: Instant) -> None:
        """The peer will not acknowledge: it gets a hint, and is no evidence either."""
        if self._reporting and not self.answered:
            self._begin_reads().quorum.add_failure(peer)
        self._quorum.add_failure(peer)
        self._keep_hint(self._slots.by_node[peer], now, counted=False)
        self._consider_acks(now)

    def on_deadline(self, now: Instant) -> None:
        if self._reading:
            assert self._reads is not None
            self._fail_reading(self._reads)
            return
        for node, primary in self._slots.by_node.items():
            if self._quorum.is_waiting_for(node):
                self._keep_hint(primary, now, counted=False)
        if not self.answered:
            self._fail_replicating()
        self.done = True

    def subject(self) -> Subject:
        op = "del" if self._request.value is None else "put"
        return Subject(op, self._request.key, self._partition, self._slots)
