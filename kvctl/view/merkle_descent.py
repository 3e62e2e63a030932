"""Descending the Merkle trees of a pair of nodes, level by level, as people do it.

    root ──▶ groups of partitions ──▶ partitions ──▶ leaves ──▶ keys

Both nodes are asked for the hashes of the same children; children whose hashes agree are equal with
all that is below them, and need not be looked into. A `Place` names where in the tree one is, a
`LevelSeen` holds what the two nodes said of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import NamedTuple

from kvctl_node.ring.key_hash import LEAVES_PER_PARTITION

GROUP_PARTITIONS = 32
"""Neighbouring partitions in a group; the nodes say the same
(`kvctl_node.replication.merkle_pair`)."""
HASH_DIGITS = 32

Pair = tuple[str, str]


class Level(IntEnum):
    """What is listed; as the nodes number the levels, and keys below them."""

    ROOT = 0
    GROUPS = 1
    PARTITIONS = 2
    LEAVES = 3
    KEYS = 4


class Place(NamedTuple):
    """Where in the tree of a pair: the level shown, and the parent it is shown of."""

    pair: Pair
    level: Level = Level.ROOT
    parent: int = 0
    """Number of the group, partition or leaf that was entered; 0 above that."""

    def entered(self, child: int) -> Place | None:
        """One level down, into a child; None below the keys."""
        if self.level is Level.KEYS:
            return None
        return Place(self.pair, Level(self.level + 1), child)

    def left(self) -> Place | None:
        """One level up; None above the root."""
        if self.level is Level.ROOT:
            return None
        if self.level is Level.KEYS:
            return Place(self.pair, Level.LEAVES, self.parent // LEAVES_PER_PARTITION)
        if self.level is Level.LEAVES:
            return Place(self.pair, Level.PARTITIONS, self.parent // GROUP_PARTITIONS)
        return Place(self.pair, Level(self.level - 1), 0)

    @property
    def path(self) -> list[str]:
        """The way from the root to here, in words."""
        words = ["root"]
        partition = self.parent
        if self.level is Level.KEYS:
            partition = self.parent // LEAVES_PER_PARTITION
        if self.level >= Level.LEAVES:
            words.append(child_name(Level.GROUPS, partition // GROUP_PARTITIONS))
            words.append(child_name(Level.PARTITIONS, partition))
        elif self.level is Level.PARTITIONS:
            words.append(child_name(Level.GROUPS, self.parent))
        if self.level is Level.KEYS:
            words.append(child_name(Level.LEAVES, self.parent))
        return words


def child_name(level: Level, number: int) -> str:
    """What a child of this level is called."""
    if level is Level.ROOT:
        return "root"
    if level is Level.GROUPS:
        first = number * GROUP_PARTITIONS
        return f"group {first}-{first + GROUP_PARTITIONS - 1}"
    if level is Level.PARTITIONS:
        return f"partition {number}"
    return f"leaf {number % LEAVES_PER_PARTITION}"


class Child(NamedTuple):
    """A subtree as both nodes have it."""

    number: int
    hashes: tuple[str, str]

    @property
    def is_equal(self) -> bool:
        """Whether nothing below can differ."""
        return self.hashes[0] == self.hashes[1]


class KeySeen(NamedTuple):
    """A key of a leaf: its digest and clock at both nodes, None at one that lacks it."""

    key: str
    digests: tuple[str | None, str | None]
    clocks: tuple[str | None, str | None]

    @property
    def is_equal(self) -> bool:
        """Whether both hold the same."""
        return self.digests[0] == self.digests[1]


class LevelSeen(NamedTuple):
    """What the two nodes of a pair say of a place."""

    place: Place
    children: tuple[Child, ...] = ()
    keys: tuple[KeySeen, ...] = ()
    problem: str = ""
    """Why there is nothing to compare, "" if there is."""

    @property
    def differing(self) -> int:
        """How many of those listed differ."""
        return sum(not one.is_equal for one in self.children) + sum(
            not one.is_equal for one in self.keys
        )


def children_of(answers: Sequence[Mapping[str, object]]) -> tuple[Child, ...]:
    """The children in both nodes' answers to `merkle_hashes`, in order.

    While the nodes' rings differ they may list different children; only common ones compare.
    """
    first, second = (_hashes(answer) for answer in answers)
    return tuple(
        Child(number, (first[number], second[number])) for number in first if number in second
    )


def _hashes(answer: Mapping[str, object]) -> dict[int, str]:
    children, digits = answer["children"], answer["hashes"]
    assert isinstance(children, list) and isinstance(digits, str)
    return {
        int(child): digits[at : at + HASH_DIGITS]
        for child, at in zip(children, range(0, len(digits), HASH_DIGITS), strict=True)
    }


def keys_of(listings: Sequence[Sequence[Mapping[str, object]]]) -> tuple[KeySeen, ...]:
    """The keys in both nodes' answers to `merkle_keys`, those that differ first."""
    first, second = ({_key(one): one for one in listing} for listing in listings)
    seen = [
        KeySeen(
            key,
            (_digest(first.get(key)), _digest(second.get(key))),
            (_clock(first.get(key)), _clock(second.get(key))),
        )
        for key in sorted(first.keys() | second.keys())
    ]
    return tuple(sorted(seen, key=lambda one: one.is_equal))


def _key(said: Mapping[str, object]) -> str:
    key = said["key"]
    assert isinstance(key, bytes)
    return key.decode("utf-8", "backslashreplace")


def _digest(said: Mapping[str, object] | None) -> str | None:
    return None if said is None else str(said["digest"])


def _clock(said: Mapping[str, object] | None) -> str | None:
    """`n1:3 n2:1`, and the dots of the versions where there are several."""
    if said is None:
        return None
    clock, dots = said["clock"], said["dots"]
    assert isinstance(clock, list) and isinstance(dots, list)
    text = " ".join(f"{node}:{count}" for node, count in clock)
    if len(dots) > 1:
        text += f" ({', '.join(f'{node}:{count}' for node, count in dots)})"
    return text
