"""One put, from the client's request to the last replica's acknowledgement.

    start ──┬─ overwrite, or a retry ──▶ READING ── R answers ──┐
            │                              │ too few: unavailable│
            └─ blind, context ─────────────┼────────────────────▶ store locally, send to the rest
                                           ▼                      │
                                        nothing stored        REPLICATING ── W acks ──▶ answer
                                                                  │ too few: indeterminate
                                                                  ▼
                                                          collects until all answered

The line between "definitely not stored" and "may be stored" is the local store: before it every
failure is `unavailable` or a refusal, from it on every miss is `indeterminate`, whatever the reason
(Dynamo §4.5; the distinction itself is Maelstrom's).

An overwriting put supersedes what a read quorum holds now, so it reads first; R answers meet every
write that W acknowledged as long as R + W > N. A retry reads first too, to find out whether an
earlier attempt was applied.
"""

from __future__ import annotations

from typing import Final

from node.causality.causal_context import EMPTY_CONTEXT, CausalContext
from node.causality.context_token import decode_token
from node.causality.recent_requests import (
    NO_REQUESTS,
    RecentRequests,
    decode_recent,
    mentions,
)
from node.causality.siblings import (
    EMPTY_OBJECT,
    StoredObject,
    decode_object,
    encode_context,
    merge_objects,
)
from node.config import QuorumMode
from node.errors import (
    CorruptRecordError,
    FailureKind,
    OverloadedError,
    WrongContextError,
)
from node.node_state import NodeState
from node.ports import Instant, Record
from node.protocol.messages import (
    ClientPut,
    Failed,
    PutDone,
    PutKind,
    ReplicaGet,
    ReplicaGetReply,
    ReplicaPut,
    ReplicaPutAck,
    ReplicaState,
)
from node.replication.quorum import Outcome, Quorum
from node.replication.request import Origin, RequestCoordinator, Subject
from node.replication.slots import Slots

READING: Final = 0
REPLICATING: Final = 1
_NO_EVIDENCE: Final = (ReplicaState.NO_EVIDENCE, ReplicaState.UNPROVEN)


