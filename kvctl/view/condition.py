"""Who is up, who is cut off from whom: the conclusions drawn from a view.

A node that answers the dashboard may still be cut off from its peers, since faults touch only what
passes between nodes. So two questions are kept apart: does it serve (`conditions_of`), and whom can
it work with (`reach_of`), which is what quorums are made of.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from kvctl.view.observation import ProcessWord
from kvctl.view.state import ClusterView, Condition, NodeView


def conditions_of(view: ClusterView) -> dict[str, Condition]:
    """Every node in one word."""
    serving = serving_nodes(view)
    reach = reach_of(serving, cut_links(view))
    alone = {name for name in serving if len(serving) > 1 and reach[name] == {name}}
    doubted = _doubted(view, frozenset(serving))
    return {
        name: _condition(node, is_cut=name in alone, is_doubted=name in doubted)
        for name, node in view.nodes.items()
    }


def _condition(node: NodeView, *, is_cut: bool, is_doubted: bool) -> Condition:
    if node.process is None:
        return Condition.UNKNOWN
    if node.process is ProcessWord.PAUSED:
        return Condition.PAUSED
    if node.process in (ProcessWord.DEAD, ProcessWord.STOPPED):
        return Condition.DOWN
    if is_cut:
        return Condition.CUT
    return Condition.SUSPECT if is_doubted or not node.answers else Condition.UP


def _doubted(view: ClusterView, serving: frozenset[str]) -> set[str]:
    """The nodes that a peer which answers thinks suspect or down."""
    return {
        member
        for viewer, row in view.beliefs.items()
        if viewer in serving
        for member, belief in row.items()
        if member != viewer and belief.state in ("suspect", "down")
    }


def serving_nodes(view: ClusterView) -> tuple[str, ...]:
    """The nodes that answer."""
    return tuple(name for name, node in view.nodes.items() if node.answers)


def cut_links(view: ClusterView) -> frozenset[tuple[str, str]]:
    """The directed links nothing passes, by the faults that are active."""
    return frozenset(link for fault in view.faults.values() if fault.cuts for link in fault.links)


def reach_of(
    serving: Iterable[str], cut: frozenset[tuple[str, str]]
) -> Mapping[str, frozenset[str]]:
    """For each serving node, those it can work with: itself, and whom it reaches both ways."""
    names = tuple(serving)
    return {
        name: frozenset(
            other
            for other in names
            if other == name or ((name, other) not in cut and (other, name) not in cut)
        )
        for name in names
    }


def phis_of(view: ClusterView) -> dict[str, float]:
    """Per node the highest phi any answering peer computes: how surprising its silence is."""
    highest = dict.fromkeys(view.nodes, 0.0)
    for viewer in serving_nodes(view):
        for member, belief in view.beliefs.get(viewer, {}).items():
            if member != viewer and belief.phi > highest.get(member, 0.0):
                highest[member] = belief.phi
    return highest
