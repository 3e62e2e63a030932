"""Deeds: what can be done to the cluster from the dashboard, each with the command that does it.

A deed is a value: the words of its command as a person would type it, what to call, which nodes or
links it takes away, and what undoes it. So a deed can be shown before it is done, judged
(`worsened`), done in a thread, and undone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import product
from typing import NamedTuple

from kvctl.text.cells import cut_middle, steady
from kvctl.text.command_lines import command_words
from kvctl.tui.cluster_handle import ClusterHandle
from kvctl.view.condition import cut_links, reach_of, serving_nodes
from kvctl.view.observation import OperationSeen
from kvctl.view.partition_plan import PartitionPlan
from kvctl.view.quorum_outlook import ClusterOutlook, cluster_outlook
from kvctl.view.state import ClusterView
from kvctl_node.config import QuorumConfig

BRIEF_WIDTH = 40


class Outcome(NamedTuple):
    """What became of a deed."""

    sentence: str
    undo: Deed | None = None
    operation: OperationSeen | None = None


class Deed(NamedTuple):
    """Something to do."""

    words: tuple[str, ...]
    """The words after `kvctl` of the command that does the same; none if no command can say it."""
    perform: Callable[[ClusterHandle], Outcome]
    """Blocks; raises `StoreError`."""
    takes_nodes: frozenset[str] = frozenset()
    takes_links: frozenset[tuple[str, str]] = frozenset()
    quorum: QuorumConfig | None = None
    """What the quorum is afterwards, if it changes."""


def kill(node: str) -> Deed:
    """SIGKILL; undone by starting the node again."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.kill(node)
        return Outcome(f"{node} was killed.", start(node))

    return Deed(command_words("kill", [node]), perform, frozenset({node}))


def start(node: str) -> Deed:
    """Start a node that is down."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.start(node)
        return Outcome(f"{node} was started.", kill(node))

    return Deed(command_words("start", [node]), perform)


def stop(node: str) -> Deed:
    """Stop cleanly; undone by starting the node again."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.stop(node)
        return Outcome(f"{node} was stopped.", start(node))

    return Deed(command_words("stop", [node]), perform, frozenset({node}))


def pause(node: str) -> Deed:
    """SIGSTOP; undone by resuming."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.pause(node)
        return Outcome(f"{node} was paused.", resume(node))

    return Deed(command_words("pause", [node]), perform, frozenset({node}))


def resume(node: str) -> Deed:
    """SIGCONT; undone by pausing."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.resume(node)
        return Outcome(f"{node} goes on.", pause(node))

    return Deed(command_words("resume", [node]), perform)


