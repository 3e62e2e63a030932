"""News: records that changed lately, which every exchange mentions until they are old.

In a cluster too large for whole digests, a random slice would mention a change only now and then,
and it would spread as many times slower as there are slices. So a record that changed is *hot* for
a while: it is in every slice that this node sends, and in its answer to every slice that does not
list it. Each mention counts down, and after about as many as it takes a rumour to reach everybody,
the slices at random are enough (Demers et al., "Epidemic Algorithms for Replicated Database
Maintenance", PODC 1987, section 1.4: rumour mongering, backed up by anti-entropy).

When too much is hot at once, as after a start, what was mentioned least goes first.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection
from typing import NamedTuple

MENTIONS_PER_DOUBLING = 3
"""A change is mentioned so many times for each doubling of the number of members. A rumour needs
one to two rounds a doubling, and a node takes part in two exchanges a round."""


class Before(NamedTuple):
    """What this node knew of the record before the change."""

    generation: int
    version: int


class News:
    """Which records are hot at one node, and how often each is still to be mentioned."""

    def __init__(self) -> None:
        self._mentions: dict[int, int] = {}
        self._before: dict[int, Before] = {}

    def note(self, member: int, before: Before, members: int) -> None:
        """The record of a member changed; `members` is how many there are."""
        self._mentions[member] = MENTIONS_PER_DOUBLING * members.bit_length()
        self._before[member] = before

    def take(self, at_most: int, besides: Collection[int]) -> list[tuple[int, Before]]:
        """The records to mention now, without those that are mentioned anyway; each counts down."""
        hot = [one for one in self._mentions if one not in besides]
        if len(hot) > at_most:
            hot = heapq.nlargest(at_most, hot, key=self._mentions.__getitem__)
        taken = [(one, self._before[one]) for one in hot]
        for one in hot:
            self._mentions[one] -= 1
            if not self._mentions[one]:
                self.forget(one)
        return taken

    def forget(self, member: int) -> None:
        """It is old, or its member is gone."""
        self._mentions.pop(member, None)
        self._before.pop(member, None)

    def check_invariants(self, members: Collection[int]) -> None:
        """Assert that what is hot is known, and still to be mentioned."""
        assert self._before.keys() == self._mentions.keys()
        assert all(one in members and left > 0 for one, left in self._mentions.items())
