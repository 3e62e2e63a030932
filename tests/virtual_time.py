"""Virtual time: a queue of things to happen, and a clock that jumps from one to the next.

Nothing waits: a minute of a cluster's life takes as long as the work in it. Things due at the same
instant happen in the order in which they were planned, so a run is a function of its seed.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import count


class VirtualTime:
    """The time of a run, in seconds since its start."""

    def __init__(self) -> None:
        self.time_s = 0.0
        self._queue: list[tuple[float, int, Callable[[], None]]] = []
        self._order = count()

    def at(self, at_s: float, action: Callable[[], None]) -> None:
        """Let `action` happen at that time."""
        heapq.heappush(self._queue, (at_s, next(self._order), action))

    def after(self, delay_s: float, action: Callable[[], None]) -> None:
        """Let `action` happen in `delay_s` seconds."""
        self.at(self.time_s + delay_s, action)

    def run_until(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Run until the condition holds; False when `seconds` of virtual time went by first."""
        end_s = self.time_s + seconds
        while not condition():
            if not self._queue or self._queue[0][0] > end_s:
                self.time_s = end_s
                return condition()
            at_s, _, action = heapq.heappop(self._queue)
            self.time_s = max(self.time_s, at_s)
            action()
        return True
