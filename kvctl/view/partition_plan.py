"""A partition while it is being planned: groups of nodes, single links, and what to type for it.

Every node is in a group, 1 to 9, or in none: then it is a bridge, which keeps its links to all. On
top of the groups single directed links can be turned around, cut or restored, which is how one-way
cuts are made. A plan is a value; each change gives a new one, so it can be previewed before it is
done.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import permutations
from random import Random
from typing import NamedTuple

from kvctl.text.command_lines import command_words

BRIDGE = 0
GROUPS_MAX = 9

Link = tuple[str, str]


class PartitionPlan(NamedTuple):
    """Who is in which group, and the links that are not as the groups have them."""

    names: tuple[str, ...]
    groups: tuple[int, ...]
    """For each name its group, `BRIDGE` for none."""
    turned: frozenset[Link] = frozenset()
    """Directed links that are cut though the groups keep them, or kept though the groups cut."""

    def group_of(self, name: str) -> int:
        """The group of a node."""
        return self.groups[self.names.index(name)]

    def with_group(self, name: str, group: int) -> PartitionPlan:
        """The node in another group; what was done to single links is kept."""
        assert BRIDGE <= group <= GROUPS_MAX
        groups = [
            group if one == name else old for one, old in zip(self.names, self.groups, strict=True)
        ]
        return self._replace(groups=tuple(groups))

    def moved(self, name: str, by: int) -> PartitionPlan:
        """The node one group further, around through a new group of its own and the bridge."""
        others = [group for one, group in zip(self.names, self.groups, strict=True) if one != name]
        highest = min(GROUPS_MAX, max(others, default=BRIDGE) + 1)
        return self.with_group(name, (self.group_of(name) + by) % (highest + 1))

    def with_turned(self, link: Link) -> PartitionPlan:
        """One link cut if it was kept, kept if it was cut."""
        return self._replace(turned=self.turned ^ {link})

    def cuts(self, link: Link) -> bool:
        """Whether nothing will pass this link."""
        return self._cut_by_groups(link) != (link in self.turned)

    def _cut_by_groups(self, link: Link) -> bool:
        one, other = (self.group_of(name) for name in link)
        return BRIDGE not in (one, other) and one != other

    def links(self) -> frozenset[Link]:
        """All directed links that will be cut."""
        return frozenset(link for link in permutations(self.names, 2) if self.cuts(link))

    def sides(self) -> list[list[str]]:
        """The nodes of each group that has any, in the order of the groups."""
        by_group: dict[int, list[str]] = {}
        for name, group in zip(self.names, self.groups, strict=True):
            if group != BRIDGE:
                by_group.setdefault(group, []).append(name)
        return [by_group[group] for group in sorted(by_group)]

    @property
    def is_by_groups(self) -> bool:
        """Whether the groups alone say it all."""
        return not self.turned

    def link_words(self) -> list[str]:
        """The cut as `kvctl link` takes it: `n1>n2`, or `n1<>n2` where both ways are cut."""
        links = self.links()
        words = []
        for one, other in sorted(links):
            if (other, one) not in links:
                words.append(f"{one}>{other}")
            elif one < other:
                words.append(f"{one}<>{other}")
        return words

    def words(self) -> tuple[str, ...]:
        """The words after `kvctl` that make exactly this cut; none if nothing is cut."""
        if not self.links():
            return ()
        if self.is_by_groups:
            return command_words("partition", [",".join(side) for side in self.sides()])
        return command_words("link", self.link_words(), ["--drop"])


def whole(names: Iterable[str]) -> PartitionPlan:
    """Nothing is cut: all nodes are in the first group."""
    listed = tuple(names)
    return PartitionPlan(listed, (1,) * len(listed))


# ---------------------------------------------------------------- presets


def halves(names: Sequence[str]) -> PartitionPlan:
    """The first half against the second; with an odd number the second is larger."""
    return _two_sides(names, names[: len(names) // 2])


def majority(names: Sequence[str]) -> PartitionPlan:
    """A majority as small as can be, and the rest."""
    return _two_sides(names, names[: len(names) // 2 + 1])


def isolated(names: Sequence[str], node: str) -> PartitionPlan:
    """One node against all others."""
    return _two_sides(names, [node])


def bridged(names: Sequence[str], node: str) -> PartitionPlan:
    """Two halves that reach each other through nobody, and a node that reaches both."""
    others = [name for name in names if name != node]
    plan = halves(others)
    groups = [BRIDGE if name == node else plan.group_of(name) for name in names]
    return PartitionPlan(tuple(names), tuple(groups))


def at_random(names: Sequence[str], rng: Random) -> PartitionPlan:
    """Two sides drawn by lot, neither of them empty."""
    shuffled = rng.sample(list(names), len(names))
    return _two_sides(names, shuffled[: rng.randint(1, max(1, len(names) - 1))])


def _two_sides(names: Sequence[str], first: Iterable[str]) -> PartitionPlan:
    chosen = set(first)
    return PartitionPlan(tuple(names), tuple(1 if name in chosen else 2 for name in names))


# ---------------------------------------------------------------- what it would do


def reach_after(
    plan: PartitionPlan, reach: Mapping[str, frozenset[str]]
) -> dict[str, frozenset[str]]:
    """For each serving node, those it could still work with: both ways must be open."""
    cut = plan.links()
    return {
        name: frozenset(
            other for other in others if (name, other) not in cut and (other, name) not in cut
        )
        for name, others in reach.items()
    }
