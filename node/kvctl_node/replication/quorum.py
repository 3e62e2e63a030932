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

    __slots__ = ("_slots", "acked", "failed", "filled", "lost", "needed")

    def __init__(self, needed: int, slots: Mapping[str, str]) -> None:
        self.needed = needed
        self._slots = slots
        self.acked: list[str] = []
        """Nodes that answered in favour, in order of arrival."""
        self.filled: set[str] = set()
        """The slots they fill: so many is what counts."""
        self.lost: list[str] = []
        """Nodes that refused, cannot be reached, or have nothing to say."""
        self.failed = needed > len(slots)
        """Whether someone is missing for good. If not, it is merely pending or reached."""

    def copy(self) -> Quorum:
        """Another one in the same state."""
        twin = Quorum(self.needed, self._slots)
        twin.acked, twin.filled = self.acked.copy(), self.filled.copy()
        twin.lost, twin.failed = self.lost.copy(), self.failed
        return twin

    def add_ack(self, node: str) -> bool:
        """The node did what was asked. A second answer, or one from a stranger, counts nothing:
        False."""
        slots, acked = self._slots, self.acked
        if node in acked or node in self.lost or node not in slots:
            return False
        acked.append(node)
        self.filled.add(slots[node])
        return True

    def add_failure(self, node: str) -> None:
        """The node refused, cannot be reached, or has nothing to say."""
        if self.is_waiting_for(node):
            self.lost.append(node)
        self.failed = True

    def is_waiting_for(self, node: str) -> bool:
        """Whether the node's answer is still outstanding."""
        return node in self._slots and node not in self.acked and node not in self.lost

    @property
    def complete(self) -> bool:
        """Whether every node has answered or failed."""
        return len(self.acked) + len(self.lost) == len(self._slots)

    @property
    def outcome(self) -> Outcome:
        """Reached, still possible, or missed for good."""
        filled = self.filled
        if len(filled) >= self.needed:
            return _REACHED
        slots = self._slots
        possible = filled.union([slots[node] for node in slots if self.is_waiting_for(node)])
        return _PENDING if len(possible) >= self.needed else _MISSED

    def check_invariants(self) -> None:
        """Assert that no slot or node is counted twice."""
        assert len(set(self.acked)) == len(self.acked)
        assert self.filled == {self._slots[node] for node in self.acked}
        assert set(self.acked).isdisjoint(self.lost)