def restart(node: str) -> Deed:
    """Stop cleanly and start; nothing is left to undo, and the node is away for a moment only."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.restart(node)
        return Outcome(f"{node} was restarted.")

    return Deed(command_words("restart", [node]), perform)


def partition(groups: Sequence[Sequence[str]], everyone: Sequence[str]) -> Deed:
    """Cut the links between groups; one group alone is cut off from all others."""
    sides = [list(group) for group in groups]
    if len(sides) == 1:
        sides.append([name for name in everyone if name not in sides[0]])
    links = frozenset(
        link for one in sides for other in sides if one is not other for link in product(one, other)
    )

    def perform(handle: ClusterHandle) -> Outcome:
        return _cut(handle.partition(groups), "the network is cut")

    words = command_words("partition", [",".join(group) for group in groups])
    return Deed(words, perform, takes_links=links)


def isolate(nodes: Sequence[str], everyone: Sequence[str]) -> Deed:
    """Cut nodes off from all others, both ways."""
    links = frozenset(
        link
        for node in nodes
        for other in everyone
        if other != node
        for link in ((node, other), (other, node))
    )

    def perform(handle: ClusterHandle) -> Outcome:
        return _cut(handle.isolate(nodes), f"{', '.join(nodes)} cut off")

    return Deed(command_words("isolate", nodes), perform, takes_links=links)


def link(links: Iterable[tuple[str, str]], words: Sequence[str]) -> Deed:
    """Cut single directed links, in the words of `kvctl link`."""

    def perform(handle: ClusterHandle) -> Outcome:
        return _cut(handle.cut_links(words), f"{' '.join(words)} cut")

    return Deed(command_words("link", words, ["--drop"]), perform, takes_links=frozenset(links))


def planned(plan: PartitionPlan) -> Deed:
    """Carry out a planned partition, which cuts something."""
    if plan.is_by_groups:
        return partition(plan.sides(), plan.names)
    return link(plan.links(), plan.link_words())


def _cut(fault_id: str, words: str) -> Outcome:
    return Outcome(f"{words} (fault {fault_id}).", heal(fault_id))


def heal(fault_id: str = "") -> Deed:
    """Lift one fault, or all."""

    def perform(handle: ClusterHandle) -> Outcome:
        lifted = handle.heal(fault_id)
        return Outcome(f"{lifted} fault{'' if lifted == 1 else 's'} lifted.")

    return Deed(command_words("heal", [fault_id] if fault_id else []), perform)


def set_quorum(
    before: QuorumConfig,
    *,
    n: int | None = None,
    r: int | None = None,
    w: int | None = None,
    mode: str | None = None,
) -> Deed:
    """Change R, W or mode; undone by setting what was. N is refused, with the reason."""
    given = {"n": n, "r": r, "w": w, "mode": mode}
    words = [f"{name}={value}" for name, value in given.items() if value is not None]
    after = QuorumConfig(
        n or before.n, r or before.r, w or before.w, mode if mode is not None else before.mode
    )

    def perform(handle: ClusterHandle) -> Outcome:
        handle.set_quorum(n=n, r=r, w=w, mode=mode)
        back = set_quorum(after, r=before.r, w=before.w, mode=before.mode)
        return Outcome(f"now {', '.join(words)}.", back)

    return Deed(command_words("config set", words), perform, quorum=after)


def put(key: str, value: str) -> Deed:
    """Write a key."""

    def perform(handle: ClusterHandle) -> Outcome:
        operation = handle.put(key, value)
        return Outcome(_told(operation), operation=operation)

    return Deed(command_words("put", [key, value]), perform)


def get(key: str) -> Deed:
    """Read a key."""

    def perform(handle: ClusterHandle) -> Outcome:
        operation, shown = handle.get(key)
        size = f" ({len(shown)} characters)" if len(shown) > BRIEF_WIDTH else ""
        return Outcome(f"{brief_text(key)}: {brief_text(shown)}{size}.", operation=operation)

    return Deed(command_words("get", [key]), perform)


def delete(key: str) -> Deed:
    """Delete a key."""

    def perform(handle: ClusterHandle) -> Outcome:
        operation = handle.delete(key)
        return Outcome(_told(operation), operation=operation)

    return Deed(command_words("del", [key]), perform)


def _told(operation: OperationSeen) -> str:
    told = f"{operation.op} {brief_text(operation.key)}: acknowledged by "
    told += ", ".join(operation.answered)
    stand_ins = [f"{holder} for {primary}" for holder, primary in operation.hinted.items()]
    return told + (f"; {', '.join(stand_ins)}." if stand_ins else ".")


def brief_text(text: str) -> str:
    """A key or a value within a sentence; what is left out of its middle leaves a mark."""
    return cut_middle(steady(text[:BRIEF_WIDTH] + text[BRIEF_WIDTH:][-BRIEF_WIDTH:]), BRIEF_WIDTH)


# ---------------------------------------------------------------- what a deed would do


def worsened(view: ClusterView, deed: Deed) -> ClusterOutlook | None:
    """The outlook after the deed, if it leaves ranges without a write quorum that have one now."""
    if view.ring is None:
        return None
    serving, cut = serving_nodes(view), cut_links(view)
    before = cluster_outlook(view.ring, view.quorum, reach_of(serving, cut))
    left: Iterable[str] = [name for name in serving if name not in deed.takes_nodes]
    after = cluster_outlook(
        view.ring, deed.quorum or view.quorum, reach_of(left, cut | deed.takes_links)
    )
    return after if after.no_write > before.no_write else None
