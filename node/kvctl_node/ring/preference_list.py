"""Preference lists: where the replicas of a key belong, and who stands in when they cannot.

The N owners of a partition are its **primaries**, in the order of the partition map. After them
come the **fallbacks**: every other member, in the order in which it is met among the owners of the
following partitions, walking clockwise. Since neighbouring partitions have different owners, the
load of a failed server spreads over all the others.

                 clockwise ──▶
    partition    41        42        43        44
    owners       n1 n4 n2  n4 n5 n1  n3 n1 n5  n2 n3 n6
                 ╰──┬───╯     ▲      ▲               ▲
                primaries     ╰──────┴── fallbacks ──╯    of partition 41: n5, n3, n6

A preference list has N **slots**, one per primary. An unreachable primary's slot goes to the first
reachable fallback that has none yet, and that fallback is bound to *this* primary: it keeps the
primary's hint, and the two together count once toward a quorum. Fallbacks are taken clockwise
without regard to zones: they hold the data only until the owner is back.

Source: DeCandia et al., "Dynamo: Amazon's Highly Available Key-value Store", SOSP 2007, sections
4.3 and 4.6.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple


class PreferenceList(NamedTuple):
    """All members of the cluster in the order in which they serve one partition."""

    primaries: tuple[str, ...]
    """The N owners, first owner first."""
    fallbacks: tuple[str, ...]
    """Everyone else, clockwise; disjoint from `primaries`."""


class Slot(NamedTuple):
    """One of the N places of a preference list."""

    primary: str
    """Whose place it is."""
    node: str | None
    """Who fills it: the primary itself, the fallback bound to it, or nobody."""

    @property
    def hinted(self) -> bool:
        """True when a fallback stands in, and so has to keep a hint for the primary."""
        return self.node is not None and self.node != self.primary


def clockwise(
    partition: int, owners: Sequence[tuple[str, ...]], members: Sequence[str]
) -> PreferenceList:
    """The preference list of a partition, given the owners of all partitions and all members.

    A member that owns nothing (its capacity is too small for one replica) is met nowhere on the
    circle; such members come last, in the order of `members`.
    """
    primaries = owners[partition]
    # A dict is an ordered set; the order of a real set would depend on PYTHONHASHSEED.
    met = dict.fromkeys(primaries)
    partitions = len(owners)
    for step in range(1, partitions):
        if len(met) == len(members):
            break
        for owner in owners[(partition + step) % partitions]:
            met[owner] = None
    for member in members:
        met[member] = None
    return PreferenceList(primaries, tuple(met)[len(primaries) :])


def walk(preference: PreferenceList, unreachable: Collection[str]) -> list[Slot]:
    """Fill the N slots, in order, while the nodes in `unreachable` cannot be used.

    Every node fills at most one slot. When the fallbacks run out, the remaining slots have no node.
    """
    stand_ins = (node for node in preference.fallbacks if node not in unreachable)
    return [
        Slot(primary, next(stand_ins, None) if primary in unreachable else primary)
        for primary in preference.primaries
    ]
