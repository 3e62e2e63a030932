"""Deadlines of many requests, kept in coarse buckets.

Thousands of requests a second are each given a deadline that almost none of them meets. A heap
would pay for every one of them twice; a bucket per `RESOLUTION_MS` costs one list append, and a
request that finished early is simply no longer found when its bucket comes up.
"""

from __future__ import annotations

RESOLUTION_MS = 32


class DeadlineWheel:
    """Ids by the bucket in which they fall due. Times are milliseconds of the monotonic clock: a
    step of the wall clock neither holds up a deadline nor brings it forward."""

    __slots__ = ("_buckets", "next_ms")

    def __init__(self) -> None:
        self._buckets: dict[int, list[int]] = {}
        self.next_ms: int | None = None
        """When `due` will next have something to say; None while nothing waits."""

    def add(self, identifier: int, due_ms: int) -> None:
        """Report `identifier` at the first `due` call at or after its deadline (rounded up)."""
        bucket = due_ms // RESOLUTION_MS + 1
        waiting = self._buckets.get(bucket)
        if waiting is None:
            self._buckets[bucket] = [identifier]
            end_ms = bucket * RESOLUTION_MS
            if self.next_ms is None or end_ms < self.next_ms:
                self.next_ms = end_ms
        else:
            waiting.append(identifier)

    def due(self, now_ms: int) -> list[int]:
        """Ids whose bucket has come, oldest bucket first; they are forgotten here."""
        if self.next_ms is None or now_ms < self.next_ms:
            return []
        ready = sorted(bucket for bucket in self._buckets if bucket * RESOLUTION_MS <= now_ms)
        identifiers = [one for bucket in ready for one in self._buckets.pop(bucket)]
        self.next_ms = min(self._buckets) * RESOLUTION_MS if self._buckets else None
        return identifiers
