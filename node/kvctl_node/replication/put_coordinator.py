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

Where that will not do, a retry above all, the copies are asked for first (`prior_read`).
"""

from __future__ import annotations

from typing import Final

from kvctl_node.causality.causal_context import EMPTY_CONTEXT, CausalContext, Dot
from kvctl_node.causality.context_token import decode_token
from kvctl_node.causality.siblings import (
    EMPTY_OBJECT,
    StoredObject,
    decode_object,
)
from kvctl_node.config import QuorumMode
from kvctl_node.errors import FailureKind, OverloadedError, WrongContextError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant, Record
from kvctl_node.protocol.client_messages import (
    ClientPut,
    PutDone,
    PutKind,
)
from kvctl_node.protocol.messages import (
    ReplicaGetReply,
    ReplicaPut,
    ReplicaPutReport,
)
from kvctl_node.replication.prior_read import PriorRead, copy_to_overwrite, new_round
from kvctl_node.replication.put_answers import (
    earlier_attempt_hidden,
    put_done,
    read_in_vain,
    takes_no_writes,
    too_few_acknowledged,
    too_few_reachable,
    too_few_witnesses,
)
from kvctl_node.replication.quorum import Outcome, Quorum
from kvctl_node.replication.read_round import ReadRound
from kvctl_node.replication.replica import Copy, Minted
from kvctl_node.replication.request import Origin, RequestCoordinator, Subject
from kvctl_node.replication.slots import Slots

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
        "_prior",
        "_quorum",
        "_record",
        "_reporting",
        "_reports",
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
        self._prior: PriorRead | None = None
        """While the copies are asked for first; nothing is stored yet."""
        self._reporting = False
        """Whether the replicas report what they held before."""
        self._reports: ReadRound | None = None
        """What they reported; None while all held what was here."""
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
        copy = copy_to_overwrite(state, request, self._partition, self._slots)
        if copy is None:
            self._read(now)
        else:
            self._reporting, self._before = True, copy.stored
            self._replicate_new(None, now, copy)

    # ------------------------------------------------------------ reading first

    def _read(self, now: Instant) -> None:
        prior = PriorRead(self.state, self._request, self._partition, self._slots)
        self._prior = prior
        prior.ask(self.id, self.deadline_ms)
        self._consider_read(prior, now)

    def on_replica_same(self, sender: str, now: Instant) -> None:
        if self._prior is not None and self._prior.add_same(sender):
            self._consider_read(self._prior, now)

    def on_replica_get_reply(self, sender: str, message: ReplicaGetReply, now: Instant) -> None:
        if self._prior is not None and self._prior.add_reply(sender, message):
            self._consider_read(self._prior, now)

    def _consider_read(self, prior: PriorRead, now: Instant) -> None:
        outcome = prior.quorum.outcome
        if outcome is _MISSED:
            self._read_in_vain(prior, now)
        elif outcome is _REACHED:
            self._settle(prior, now)

    def _read_in_vain(self, prior: PriorRead, now: Instant) -> None:
        """Fewer than R replicas could say what they hold.

        A sloppy overwrite goes on and supersedes what it did learn of: versions it did not see stay
        as siblings, so nothing is lost. A retry may not, as it could apply the request twice, and
        strict mode promises that an overwrite has seen a quorum.
        """
        if self._request.attempt or not self._sloppy:
            self._fail_reading(prior)
        else:
            self._replicate_after(prior, now)

    def _fail_reading(self, prior: PriorRead) -> None:
        self.refuse(read_in_vain(self.origin.request_id, prior.quorum))

    def _settle(self, prior: PriorRead, now: Instant) -> None:
        """The read quorum is there: find the request's dot before minting one.

        A first attempt is looked up as well: it may have been delayed, and its retry been applied
        and overwritten meanwhile; minting now would bring back a value that is long superseded.
        """
        earlier = prior.adopt_earlier()
        if earlier is not None:
            self._replicate_found(*earlier, now)
        elif self._request.attempt and not prior.decides():
            self.refuse(earlier_attempt_hidden(self.origin.request_id))
        else:
            self._replicate_after(prior, now)

    def _replicate_after(self, prior: PriorRead, now: Instant) -> None:
        if self.is_over(now):
            # A node that was stalled in the middle must not act on what it began long ago.
            self._fail_reading(prior)
        elif self._request.kind == _OVERWRITE:
            self._replicate_new(prior.superseded(), now)
        else:
            self._replicate_new(self._given, now)

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
        self,
        seen: CausalContext | None,
        now: Instant,
        copy: Copy | None = None,
    ) -> None:
        request = self._request
        try:
            minted = self.state.replica.mint(
                self._partition,
                request.key,
                request.value,
                seen=seen,
                request=(request.client, request.sequence),
                attempt=request.attempt,
                stamp_ms=now.wall_ms,
                copy=copy,
            )
        except OverloadedError as error:
            self.fail_with(error, FailureKind.OVERLOADED)
            return
        self._replicate(minted, now)

    def go_on(
        self, minted: Minted, before: StoredObject | None, quorum: Quorum, *, answered: bool
    ) -> None:
        """Instead of `start`: it was stored here and sent to the other primaries already.

        `before`: the copy on which an overwrite was built, None for another put. Those in `quorum`
        have stored it, and had held what was here.
        """
        self._note(minted)
        if before is not None:
            self._reporting, self._before = True, before
        self._quorum, self.answered = quorum, answered

    def _note(self, minted: Minted) -> None:
        self._siblings, self._answer = minted.siblings, minted.answer
        self._record, self._dot = minted.record, minted.dot

    def _replicate(self, minted: Minted, now: Instant) -> None:
        """The local copy is stored (durable with this turn): send it to the other primaries."""
        state, slots = self.state, self._slots
        self._note(minted)
        self._prior = None
        needed = self._w
        if self._reporting and needed < state.quorum.r:
            needed = state.quorum.r  # so many evident acknowledgements, unless one is not
        self._quorum = Quorum(needed, slots.by_node)
        self._quorum.add_ack(state.name)
        message = self._replica_put(minted, "")
        if slots.degraded:
            self._replicate_degraded(message, minted, now)
        else:
            state.outbox.send_to_all(slots.others, message)
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
        if self._prior is None and self._quorum.add_ack(sender):
            if self._reports is not None:
                self._reports.add_same(sender)
            self._consider_acks(now)

    def on_replica_put_report(self, sender: str, message: ReplicaPutReport, now: Instant) -> None:
        if self._prior is not None or not self._quorum.is_waiting_for(sender):
            return
        if self._reporting and not self.answered:
            reports = self._begin_reports()
            reports.add(sender, message.state, message.content, message.recent)
        self._quorum.add_ack(sender)
        self._consider_acks(now)

    def _begin_reports(self) -> ReadRound:
        """Acknowledgement and evidence are not the same any more: count them apart."""
        if self._reports is None:
            self._reports = new_round(self.state, self._slots, *self._quorum.acked)
            self._quorum.needed = self._w
        return self._reports

    def _consider_acks(self, now: Instant) -> None:
        quorum = self._quorum
        if not self.answered:
            if len(quorum.filled) >= quorum.needed:
                if self._reports is None:
                    self.answer(self._success())
                else:
                    self._consider_reports(self._reports, now)
            elif not quorum.failed:
                return  # the usual case: the first of several
            elif quorum.outcome is _MISSED:
                self._fail_replicating()
        self.done = self._quorum.complete
        if (
            self.done
            and self._reporting
            and self._reports is None
            and not self._slots.degraded
            and len(self._quorum.acked) == len(self._slots.by_node)
        ):
            # All primaries have stored it, and had held what was here.
            self.state.replica.shared.note(self._request.key, self._record)

    # ------------------------------------------------------------ replacing

    def _consider_reports(self, reports: ReadRound, now: Instant) -> None:
        """W replicas have stored the overwrite: is it known what it should have superseded?"""
        outcome = reports.quorum.outcome
        if outcome is _REACHED or (outcome is _MISSED and self._sloppy):
            if reports.goes_beyond(decode_object(self._record.content)):
                self._replace(reports, now)
            else:
                self.answer(self._success())
        elif outcome is _MISSED:
            self.answer(too_few_witnesses(self.origin.request_id, reports.quorum))

    def _replace(self, reports: ReadRound, now: Instant) -> None:
        """Give the write a second dot, which covers what was reported, and replicate that."""
        state, request = self.state, self._request
        if self.is_over(now) or not state.storage.accepts_writes():
            self._fail_replicating()
            return
        applied = reports.recent.find_besides(request.client, request.sequence, self._dot)
        if applied is not None:
            self._take_back(reports, applied, now)
            return
        replacement = state.replica.replace(
            self._partition,
            request.key,
            dot=self._dot,
            known=reports.known,
            seen=self._answer,
            request=(request.client, request.sequence),
            stamp_ms=now.wall_ms,
        )
        if replacement is None:
            self.answer(self._success())  # superseded already, and what else there was is kept
        else:
            self._replicate_again(replacement, now)

    def _take_back(self, reports: ReadRound, applied: Dot, now: Instant) -> None:
        """An earlier attempt had been applied after all, and something came after it."""
        record = self.state.replica.retract(
            self._partition, self._request.key, self._dot, reports.known, self._before.siblings
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
        lost = self._quorum.lost
        self._reporting, self._reports = False, None
        self.id = self.state.next_id()
        self._replicate(minted, now)
        for node in lost:
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
        prior = self._prior
        if prior is not None:
            if prior.quorum.is_waiting_for(peer):
                prior.quorum.add_failure(peer)
                self._consider_read(prior, now)
        elif self._quorum.is_waiting_for(peer):
            self._lose(peer, now)

    def _lose(self, peer: str, now: Instant) -> None:
        """The peer will not acknowledge: it gets a hint, and is no evidence either."""
        if self._reporting and not self.answered:
            self._begin_reports().quorum.add_failure(peer)
        self._quorum.add_failure(peer)
        self._keep_hint(self._slots.by_node[peer], now, counted=False)
        self._consider_acks(now)

    def on_deadline(self, now: Instant) -> None:
        if self._prior is not None:
            self._fail_reading(self._prior)
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
