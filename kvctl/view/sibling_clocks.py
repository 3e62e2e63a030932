"""The clocks of siblings side by side: what they have in common, and what keeps them apart.

The store keeps one clock for all versions of a key, and for each version the dot that names its
write. So a version is the common past, which all that was superseded belongs to, and its own dot:

    n1  ■ ■ ◆        n1  ■ ■ ·
    n2  ■ ·          n2  ■ ◆          past {n1: 2, n2: 1}, versions n1:3 and n2:2

A version dominates another if it has seen every write the other has. Here neither does, and the
entry to blame is in each its own dot, which the other has not seen: it breaks the dominance.

Two writes through one node may be siblings, too: past {n1: 2}, versions n1:3 and n1:4, where the
clock of the second has a gap at 3.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from enum import Enum
from typing import NamedTuple

from kvctl.view.observation import KeyConflict


class Write(Enum):
    """What a version knows of one write."""

    SEEN = "seen"
    """Part of the past that all versions share."""
    OWN = "own"
    """The version itself: the other versions have not seen it."""
    UNSEEN = "unseen"
    """Another version, or one that came after it at the same node."""


class Entry(NamedTuple):
    """One node's entry in the clock of one version."""

    node: str
    past: int
    """Writes 1 to `past` are common to all versions."""
    own: int | None
    """The version's own write, if this node coordinated it."""
    top: int
    """The highest write any version has."""

    @property
    def breaks_dominance(self) -> bool:
        """Whether this is what the others have not seen."""
        return self.own is not None

    @property
    def counter(self) -> int:
        """The entry as a version vector shows it."""
        return self.past if self.own is None else self.own

    def write(self, number: int) -> Write:
        """What the version knows of the `number`-th write of this node."""
        if number <= self.past:
            return Write.SEEN
        return Write.OWN if number == self.own else Write.UNSEEN


def common_past(conflict: KeyConflict) -> dict[str, int]:
    """Node → how many of its writes every version has seen."""
    past = dict(conflict.clock)
    for version in conflict.versions:
        node, count = version.dot
        past[node] = min(past.get(node, count - 1), count - 1)
    return past


def clock_of(conflict: KeyConflict, place: int) -> list[Entry]:
    """The clock of the version at `place`, an entry for each node in the order of their names."""
    past = common_past(conflict)
    tops = dict(conflict.clock)
    for version in conflict.versions:
        node, count = version.dot
        tops[node] = max(tops.get(node, 0), count)
    own_node, own_count = conflict.versions[place].dot
    return [
        Entry(node, past[node], own_count if node == own_node else None, tops[node])
        for node in sorted(past)
    ]


def bar(entry: Entry, width: int, signs: tuple[str, str, str]) -> str:
    """An entry as a line of at most `width` characters: signs for seen, own and unseen writes.

    A character is a write. Of a long history only the end is shown, and `<` says so.
    """
    room = min(entry.top, width)
    first = entry.top - room + 1
    by_write = dict(zip(Write, signs, strict=True))
    line = "".join(by_write[entry.write(number)] for number in range(first, entry.top + 1))
    if first > 1 and line:
        line = "<" + line[1:]
    return line


def joined_lines(values: Sequence[bytes]) -> bytes:
    """One value with every line of all values: as often as the value has it that has it most often.

    Lines stand in the order in which they first appear: those of the first value as they are, then
    what each of the others has more. A line is what stands between line feeds, byte by byte, so
    lines with other ends are other lines. The result ends with a line feed if any value does, or if
    the last line is an empty one, which nobody would see otherwise. One value alone stays what it
    is. What the union of sets is for carts, this is for text: the union of multisets.
    """
    joined: list[bytes] = []
    counts: Counter[bytes] = Counter()
    for value in values:
        own: Counter[bytes] = Counter()
        for line in _lines(value):
            own[line] += 1
            if own[line] > counts[line]:
                counts[line] += 1
                joined.append(line)
    if not joined:
        return b""
    ends = not joined[-1] or any(value.endswith(b"\n") for value in values)
    return b"\n".join(joined) + (b"\n" if ends else b"")


def _lines(value: bytes) -> list[bytes]:
    lines = value.split(b"\n")
    return lines if lines[-1] else lines[:-1]
