"""One get: ask all N, answer at R with the merge, then mend whoever differs.

The coordinator reads its own copy first and asks the others for theirs *unless the digest is the
same*: one round trip whether replicas agree or not, and full copies travel only where they differ.
Where they do, `disagreement` has the merge and knows whom to mend.

What counts toward R is evidence. A replica that cannot say (rebuilding, or its record is damaged)
is not evidence of absence; with fewer than R answers that are, the get is `unavailable`, never
"not found". After the answer the coordinator goes on collecting, and every primary that turned out
to hold something else, nothing included, is sent the merge (read repair, Dynamo §5). A blocking
repair happens before the answer: N - R + 1 replicas hold the merge by then, so that every later
read quorum meets it and reads are monotonic.
"""

from __future__ import annotations

from typing import Any

from kvctl_node.causality.epoch_folding import fold_version
from kvctl_node.causality.siblings import decode_object
from kvctl_node.errors import CorruptRecordError, FailureKind
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant, Record
from kvctl_node.protocol.client_messages import (
    ClientGet,
    Failed,
    GetDone,
    RepairMode,
)
from kvctl_node.protocol.messages import (
    ReplicaGet,
    ReplicaGetReply,
    ReplicaState,
)
from kvctl_node.replication.disagreement import Disagreement
from kvctl_node.replication.quorum import Outcome, Quorum
from kvctl_node.replication.read_repair import send_repairs
from kvctl_node.replication.request import Origin, RequestCoordinator, Subject
from kvctl_node.replication.slots import Slots

# Plain integers and names: reading a member of an enum costs as much as a small call.
_DIFFERENT, _ABSENT = int(ReplicaState.DIFFERENT), int(ReplicaState.ABSENT)
_WITH_CONTENT = (_DIFFERENT, int(ReplicaState.UNPROVEN))
_BLOCKING = int(RepairMode.BLOCKING)
_REACHED, _MISSED = Outcome.REACHED, Outcome.MISSED


