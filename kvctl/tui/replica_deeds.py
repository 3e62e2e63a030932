"""Deeds about replicas: settling siblings, pushing hints, comparing and repairing.

Settling writes a value once and for all, so it cannot be undone; but it never writes over what was
not shown: the key is read again first, and written with the context of that read.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from kvctl.tui.cluster_handle import Choice, ClusterHandle, Dot
from kvctl.tui.deeds import Deed, Outcome
from kvctl.view.observation import KeyConflict
from kvctl.view.sibling_clocks import joined_lines


def take(conflict: KeyConflict, dot: Dot) -> Deed:
    """Keep one version; if it is a tombstone, the key is deleted."""
    command = f"kvctl resolve {quoted(conflict.key)} --pick {dot[0]}:{dot[1]}"
    return _settled(conflict, command, lambda values: values[dot])


def merge(conflict: KeyConflict) -> Deed:
    """Join the lines of all versions, each line once; tombstones have none."""

    def choose(values: Mapping[Dot, bytes | None]) -> bytes:
        return joined_lines([value for _, value in sorted(values.items()) if value is not None])

    shown = [version.value for version in conflict.versions if version.value is not None]
    joined = joined_lines([value.encode("utf-8") for value in shown]).decode("utf-8")
    if not all(version.is_whole_text for version in conflict.versions):
        joined = "..."  # a command line is no place for what is not text, or is that long
    command = f"kvctl resolve {quoted(conflict.key)} --value {quoted(joined)}"
    return _settled(conflict, command, choose)


def quoted(text: str) -> str:
    """The text as one word of a shell's command line, and always on one line."""
    if text.isprintable():
        return shlex.quote(text)
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    for character, escape in (("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        escaped = escaped.replace(character, escape)
    shown = "".join(one if one.isprintable() else f"\\U{ord(one):08x}" for one in escaped)
    return f"$'{shown}'"


def settle(conflict: KeyConflict, value: str) -> Deed:
    """Replace all versions by this text."""
    command = f"kvctl resolve {quoted(conflict.key)} --value {quoted(value)}"
    return _settled(conflict, command, lambda _: value.encode("utf-8"))


def _settled(conflict: KeyConflict, command: str, choose: Choice) -> Deed:
    shown = [version.dot for version in conflict.versions]

    def perform(handle: ClusterHandle) -> Outcome:
        operation = handle.settle(conflict.key, shown, choose)
        what = "deleted" if operation.op == "del" else "settled"
        sentence = f"{conflict.key} is {what}: {', '.join(operation.answered)} have it."
        return Outcome(sentence, operation=operation)

    return Deed(command, perform)


def hold() -> Deed:
    """Deliver no hints; undone by releasing them."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.hold_hints(True)
        return Outcome("hints are held.", release())

    return Deed("kvctl hints hold", perform)


def release() -> Deed:
    """Deliver hints again."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.hold_hints(False)
        return Outcome("hints are delivered again.", hold())

    return Deed("kvctl hints release", perform)


def push(holders: Sequence[str] = ()) -> Deed:
    """Deliver now."""

    def perform(handle: ClusterHandle) -> Outcome:
        count = handle.push_hints(holders)
        return Outcome(f"{count} hint{'' if count == 1 else 's'} to push.")

    return Deed(f"kvctl handoff {' '.join(holders)}".rstrip(), perform)


def compare(one: str, other: str) -> Deed:
    """Start a comparison, which changes nothing."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.compare(one, other)
        return Outcome(f"{one} and {other} are being compared.")

    return Deed(f"kvctl merkle {one} {other}", perform)


def repair(nodes: Sequence[str] = ()) -> Deed:
    """Start a repair of these nodes with all others; none: of all."""

    def perform(handle: ClusterHandle) -> Outcome:
        handle.repair(nodes)
        return Outcome(f"{', '.join(nodes) or 'every pair'} is being repaired.")

    return Deed(f"kvctl repair {' '.join(nodes)}".rstrip(), perform)
