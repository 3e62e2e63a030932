"""One get: ask all N, answer at R with the merge, then mend whoever differs.

The coordinator reads its own copy first and asks the others for theirs *unless the digest is the
same*: one round trip whether replicas agree or not, and full copies travel only where they differ.

What counts toward R is evidence. A replica that cannot say (rebuilding, or its record is damaged)
is not evidence of absence; with fewer than R answers that are, the get is `unavailable`, never
"not found". After the answer the coordinator goes on collecting, and every primary that turned out
to hold something else, nothing included, is sent the merge (read repair, Dynamo §5). A blocking
repair happens before the answer: N - R + 1 replicas hold the merge by then, so that every later
read quorum meets it and reads are monotonic.
"""

from __future__ import annotations

from typing import Any

from node.causality.epoch_folding import fold_version
from node.causality.recent_requests import NO_REQUESTS, RecentRequests, decode_recent
from node.causality.siblings import (
    StoredObject,
    decode_object,
    encode_object,
    merge_objects,
)
from node.errors import CorruptRecordError, FailureKind
from node.node_state import NodeState
from node.ports import Instant
from node.protocol.messages import (
    ClientGet,
    Failed,
    GetDone,
    RepairMode,
    ReplicaGet,
    ReplicaGetReply,
    ReplicaPutAck,
    ReplicaState,
)
from node.replication.quorum import Outcome, Quorum
from node.replication.read_repair import send_repairs
from node.replication.request import Origin, RequestCoordinator, Subject
from node.replication.slots import Slots


