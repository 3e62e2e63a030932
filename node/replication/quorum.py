"""Quorums as pure accumulators: feed them answers, ask them for the outcome.

A *slot* is one of the N places of a preference list; a *node* fills it, either its primary or a
fallback that stands in for it. Each slot counts once and each node counts once, so a slow primary
and the fallback that stood in for it are one acknowledgement, not two. The shape, cores without any
messaging, is that of riak_kv's `put_core` and `get_core`.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum


class Outcome(Enum):
    """What the answers so far amount to."""

    PENDING = 0
    REACHED = 1
    MISSED = 2
    """Not even all outstanding answers together could reach the quorum."""


# Reading a member of an enum costs as much as the rest of `Quorum.outcome`.
_PENDING, _REACHED, _MISSED = Outcome


class Quorum:
    """`needed` distinct slots out of those in `slots` (node → the primary whose slot it fills)."""

    __slots__ = ("_slots", "_waiting", "acked", "failed", "needed")

    def __init__(self, needed: int, slots: Mapping[str, str]) -> None:
        self.needed = needed
        self._slots = slots
        self._waiting = set(slots)
        self.acked: list[str] = []
        """Nodes that answered in favour, in order of arrival."""
        self.failed = needed > len(slots)
        """Whether someone is missing for good. If not, it is merely pending or reached."""

    def add_ack(self, node: str) -> bool:
        """The node did what was asked. A second answer, or one from a stranger, counts nothing:
        False."""
        waiting = self._waiting
        if node not in waiting:
            return False
        waiting.remove(node)
        self.acked.append(node)
        return True

    def add_failure(self, node: str) -> None:
        """The node refused, cannot be reached, or has nothing to say."""
        self._waiting.discard(node)
        self.failed = True

    def is_waiting_for(self, node: str) -> bool:
        """Whether the node's answer is still outstanding."""
        return node in self._waiting

    @property
    def absent(self) -> list[str]:
        """The nodes that failed."""
        return [
            node for node in self._slots if node not in self._waiting and node not in self.acked
        ]

    @property
    def complete(self) -> bool:
        """Whether every node has answered or failed."""
        return not self._waiting

    @property
    def outcome(self) -> Outcome:
        """Reached, still possible, or missed for good."""
        slots = self._slots
        filled = {slots[node] for node in self.acked}
        if len(filled) >= self.needed:
            return _REACHED
        filled.update([slots[node] for node in self._waiting])
        return _PENDING if len(filled) >= self.needed else _MISSED

    def check_invariants(self) -> None:
        """Assert that no slot or node is counted twice."""
        assert len(set(self.acked)) == len(self.acked)
        assert not self._waiting & set(self.acked)
