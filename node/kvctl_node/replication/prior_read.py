"""What a put learns before it mints a version: from its own copy alone, or from a read quorum.

An overwriting put supersedes what is there. Usually the coordinator's own copy tells what that is
(`copy_to_overwrite`), and the replicas report what else they held with their acknowledgements. A
`PriorRead` comes first where that will not do: a retry has to find out whether an earlier attempt
was applied, and a copy that is damaged, doubted or missing proves nothing.
"""

from __future__ import annotations

from kvctl_node.causality.causal_context import CausalContext, Dot
from kvctl_node.causality.recent_requests import decode_recent, mentions
from kvctl_node.causality.siblings import EMPTY_OBJECT, decode_object
from kvctl_node.errors import CorruptRecordError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Record
from kvctl_node.protocol.client_messages import ClientPut
from kvctl_node.protocol.messages import ReplicaGet, ReplicaGetReply
from kvctl_node.replication.quorum import Quorum
from kvctl_node.replication.read_round import ReadRound
from kvctl_node.replication.replica import Copy
from kvctl_node.replication.slots import Slots


def copy_to_overwrite(
    state: NodeState, request: ClientPut, partition: int, slots: Slots
) -> Copy | None:
    """The local copy, if it is worth building on without asking anybody first; else None."""
    replica = state.replica
    if len(slots.by_node) < state.quorum.r:
        return None
    if not replica.is_evidence(partition, request.key):
        return None
    try:
        local = replica.read(partition, request.key)
    except CorruptRecordError:
        return None
    if local is None:
        if slots.stand_ins and slots.stands_for(state.name):
            return None
        return Copy(None, EMPTY_OBJECT)
    if mentions(local.recent, request.client, request.sequence):
        return None
    stored = decode_object(local.content)
    return Copy(local, stored)


def new_round(state: NodeState, slots: Slots, *agreeing: str) -> ReadRound:
    """A round over the nodes in `slots`; `agreeing` are known to hold what this node does."""
    return ReadRound(
        state.quorum.r,
        slots.by_node,
        recent_max=state.limits.recent_requests_max,
        agreeing=agreeing,
    )


class PriorRead:
    """Asks every reachable primary for its copy, unless it is the same as ours."""

    __slots__ = ("_partition", "_request", "_round", "_slots", "_state")

    def __init__(self, state: NodeState, request: ClientPut, partition: int, slots: Slots) -> None:
        self._state = state
        self._request = request
        self._partition = partition
        self._slots = slots
        self._round = new_round(state, slots)

    @property
    def quorum(self) -> Quorum:
        """R of the replicas, counting those whose answers are evidence."""
        return self._round.quorum

    def ask(self, message_id: int, deadline_ms: int) -> None:
        """Look at the own copy, and send for the others."""
        state, request, answers = self._state, self._request, self._round
        local: Record | None = None
        try:
            local = state.replica.read(self._partition, request.key)
        except CorruptRecordError:
            answers.quorum.add_failure(state.name)
        else:
            stands_in = local is None and self._slots.stands_for(state.name)
            if stands_in or not state.replica.is_evidence(self._partition, request.key):
                answers.quorum.add_failure(state.name)
            else:
                answers.add_same(state.name)
        if local is not None:
            answers.known = decode_object(local.content)
            answers.recent = decode_recent(local.recent)
        # A retry needs the request ids too, which a conditional read of equal copies would omit.
        known = b"" if local is None or request.attempt else local.digest
        message = ReplicaGet(message_id, request.key, known, deadline_ms)
        state.outbox.send_to_all(self._slots.others, message)

    def add_same(self, sender: str) -> bool:
        """A replica holds what this node does; False if it was not waited for."""
        return self._round.add_same(sender)

    def add_reply(self, sender: str, message: ReplicaGetReply) -> bool:
        """A replica's answer; False if it was not waited for. Raises `ProtocolError`."""
        if not self.quorum.is_waiting_for(sender):
            return False
        self._round.add(sender, message.state, message.content, message.recent)
        return True

    def superseded(self) -> CausalContext | None:
        """All that was found here and elsewhere; None when that is just what the local copy has
        seen."""
        if not self._round.differs:
            return None
        known = self._round.known.context
        try:
            local = self._state.replica.read(self._partition, self._request.key)
        except CorruptRecordError:
            local = None
        return known if local is None else known.union(decode_object(local.content).context)

    def adopt_earlier(self) -> tuple[Record, Dot] | None:
        """If the request was applied before: its dot, and the copy with all that came of it."""
        answers, request = self._round, self._request
        dot = answers.recent.find(request.client, request.sequence)
        if dot is None or not answers.known.siblings:
            return None
        replica = self._state.replica
        return replica.adopt(self._partition, request.key, answers.known, answers.recent), dot

    def decides(self) -> bool:
        """Whether the request, not being remembered, is known not to have been applied."""
        request = self._request
        return self._round.recent.decides(
            request.client,
            request.sequence,
            request.started_ms,
            self._state.timing.clock_skew_ms,
        )
