"""The newest changes to the hints, in memory, in front of the table in the node's database.

The counterpart of `memtable`: one of these belongs to each segment of the commit log, and goes when
its changes have been written to the table. While a node is down, hints for it come in the order of
chance; written to the table one turn at a time, each would cost a page. Written a segment at a
time, in key order, many share one; and a hint that is merged or delivered before that costs none.

Invariant: holds the net effect, on the hints, of one segment of the commit log.
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Iterator

from kvctl_node.ports import Hint
from kvctl_node.storage.record_codec import ABSENT, Absent

ENTRY_OVERHEAD_BYTES = 400
"""What CPython needs per hint beside key and content."""
DELETION_BYTES = 120
"""What it needs per deletion, beside the key."""


class HintMemtable:
    """The changes of one segment: target -> key -> hint, or None for a deletion."""

    __slots__ = ("_changes", "_sorted", "count", "memory_bytes", "segment")

    def __init__(self, segment: int) -> None:
        self.segment = segment
        self.count = 0
        self.memory_bytes = 0
        """Estimate of the memory held."""
        self._changes: dict[str, dict[bytes, Hint | None]] = {}
        self._sorted: dict[str, list[bytes]] = {}
        """All keys of a target, in order; made when they are first wanted."""

    def put(self, target: str, key: bytes, hint: Hint | None) -> None:
        """Set the hint of (target, key); None deletes it."""
        changes = self._changes.get(target)
        if changes is None:
            changes = self._changes[target] = {}
        replaced = changes.get(key, ABSENT)
        if replaced is ABSENT:
            self.count += 1
            if target in self._sorted:
                insort(self._sorted[target], key)
        else:
            self.memory_bytes -= _size(key, replaced)
        self.memory_bytes += _size(key, hint)
        changes[key] = hint

    def get(self, target: str, key: bytes) -> Hint | Absent | None:
        """The hint, None if it was deleted, `ABSENT` if nothing changed."""
        changes = self._changes.get(target)
        return ABSENT if changes is None else changes.get(key, ABSENT)

    def targets(self) -> list[str]:
        """Whose hints changed, in order."""
        return sorted(self._changes)

    def after(self, target: str, key: bytes | None) -> Iterator[tuple[bytes, Hint | None]]:
        """Changes for a target in key order, from just after `key` (None: from the start)."""
        changes = self._changes.get(target)
        if changes is None:
            return
        keys = self._sorted.get(target)
        if keys is None:
            keys = self._sorted[target] = sorted(changes)
        for at in range(0 if key is None else bisect_right(keys, key), len(keys)):
            yield keys[at], changes[keys[at]]


def _size(key: bytes, hint: Hint | None) -> int:
    if hint is None:
        return DELETION_BYTES + len(key)
    return ENTRY_OVERHEAD_BYTES + len(key) + len(hint.content) + len(hint.recent)
