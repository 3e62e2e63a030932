"""Where a key goes: from its place on the circle, clockwise, to its owners and their stand-ins."""

from __future__ import annotations

from typing import NamedTuple

from kvctl.view.condition import cut_links, reach_of, serving_nodes
from kvctl.view.state import ClusterView
from kvctl_node.ring.preference_list import Slot, walk


class KeyWalk(NamedTuple):
    """The way of one key."""

    key: str
    partition: int
    position: float
    """Where the partition lies on the circle: 0 at the top, growing clockwise to 1."""
    primaries: tuple[str, ...]
    fallbacks: tuple[str, ...]
    slots: tuple[Slot, ...]
    """Who would take a write now, seen from the largest side."""


def walk_key(view: ClusterView, key: str) -> KeyWalk | None:
    """The way of a key through the present ring; None while no ring is known."""
    ring = view.ring
    if ring is None:
        return None
    partition = ring.partition_of(key.encode("utf-8"))
    preference = ring.preference_list(partition)
    sides = reach_of(serving_nodes(view), cut_links(view)).values()
    usable: frozenset[str] = max(sides, key=len, default=frozenset())
    unreachable = [name for name in ring.members if name not in usable]
    slots = walk(preference, unreachable)
    if view.quorum.mode == "strict":
        slots = [Slot(one.primary, None if one.hinted else one.node) for one in slots]
    return KeyWalk(
        key,
        partition,
        (partition + 0.5) / ring.partitions,
        preference.primaries,
        preference.fallbacks,
        tuple(slots),
    )