class GetCoordinator(RequestCoordinator):
    """Coordinates one get at a primary of its key."""

    __slots__ = (
        "_disagreement",
        "_local",
        "_partition",
        "_quorum",
        "_r",
        "_repairing",
        "_request",
        "_slots",
    )

    def __init__(
        self,
        state: NodeState,
        request: ClientGet,
        partition: int,
        slots: Slots,
        origin: Origin,
        now: Instant,
    ) -> None:
        super().__init__(state, origin, request.deadline_ms, now)
        self._request = request
        self._partition = partition
        self._slots = slots
        self._r = request.r or state.quorum.r
        self._local: Record | None = None
        self._disagreement: Disagreement | None = None
        """None while everybody who answered holds what this node does."""
        self._repairing: Quorum | None = None

    def start(self, now: Instant) -> None:
        state, request, slots = self.state, self._request, self._slots
        if len(slots.by_node) < self._r:
            self._refuse()
            return
        needed = self._r if request.repair != _BLOCKING else self._answers_to_vouch()
        quorum = self._quorum = Quorum(needed, slots.by_node)
        own, known = state.name, b""
        try:
            local = self._local = state.replica.read(self._partition, request.key)
        except CorruptRecordError:
            self._add_no_evidence(own)
        else:
            if local is not None:
                known = local.digest
                if state.replica.is_evidence(self._partition, request.key):
                    quorum.add_ack(own)
                else:
                    self._add_copy(own, local.content, local.recent, counts=False)
            elif slots.stand_ins and slots.stands_for(own):
                quorum.add_failure(own)  # a stand-in without the key knows nothing
            elif state.replica.is_evidence(self._partition, request.key):
                quorum.add_ack(own)
            else:
                self._found_disagreement().add_absent(own)
                quorum.add_failure(own)
        message = ReplicaGet(self.id, request.key, known, self.deadline_ms)
        state.outbox.send_to_all(slots.others, message)
        self._consider(now)

    def go_on(self, local: Record, quorum: Quorum, *, answered: bool) -> None:
        """Instead of `start`: copies were asked for already, and those in `quorum` are as the one
        here."""
        self._quorum, self._local, self.answered = quorum, local, answered

    def on_replica_same(self, sender: str, now: Instant) -> None:
        if self._quorum.add_ack(sender):
            if self._disagreement is not None:
                self._disagreement.add_agreeing(sender, self._local)
            self._consider(now)

    def on_replica_get_reply(self, sender: str, message: ReplicaGetReply, now: Instant) -> None:
        if not self._quorum.is_waiting_for(sender):
            return
        if message.state in _WITH_CONTENT:
            counts = message.state == _DIFFERENT
            self._add_copy(sender, message.content, message.recent, counts=counts)
        elif message.state == _ABSENT:
            if self._local is not None or self._disagreement is not None:
                self._found_disagreement().add_absent(sender)
            self._quorum.add_ack(sender)
        elif self._slots.stands_for(sender):
            self._quorum.add_failure(sender)
        else:
            self._add_no_evidence(sender)
        self._consider(now)

    def _found_disagreement(self) -> Disagreement:
        if self._disagreement is None:
            self._disagreement = Disagreement(
                self._local,
                self._quorum.acked,
                recent_max=self.state.limits.recent_requests_max,
            )
        return self._disagreement

    def _add_copy(self, node: str, content: bytes, recent: bytes, *, counts: bool) -> None:
        """What a node holds; a copy that may be older than it was is merged but is no evidence."""
        self._found_disagreement().add(node, content, recent)
        if counts:
            self._quorum.add_ack(node)
        else:
            self._quorum.add_failure(node)

    def _add_no_evidence(self, node: str) -> None:
        self._found_disagreement().without_evidence.append(node)
        self._quorum.add_failure(node)

    def _consider(self, now: Instant) -> None:
        quorum = self._quorum
        if not self.answered and self._repairing is None:
            if len(quorum.filled) >= quorum.needed:
                if self._request.repair == _BLOCKING and self._differs:
                    self._repair_first(now)
                else:
                    self.answer(self._success())
            elif not quorum.failed:
                return  # the usual case: the first answer of several
            elif quorum.outcome is _MISSED:
                self._fail()  # and go on collecting: whoever differs is mended all the same
        if self.answered and quorum.complete:
            self._finish(now)

    @property
    def _content(self) -> bytes:
        if self._disagreement is not None:
            return self._disagreement.content
        return b"" if self._local is None else self._local.content

    @property
    def _differs(self) -> bool:
        return self._disagreement is not None and self._disagreement.differs

    def _success(self) -> GetDone:
        return GetDone(
            self.origin.request_id,
            self._content,
            self.state.name,
            tuple(self._quorum.acked),
            self._slots.degraded,
            self._explain() if self._request.explain else None,
        )

    def _answers_to_vouch(self) -> int:
        """A blocking read cannot vouch for N - R + 1 replicas before so many have answered."""
        return max(self._r, len(self.state.map.owners[self._partition]) - self._r + 1)

    def _refuse(self) -> None:
        filled = len(self._slots.by_node)
        self.fail(
            FailureKind.UNAVAILABLE,
            f"{filled} of {filled + len(self._slots.missing)} replicas are "
            f"reachable, R={self._r} are needed.",
            hint="`kvctl status` shows which nodes are down.",
        )

    def _fail(self) -> None:
        message = f"{len(self._quorum.acked)} of R={self._r} replicas answered."
        hint = "`kvctl status` shows which nodes are down."
        unproven = self._unproven()
        if unproven:
            message = (
                f"fewer than R={self._r} replicas can vouch for the key; "
                f"{', '.join(unproven)} cannot: rebuilding, or the record is damaged."
            )
            hint = "`kvctl status` shows which nodes are being rebuilt, and which are down."
        self.answer(Failed(self.origin.request_id, FailureKind.UNAVAILABLE, message, hint))

    def _unproven(self) -> list[str]:
        """The primaries that answered, and whose answers are no evidence."""
        found = self._disagreement
        if found is None:
            return []
        said = {*found.answers, *found.without_evidence}
        return [node for node in self._quorum.lost if node in said]

    # ------------------------------------------------------------ repair

    def _repair_first(self, now: Instant) -> None:
        """Blocking mode: have the merge at a quorum before answering."""
        disagreement = self._found_disagreement()
        content = disagreement.content
        primaries = len(self.state.map.owners[self._partition])
        repairing = Quorum(primaries - self._r + 1, self._slots.by_node)
        self._repairing = repairing
        for node, held in disagreement.answers.items():
            if held == content:
                repairing.add_ack(node)
        self._mend(disagreement, now)
        if disagreement.answers.get(self.state.name) == content:
            repairing.add_ack(self.state.name)
        self._consider_repair(now)

    def on_replica_put_ack(self, sender: str, now: Instant) -> None:
        if self._repairing is not None and not self.answered:
            self._repairing.add_ack(sender)
            self._consider_repair(now)

    def _consider_repair(self, now: Instant) -> None:
        assert self._repairing is not None
        outcome = self._repairing.outcome
        if outcome is _REACHED:
            self.answer(self._success())
            self.done = True
        elif outcome is _MISSED:
            self._fail()
            self.done = True

    def _finish(self, now: Instant) -> None:
        """All answers are in: mend whoever differs, in the background."""
        self.done = True
        disagreement = self._disagreement
        if disagreement is not None and (disagreement.without_evidence or disagreement.differs):
            self._mend(disagreement, now)

    def _mend(self, disagreement: Disagreement, now: Instant) -> None:
        """Send the merge to every primary that answered and does not hold it.

        Stand-ins are left alone: what they keep is on its way home as a hint.
        """
        content = disagreement.content
        if not content:
            return
        stand_ins = self._slots.stand_ins
        stale = [
            node
            for node, held in disagreement.answers.items()
            if held != content and node not in stand_ins
        ]
        stale += disagreement.without_evidence
        sent = send_repairs(
            self.state,
            partition=self._partition,
            key=self._request.key,
            content=content,
            recent=disagreement.recent,
            stale=stale,
            message_id=self.id,
            deadline_ms=now.wall_ms + self.state.timing.replica_timeout_ms,
        )
        for node in sent:
            disagreement.answers[node] = content

    # ------------------------------------------------------------ the rest

    def on_link_lost(self, peer: str, now: Instant) -> None:
        if self._repairing is not None and not self.answered:
            self._repairing.add_failure(peer)
            self._consider_repair(now)
        elif self._quorum.is_waiting_for(peer):
            self._quorum.add_failure(peer)
            self._consider(now)

    def on_deadline(self, now: Instant) -> None:
        if not self.answered:
            self._fail()
        if self._repairing is None:
            self._finish(now)
        self.done = True

    def _explain(self) -> dict[str, Any]:
        """Who answered with which clock, and who dominated."""
        content, disagreement = self._content, self._disagreement
        held_by = (
            dict.fromkeys(self._quorum.acked, content)
            if disagreement is None
            else disagreement.answers
        )
        preference = self.state.map.preference_list(self._partition)
        answers = {}
        for node, held in held_by.items():
            answers[node] = {
                "version": fold_version(decode_object(held).context) if held else None,
                "current": held == content,
            }
        return {
            "partition": self._partition,
            "primaries": list(preference.primaries),
            "fallbacks": list(preference.fallbacks),
            "unreachable": [
                node for node in preference.primaries if not self.state.can_reach(node)
            ],
            "r": self._r,
            "answers": answers,
            "stand_ins": dict(self._slots.stand_ins),
            "silent": [node for node in self._slots.by_node if node not in held_by],
            "repair": [node for node, held in held_by.items() if held != content],
        }

    def subject(self) -> Subject:
        return Subject("get", self._request.key, self._partition, self._slots)
