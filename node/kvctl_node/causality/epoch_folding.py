"""Clocks as people see them: `[["n1", 4], ["n2", 1]]`, one entry per node.

Internally a node's actor changes its epoch when the node loses copies (`n1#3`, then `n1#7`), so
that no dot is ever used twice. People think in nodes. Folding lays a node's epochs end to end: an
entry counts all writes of earlier epochs that this context knows, plus its own. A newer write thus
never shows a smaller number, and within one object every dot keeps a number of its own.
"""

from __future__ import annotations

from functools import lru_cache

from kvctl_node.causality.causal_context import CausalContext, Dot


@lru_cache(maxsize=64)
def actor_name(node: str, epoch: int) -> str:
    """The actor under which a node mints dots in an epoch."""
    return f"{node}#{epoch}"


def split_actor(actor: str) -> tuple[str, int]:
    """(node, epoch) of an actor; an actor without epoch counts as epoch 0."""
    node, _, epoch = actor.partition("#")
    return node, int(epoch) if epoch.isdecimal() else 0


def fold_version(context: CausalContext) -> list[tuple[str, int]]:
    """The context as (node, count) pairs, sorted by node."""
    totals: dict[str, int] = {}
    for actor, highest in _highest_by_actor(context).items():
        node, _ = split_actor(actor)
        totals[node] = totals.get(node, 0) + highest
    return sorted(totals.items())


def fold_dot(dot: Dot, context: CausalContext) -> tuple[str, int]:
    """The dot as shown beside `fold_version(context)`: what `--pick n1:3` names."""
    node, epoch = split_actor(dot.actor)
    earlier = sum(
        highest
        for actor, highest in _highest_by_actor(context).items()
        if split_actor(actor)[0] == node and split_actor(actor)[1] < epoch
    )
    return node, earlier + dot.counter


def _highest_by_actor(context: CausalContext) -> dict[str, int]:
    actors = {entry[0] for entry in (*context.vector, *context.detached)}
    return {actor: context.highest_counter(actor) for actor in sorted(actors)}
