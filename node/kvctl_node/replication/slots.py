"""Which nodes may fill the N slots of a preference list right now.

Strict: the reachable primaries, each in its own slot. Sloppy: a slot whose primary cannot be
reached is filled by the next healthy node clockwise, which keeps a hint for exactly that primary
(Dynamo §4.6). Nobody fills two slots, and a slot may stay empty when too few nodes are left.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from kvctl_node.config import QuorumMode
from kvctl_node.node_state import NodeState
from kvctl_node.ring.preference_list import walk


class Slots(NamedTuple):
    """The nodes to ask, and for whom each of them answers."""

    by_node: Mapping[str, str]
    """Node → the primary whose slot it fills; a primary fills its own."""
    missing: tuple[str, ...]
    """Primaries whose slot nobody fills."""
    stand_ins: Mapping[str, str]
    """Fallback → the primary it stands in for; empty while all primaries are there."""
    others: tuple[str, ...]
    """The nodes to ask besides the one that coordinates; in the usual case sorted, so that it does
    not matter which of them is the primary."""

    degraded: bool
    """Whether some primary does not take part."""

    def stands_for(self, node: str) -> str:
        """The primary a fallback stands in for, "" for a primary."""
        return self.stand_ins.get(node, "")


def choose_slots(state: NodeState, partition: int, requested_mode: int) -> Slots:
    """Fill the slots of a partition by what is believed reachable at this moment."""
    primaries = state.map.owners[partition]
    own = state.name
    liveness = state.liveness
    if len(liveness.reachable) == len(liveness.peers):
        return _own_slots(primaries, own)
    reachable = state.reachable_of(primaries)
    if reachable is primaries:
        return _own_slots(primaries, own)
    if state.mode_of(requested_mode) is QuorumMode.STRICT:
        missing = tuple(node for node in primaries if node not in reachable)
        others = tuple(node for node in reachable if node != own)
        return Slots({node: node for node in reachable}, missing, {}, others, bool(missing))
    unreachable = [node for node in state.map.members if not state.can_reach(node)]
    slots = walk(state.map.preference_list(partition), unreachable)
    filled = {slot.node: slot.primary for slot in slots if slot.node is not None}
    missing = tuple(slot.primary for slot in slots if slot.node is None)
    stand_ins = {slot.node: slot.primary for slot in slots if slot.node is not None and slot.hinted}
    others = tuple(node for node in filled if node != own)
    return Slots(filled, missing, stand_ins, others, bool(missing or stand_ins))


@lru_cache(maxsize=1 << 16)
def _own_slots(primaries: tuple[str, ...], own: str) -> Slots:
    """Everybody in their own place: the usual case, made once per distinct preference list."""
    others = tuple(sorted(node for node in primaries if node != own))
    return Slots({node: node for node in primaries}, (), {}, others, degraded=False)