class GetCoordinator(RequestCoordinator):
    """Coordinates one get at a primary of its key."""

    __slots__ = (
        "_answers",
        "_local",
        "_merged",
        "_partition",
        "_quorum",
        "_r",
        "_recents",
        "_repairing",
        "_request",
        "_slots",
        "_without_evidence",
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
        self._local = b""
        self._merged: StoredObject | None = None
        """The merge of all answers, decoded only once a replica differs from the local copy."""
        self._recents: list[bytes] = []
        """Encoded request ids of every copy seen, united only if there is something to repair."""
        self._answers: dict[str, bytes] = {}
        """Node → the content it holds, b"" for none."""
        self._without_evidence: list[str] = []
        """Replicas that could not say what they hold: the merge mends them too."""
        self._repairing: Quorum | None = None

    def start(self, now: Instant) -> None:
        state, request = self.state, self._request
        nodes = self._slots.by_node
        if len(nodes) < self._r:
            self.fail(
                FailureKind.UNAVAILABLE,
                f"{len(nodes)} of {len(nodes) + len(self._slots.missing)} replicas are "
                f"reachable, R={self._r} are needed.",
                hint="`kvctl status` shows which nodes are down.",
            )
            return
        self._quorum = Quorum(self._answers_needed(), nodes)
        known = b""
        try:
            local = state.replica.read(self._partition, request.key)
        except CorruptRecordError:
            self._add_no_evidence(state.name)
        else:
            if local is not None:
                self._local, known = local.content, local.digest
                self._recents.append(local.recent)
            if local is None and self._slots.stands_for(state.name):
                self._quorum.add_failure(state.name)  # a stand-in without the key knows nothing
            else:
                self._add_answer(
                    state.name,
                    self._local,
                    counts=self._partition not in state.replica.unproven,
                )
        message = ReplicaGet(self.id, request.key, known, self.deadline_ms)
        for node in nodes:
            if node != state.name:
                state.outbox.send(node, message)
        self._consider(now)

    def on_replica_get_reply(self, sender: str, message: ReplicaGetReply, now: Instant) -> None:
        if not self._quorum.is_waiting_for(sender):
            return
        if message.state == ReplicaState.SAME:
            self._add_answer(sender, self._local)
        elif message.state in (ReplicaState.DIFFERENT, ReplicaState.UNPROVEN):
            theirs = decode_object(message.content)
            ours = self._merge_so_far()
            self._merged = theirs if ours is None else merge_objects(ours, theirs)
            self._recents.append(message.recent)
            self._add_answer(
                sender, message.content, counts=message.state == ReplicaState.DIFFERENT
            )
        elif message.state == ReplicaState.ABSENT:
            self._add_answer(sender, b"")
        elif self._slots.stands_for(sender):
            self._quorum.add_failure(sender)
        else:
            self._add_no_evidence(sender)
        self._consider(now)

    def _add_no_evidence(self, node: str) -> None:
        self._without_evidence.append(node)
        self._quorum.add_failure(node)

    def _add_answer(self, node: str, content: bytes, *, counts: bool = True) -> None:
        """What a node holds; the copy of a rebuilding node is merged but is no evidence."""
        self._answers[node] = content
        if counts:
            self._quorum.add_ack(node)
        else:
            self._quorum.add_failure(node)

    def _united_recents(self) -> RecentRequests:
        united = NO_REQUESTS
        for recent in self._recents:
            united = united.union(
                decode_recent(recent), entries_max=self.state.limits.recent_requests_max
            )
        return united

    def _merge_so_far(self) -> StoredObject | None:
        if self._merged is None and self._local:
            self._merged = decode_object(self._local)
        return self._merged

    def _consider(self, now: Instant) -> None:
        if not self.answered and self._repairing is None:
            outcome = self._quorum.outcome
            if outcome is Outcome.REACHED:
                if self._request.repair == RepairMode.BLOCKING and self._disagreement():
                    self._repair_first(now)
                else:
                    self.answer(self._success())
            elif outcome is Outcome.MISSED:
                self._fail()  # and go on collecting: whoever differs is mended all the same
        if self.answered and self._quorum.complete:
            self._finish(now)

    def _content(self) -> bytes:
        return self._local if self._merged is None else encode_object(self._merged)

    def _disagreement(self) -> bool:
        return len(set(self._answers.values())) > 1

    def _success(self) -> GetDone:
        return GetDone(
            self.origin.request_id,
            self._content(),
            self.state.name,
            tuple(self._quorum.acked),
            self._slots.degraded,
            self._explain() if self._request.explain else None,
        )

    def _answers_needed(self) -> int:
        """R; a blocking read cannot vouch for N - R + 1 replicas before so many have answered."""
        if self._request.repair != RepairMode.BLOCKING:
            return self._r
        return max(self._r, len(self.state.map.owners[self._partition]) - self._r + 1)

    def _fail(self) -> None:
        self.answer(
            Failed(
                self.origin.request_id,
                FailureKind.UNAVAILABLE,
                f"{len(self._quorum.acked)} of R={self._r} replicas answered.",
                "`kvctl status` shows which nodes are down.",
            )
        )

    # ------------------------------------------------------------ repair

    def _repair_first(self, now: Instant) -> None:
        """Blocking mode: have the merge at a quorum before answering."""
        content = self._content()
        primaries = len(self.state.map.owners[self._partition])
        repairing = Quorum(primaries - self._r + 1, self._slots.by_node)
        self._repairing = repairing
        for node, held in self._answers.items():
            if held == content:
                repairing.add_ack(node)
        self._mend(content, now)
        if self._answers.get(self.state.name) == content:
            repairing.add_ack(self.state.name)
        self._consider_repair(now)

    def on_replica_put_ack(self, sender: str, message: ReplicaPutAck, now: Instant) -> None:
        if self._repairing is not None and not self.answered:
            self._repairing.add_ack(sender)
            self._consider_repair(now)

    def _consider_repair(self, now: Instant) -> None:
        assert self._repairing is not None
        outcome = self._repairing.outcome
        if outcome is Outcome.REACHED:
            self.answer(self._success())
            self.done = True
        elif outcome is Outcome.MISSED:
            self._fail()
            self.done = True

    def _finish(self, now: Instant) -> None:
        """All answers are in: mend whoever differs, in the background."""
        self.done = True
        if self._without_evidence or self._disagreement():
            self._mend(self._content(), now)

    def _mend(self, content: bytes, now: Instant) -> None:
        """Send the merge to every primary that answered and does not hold it.

        Stand-ins are left alone: what they keep is on its way home as a hint.
        """
        if not content:
            return
        stand_ins = self._slots.stand_ins
        stale = [
            node
            for node, held in self._answers.items()
            if held != content and node not in stand_ins
        ]
        stale += self._without_evidence
        sent = send_repairs(
            self.state,
            partition=self._partition,
            key=self._request.key,
            content=content,
            recent=self._united_recents(),
            stale=stale,
            message_id=self.id,
            deadline_ms=now.wall_ms + self.state.timing.replica_timeout_ms,
        )
        for node in sent:
            self._answers[node] = content

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
        content = self._content()
        preference = self.state.map.preference_list(self._partition)
        answers = {}
        for node, held in self._answers.items():
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
            "silent": [node for node in self._slots.by_node if node not in self._answers],
            "repair": [node for node, held in self._answers.items() if held != content],
        }

    def subject(self) -> Subject:
        return Subject("get", self._request.key, self._partition, self._slots)
