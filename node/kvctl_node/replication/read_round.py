"""What the replicas of a key held when a put came: the read that an overwriting put contains.

A pure accumulator, fed in one of two ways. Usually a put is replicated at once, and each replica
that held something else than the coordinator reports it with its acknowledgement. Where that will
not do (a retry, a coordinator whose own copy proves nothing), the replicas are asked first.

The round is over when R of them have given evidence. A stand-in without the key, a damaged record
and a partition that is being rebuilt are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kvctl_node.causality.recent_requests import NO_REQUESTS, RecentRequests, decode_recent
from kvctl_node.causality.siblings import (
    EMPTY_OBJECT,
    StoredObject,
    decode_object,
    merge_objects,
    supersedes,
)
from kvctl_node.protocol.messages import (
    ReplicaState,
)
from kvctl_node.replication.quorum import Quorum

# Plain integers: reading a member of an enum costs as much as a small call.
_WITH_CONTENT = (int(ReplicaState.DIFFERENT), int(ReplicaState.UNPROVEN))
_NO_EVIDENCE = (int(ReplicaState.NO_EVIDENCE), int(ReplicaState.UNPROVEN))


class ReadRound:
    """The answers of a key's replicas, merged as they come."""

    __slots__ = ("_recent_max", "differs", "known", "quorum", "recent")

    def __init__(
        self, needed: int, slots: Mapping[str, str], *, recent_max: int, agreeing: Iterable[str]
    ) -> None:
        """`agreeing`: nodes known to have held what the coordinator did."""
        self.quorum = Quorum(needed, slots)
        for node in agreeing:
            self.quorum.add_ack(node)
        self.known: StoredObject = EMPTY_OBJECT
        """The merge of all that was sent."""
        self.recent: RecentRequests = NO_REQUESTS
        self.differs = False
        """Whether any replica held something else than the coordinator."""
        self._recent_max = recent_max

    def add_same(self, node: str) -> bool:
        """The node holds what the coordinator does; False if it was not waited for."""
        return self.quorum.add_ack(node)

    def add(self, node: str, state: int, content: bytes, recent: bytes) -> None:
        """The node holds something else, or cannot say. Raises `ProtocolError`."""
        self.differs = True
        if state in _WITH_CONTENT:
            self.recent = self.recent.union(decode_recent(recent), entries_max=self._recent_max)
            self.known = merge_objects(self.known, decode_object(content), self.recent.applied)
        if state in _NO_EVIDENCE:
            self.quorum.add_failure(node)
        else:
            self.quorum.add_ack(node)

    def goes_beyond(self, stored: StoredObject) -> bool:
        """Whether some version is known that `stored` neither holds nor supersedes."""
        return any(not supersedes(stored.context, one) for one in self.known.siblings)
