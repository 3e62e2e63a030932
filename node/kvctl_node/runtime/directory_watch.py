"""A node whose directory is gone does not go on: it looks once a second, busy or idle.

Somebody removed the directory, moved it, or put another one in its place. What this node stores
from then on would be lost with its process, and what it writes by name (tables, logs, the end of
SQLite's log) would land in the directory of whoever has the place now. A turn that stores something
is not answered from the moment the files are deleted (`kvctl_node.storage.disk_mark`); this is for
a node that stores nothing, and for directories that were moved.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from kvctl_node.ports import Instant

INTERVAL_S = 1.0


class DirectoryWatch:
    """Calls `check`, which raises `DirectoryGoneError`, every `INTERVAL_S` seconds."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._due_s = -math.inf

    def on_tick(self, now: Instant) -> None:
        """Look, if it is time."""
        if now.monotonic_s >= self._due_s:
            self._check()
            self._due_s = now.monotonic_s + INTERVAL_S

    def next_wakeup_s(self, now: Instant) -> float:
        """Seconds until the next look."""
        return max(0.0, self._due_s - now.monotonic_s)