class PutCoordinator(RequestCoordinator):
    """Coordinates one put or delete at a primary of its key."""

    __slots__ = (
        "_answer",
        "_given",
        "_merged",
        "_partition",
        "_phase",
        "_quorum",
        "_recent",
        "_record",
        "_remote_differs",
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
        self._sloppy = state.mode_of(request.mode) is QuorumMode.SLOPPY
        self._phase = READING
        self._given: CausalContext = EMPTY_CONTEXT

    def start(self, now: Instant) -> None:
        state, request = self.state, self._request
        filled = len(self._slots.by_node)
        if filled < self._w:
            self.fail(
                FailureKind.UNAVAILABLE,
                f"{filled} of {filled + len(self._slots.missing)} replicas are reachable, "
                f"W={self._w} are needed; nothing was stored.",
                hint="`kvctl status` shows which nodes are down.",
            )
            return
        if not state.storage.accepts_writes():
            self.fail(
                FailureKind.OVERLOADED,
                f"{state.name} takes no writes: its disk is full or its memory is at its limit.",
                hint="free disk space, or try again in a moment.",
            )
            return
        if request.kind == PutKind.CONTEXT:
            try:
                self._given = decode_token(
                    request.context, cluster_id=state.config.cluster_id, key=request.key
                )
            except WrongContextError as error:
                self.fail_with(error, FailureKind.WRONG_CONTEXT)
                return
        if request.kind == PutKind.OVERWRITE or request.attempt:
            self._read(now)
        else:
            self._replicate_new(self._given, now)

    # ------------------------------------------------------------ reading

    def _read(self, now: Instant) -> None:
        """Ask every reachable primary for its copy, unless it is the same as ours."""
        state, request = self.state, self._request
        self._quorum = Quorum(state.quorum.r, self._slots.by_node)
        self._merged: StoredObject | None = None
        self._recent: RecentRequests = NO_REQUESTS
        self._remote_differs = False
        local: Record | None = None
        try:
            local = state.replica.read(self._partition, request.key)
        except CorruptRecordError:
            self._quorum.add_failure(state.name)
        else:
            stands_in = local is None and self._slots.stands_for(state.name)
            if stands_in or self._partition in state.replica.unproven:
                self._quorum.add_failure(state.name)
            else:
                self._quorum.add_ack(state.name)
        # A retry needs the request ids too, which a conditional read of equal copies would omit.
        known = b"" if local is None or request.attempt else local.digest
        if local is not None and (request.attempt or mentions(local.recent, request.client)):
            self._recent = decode_recent(local.recent)
            if request.attempt or self._recent.find(request.client, request.sequence):
                self._merged = decode_object(local.content)
        message = ReplicaGet(self.id, request.key, known, self.deadline_ms)
        for node in self._slots.by_node:
            if node != state.name:
                state.outbox.send(node, message)
        self._consider_read(now)

    def on_replica_get_reply(self, sender: str, message: ReplicaGetReply, now: Instant) -> None:
        if self._phase != READING or not self._quorum.is_waiting_for(sender):
            return
        if message.state in (ReplicaState.DIFFERENT, ReplicaState.UNPROVEN):
            theirs = decode_object(message.content)
            self._merged = merge_objects(self._merged or EMPTY_OBJECT, theirs)
            self._recent = self._recent.union(
                decode_recent(message.recent),
                entries_max=self.state.limits.recent_requests_max,
            )
        if message.state != ReplicaState.SAME:
            self._remote_differs = True
        if message.state in _NO_EVIDENCE:
            self._quorum.add_failure(sender)
        else:
            self._quorum.add_ack(sender)
        self._consider_read(now)

    def _consider_read(self, now: Instant) -> None:
        outcome = self._quorum.outcome
        if outcome is Outcome.MISSED:
            self._read_in_vain(now)
        elif outcome is Outcome.REACHED:
            self._settle(now)

    def _superseded(self) -> CausalContext | None:
        """What the read quorum has seen; None when that is just what the local copy has seen."""
        if self._request.kind != PutKind.OVERWRITE:
            return self._given
        if self._merged is None or not self._remote_differs:
            return None
        try:
            local = self.state.replica.read(self._partition, self._request.key)
        except CorruptRecordError:
            local = None
        if local is None:
            return self._merged.context
        return self._merged.context.union(decode_object(local.content).context)

    def _read_in_vain(self, now: Instant) -> None:
        """Fewer than R replicas could say what they hold.

        A sloppy overwrite goes on and supersedes what it did learn of: versions it did not see stay
        as siblings, so nothing is lost. A retry may not, as it could apply the request twice, and
        strict mode promises that an overwrite has seen a quorum.
        """
        if self._request.attempt or not self._sloppy:
            self._fail_reading()
        else:
            self._replicate_new(self._superseded(), now)

    def _fail_reading(self) -> None:
        self.fail(
            FailureKind.UNAVAILABLE,
            f"{len(self._quorum.acked)} of R={self._quorum.needed} replicas answered the read "
            "before the write; nothing was stored.",
            hint="`kvctl status` shows which nodes are down; a put with --blind does not read.",
        )

    def _settle(self, now: Instant) -> None:
        """The read quorum is there: find the request's dot before minting one.

        A first attempt is looked up as well: it may have been delayed, and its retry been applied
        and overwritten meanwhile; minting now would bring back a value that is long superseded.
        """
        request, state = self._request, self.state
        dot = self._recent.find(request.client, request.sequence)
        if dot is not None and self._merged is not None:
            record = state.replica.adopt(self._partition, request.key, self._merged, self._recent)
            stored = decode_object(record.content)
            if request.kind == PutKind.OVERWRITE and [one.dot for one in stored.siblings] == [dot]:
                answer = stored.context  # its value is all there is; else others came after it
            else:
                answer = self._given.with_dot(dot.actor, dot.counter, 0)
            self._replicate(record, b"", len(stored.siblings), answer, now)
        elif request.attempt and not self._recent.decides(
            request.client, request.sequence, request.started_ms, state.timing.clock_skew_ms
        ):
            self.fail(
                FailureKind.INDETERMINATE,
                "too many later writes to the key hide whether an earlier attempt was applied.",
                hint="read the key to see what it holds.",
            )
        else:
            self._replicate_new(self._superseded(), now)

    # ------------------------------------------------------------ replicating

    def _replicate_new(self, seen: CausalContext | None, now: Instant) -> None:
        request = self._request
        if now.wall_ms > self.deadline_ms:
            # A node that was stalled in the middle must not act on what it began long ago.
            self._fail_reading()
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
            )
        except OverloadedError as error:
            self.fail_with(error, FailureKind.OVERLOADED)
            return
        self._replicate(minted.record, minted.base, minted.siblings, minted.answer, now)

    def _all_primaries_identical(self) -> bool:
        """Whether the read round saw all N primaries hold exactly the local copy."""
        return (
            self._request.kind == PutKind.OVERWRITE
            and not self._remote_differs
            and len(self._quorum.acked) == len(self.state.map.owners[self._partition])
        )

    def _replicate(
        self, record: Record, base: bytes, siblings: int, answer: CausalContext, now: Instant
    ) -> None:
        """The local copy is stored (durable with this turn): send it to the other primaries."""
        state = self.state
        self._phase = REPLICATING
        self._siblings = siblings
        self._answer = answer
        self._quorum = Quorum(self._w, self._slots.by_node)
        self._quorum.add_ack(state.name)
        self._record = record
        own_primary = self._slots.stands_for(state.name)
        if own_primary:
            self._keep_hint(own_primary, now, counted=True)
        for primary in self._slots.missing:
            self._keep_hint(primary, now, counted=False)
        stand_ins = self._slots.stand_ins
        message = self._replica_put(base, "")
        for node in self._slots.by_node:
            if node == state.name:
                continue
            primary = stand_ins.get(node, "") if stand_ins else ""
            state.outbox.send(node, self._replica_put(base, primary) if primary else message)
        self._consider_acks(now)

    def _replica_put(self, base: bytes, stands_for: str) -> ReplicaPut:
        record = self._record
        return ReplicaPut(
            self.id,
            self._request.key,
            record.content,
            record.recent,
            self.deadline_ms,
            base,
            stands_for,
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

    def on_replica_put_ack(self, sender: str, message: ReplicaPutAck, now: Instant) -> None:
        if self._phase == REPLICATING:
            self._quorum.add_ack(sender)
            self._consider_acks(now)

    def _consider_acks(self, now: Instant) -> None:
        quorum = self._quorum
        if not self.answered:
            outcome = quorum.outcome
            if outcome is Outcome.REACHED:
                self.answer(self._success())
            elif outcome is Outcome.MISSED:
                self._fail_replicating()
        self.done = quorum.complete

    def _success(self) -> PutDone:
        stand_ins = self._slots.stand_ins
        acked = self._quorum.acked
        return PutDone(
            self.origin.request_id,
            encode_context(self._answer),
            self._siblings,
            self.state.name,
            tuple(acked),
            {node: stand_ins[node] for node in acked if node in stand_ins} if stand_ins else {},
            self._slots.degraded,
        )

    def _fail_replicating(self) -> None:
        """Too few acknowledged, but the value is stored somewhere and will spread."""
        self.answer(
            Failed(
                self.origin.request_id,
                FailureKind.INDETERMINATE,
                f"{len(self._quorum.acked)} of W={self._w} replicas acknowledged; the value may "
                "or may not be read later.",
                "read the key, or put again: a retry is safe.",
            )
        )

    # ------------------------------------------------------------ both

    def on_link_lost(self, peer: str, now: Instant) -> None:
        if not self._quorum.is_waiting_for(peer):
            return
        self._quorum.add_failure(peer)
        if self._phase == READING:
            self._consider_read(now)
        else:
            self._keep_hint(self._slots.by_node[peer], now, counted=False)
            self._consider_acks(now)

    def on_deadline(self, now: Instant) -> None:
        if self._phase == READING:
            self._fail_reading()
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
