"""The causal context: the exact set of writes that somebody has seen.

Every write is named by a *dot* `(actor, counter)`. A context is a set of dots, kept small:

    vector    {n1: 4, n2: 1}   stands for n1:1 n1:2 n1:3 n1:4 n2:1
    detached  {n1:7}           n1:7 without n1:5 and n1:6

A version vector alone could not say "n1:7 but not n1:6", and so the answer to a blind put would
claim to have seen a sibling that its client never saw, and the client's next put would erase it.

Entries carry the wall-clock stamp of their dot, for truncation (oldest first). A stamp is set once,
when the dot is minted, so it is a function of the dot and equal everywhere.

Invariants: entries are sorted; counters are at least 1; a detached dot is never covered by, nor
directly next to, the vector (it would have been absorbed). `union` is commutative, associative and
idempotent.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

import msgspec

Entry = tuple[str, int, int]
"""(actor, counter, stamp in wall-clock milliseconds)."""


class Dot(NamedTuple):
    """The name of one write: the counter-th write that `actor` coordinated for the key."""

    actor: str
    counter: int


class Ordering(Enum):
    """How one history relates to another."""

    EQUAL = "equal"
    PRECEDES = "precedes"
    SUCCEEDS = "succeeds"
    CONFLICTS = "conflicts"


class CausalContext(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """An immutable set of dots. The empty context has seen nothing."""

    vector: tuple[Entry, ...] = ()
    detached: tuple[Entry, ...] = ()

    def covers(self, actor: str, counter: int) -> bool:
        """Whether the write named by this dot has been seen."""
        for name, highest, _ in self.vector:
            if name == actor:
                if counter <= highest:
                    return True
                break
        return any(name == actor and number == counter for name, number, _ in self.detached)

    def highest_counter(self, actor: str) -> int:
        """The highest counter known for an actor, 0 if none: the next dot is one above it."""
        highest = 0
        for name, counter, _ in self.vector:
            if name == actor:
                highest = counter
                break
        for name, counter, _ in self.detached:
            if name == actor and counter > highest:
                highest = counter
        return highest

    def with_dot(self, actor: str, counter: int, stamp_ms: int) -> CausalContext:
        """This context and one more dot."""
        if not self.vector and not self.detached:
            entry = ((actor, counter, stamp_ms),)
            return CausalContext(entry) if counter == 1 else CausalContext((), entry)
        if not self.detached:
            # The usual case, next in line for an actor already known, without sorting anything.
            for index, (name, highest, _) in enumerate(self.vector):
                if name == actor and counter == highest + 1:
                    entry = ((actor, counter, stamp_ms),)
                    return CausalContext(self.vector[:index] + entry + self.vector[index + 1 :])
        return self.union(CausalContext((), ((actor, counter, stamp_ms),)))

    def union(self, other: CausalContext) -> CausalContext:
        """Everything that either side has seen."""
        if self == other:
            return self
        tops: dict[str, tuple[int, int]] = {}
        for actor, counter, stamp_ms in (*self.vector, *other.vector):
            top = (counter, stamp_ms)
            if top > tops.get(actor, (0, 0)):
                tops[actor] = top
        loose: list[Entry] = []
        for actor, counter, stamp_ms in sorted({*self.detached, *other.detached}):
            top_counter, top_stamp_ms = tops.get(actor, (0, 0))
            if counter == top_counter + 1 or (counter == top_counter and stamp_ms > top_stamp_ms):
                tops[actor] = (counter, stamp_ms)
            elif counter > top_counter:
                if loose and loose[-1][:2] == (actor, counter):
                    loose.pop()  # the same dot with an older stamp: sorting put it first
                loose.append((actor, counter, stamp_ms))
        return CausalContext(tuple((actor, *tops[actor]) for actor in sorted(tops)), tuple(loose))

    def includes(self, other: CausalContext) -> bool:
        """Whether everything `other` has seen is seen here too."""
        return all(self._covers_up_to(actor, top) for actor, top, _ in other.vector) and all(
            self.covers(actor, counter) for actor, counter, _ in other.detached
        )

    def _covers_up_to(self, actor: str, counter: int) -> bool:
        return any(name == actor and counter <= highest for name, highest, _ in self.vector)

    def compare(self, other: CausalContext) -> Ordering:
        """How this history relates to `other`, as Lamport's happened-before has it."""
        ahead, behind = self.includes(other), other.includes(self)
        if ahead and behind:
            return Ordering.EQUAL
        if ahead:
            return Ordering.SUCCEEDS
        return Ordering.PRECEDES if behind else Ordering.CONFLICTS

    def check_invariants(self) -> None:
        """Assert the canonical form; for tests and simulation."""
        actors = [entry[0] for entry in self.vector]
        assert actors == sorted(set(actors))
        assert all(counter >= 1 for _, counter, _ in self.vector)
        dots = [entry[:2] for entry in self.detached]
        assert dots == sorted(set(dots))
        tops = {actor: counter for actor, counter, _ in self.vector}
        assert all(counter > tops.get(actor, 0) + 1 for actor, counter in dots)


EMPTY_CONTEXT = CausalContext()
