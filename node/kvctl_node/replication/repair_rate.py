"""How fast repair may go: keys and bytes per second, so that it never crowds out clients.

Work is paid for after it was done: each step pushes back the moment at which the next may begin.
"""

from __future__ import annotations

BURST_S = 0.05
"""Unused time is saved up to this much; it lets small steps follow each other at once."""


class RepairRate:
    """One budget for all comparisons and rebuilds of a node."""

    def __init__(self, *, keys_per_s: int, bytes_per_s: int) -> None:
        self._seconds_per_key = 1 / keys_per_s
        self._seconds_per_byte = 1 / bytes_per_s
        self.free_s = 0.0
        """When the next step may begin, on the monotonic clock."""

    def spend(self, now_s: float, *, keys: int, size_bytes: int) -> None:
        """Account for a step just made."""
        cost_s = keys * self._seconds_per_key + size_bytes * self._seconds_per_byte
        self.free_s = max(self.free_s, now_s - BURST_S) + cost_s
