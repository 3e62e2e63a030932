"""Deeds about replicas: settling siblings, pushing hints, comparing and repairing.

Settling writes a value once and for all, so it cannot be undone; but it never writes over what was
not shown: the key is read again first, and written with the context of that read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvctl.text.command_lines import command_words
from kvctl.tui.cluster_handle import Choice, ClusterHandle, Dot
from kvctl.tui.deeds import Deed, Outcome, brief_text
from kvctl.view.observation import KeyConflict
from kvctl.view.sibling_clocks import joined_lines


def take(conflict: KeyConflict, dot: Dot) -> Deed:
    """Keep one version; if it is a tombstone, the key is deleted."""
    words = _resolve(conflict, "--pick", f"{dot[0]}:{dot[1]}")
    return _settled(conflict, words, lambda values: values[dot])


def merge(conflict: KeyConflict) -> Deed:
    """Join the lines of all versions; tombstones have none.

    No command can say it if a value is not known whole, for it would have to hold what comes out.
    """

    def choose(values: Mapping[Dot, bytes | None]) -> bytes:
        return joined_lines([value for _, value in sorted(values.items()) if value is not None])

    words: tuple[str, ...] = ()
    if all(version.is_whole_text for version in conflict.versions):
        words = _resolve(conflict, "--value", joined_text(conflict))
    return _settled(conflict, words, choose)


def joined_text(conflict: KeyConflict) -> str:
    """The joined lines of what is shown, in the order in which they will be written."""
    shown = sorted(conflict.versions, key=lambda version: version.dot)
    values = [version.value.encode("utf-8") for version in shown if version.value is not None]
    return joined_lines(values).decode("utf-8")


def settle(conflict: KeyConflict, value: str) -> Deed:
    """Replace all versions by this text."""
    words = _resolve(conflict, "--value", value)
    return _settled(conflict, words, lambda _: value.encode("utf-8"))


def _resolve(conflict: KeyConflict, rule: str, value: str) -> tuple[str, ...]:
    return command_words("resolve", [conflict.key], [rule, value])


def _settled(conflict: KeyConflict, words: tuple[str, ...], choose: Choice) -> Deed:
    shown = [version.dot for version in conflict.versions]

    def perform(handle: ClusterHandle) -> Outcome:
        operation = handle.settle(conflict.key, shown, choose)
        what = "deleted" if operation.op == "del" else "settled"
        sentence = f"{brief_text(conflict.key)} is {what}: {', '.join(operation.answered)} have it."
        return Outcome(sentence, operation=operation)

    return Deed(words, perform)


def hold() -> Deed:
    """Deliver no hints; undone by releasing them."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.hold_hints(True)
        return Outcome("hints are held.", release())

    return Deed(command_words("hints", ["hold"]), perform)


def release() -> Deed:
    """Deliver hints again."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.hold_hints(False)
        return Outcome("hints are delivered again.", hold())

    return Deed(command_words("hints", ["release"]), perform)


def push(holders: Sequence[str] = ()) -> Deed:
    """Deliver now."""

    def perform(handle: ClusterHandle) -> Outcome:
        count = handle.push_hints(holders)
        return Outcome(f"{count} hint{'' if count == 1 else 's'} to push.")

    return Deed(command_words("handoff", holders), perform)


def compare(one: str, other: str) -> Deed:
    """Start a comparison, which changes nothing."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.compare(one, other)
        return Outcome(f"{one} and {other} are being compared.")

    return Deed(command_words("merkle", [one, other]), perform)


def repair(nodes: Sequence[str] = ()) -> Deed:
    """Start a repair of these nodes with all others; none: of all."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.repair(nodes)
        return Outcome(f"{', '.join(nodes) or 'every pair'} is being repaired.")

    return Deed(command_words("repair", nodes), perform)
