"""The clock of one client: the cluster's, as far as it is known, and one that cannot be frozen.

Deadlines travel as wall-clock instants. A client whose wall clock is wrong would be refused by
every node, or obeyed long after it gave up. A node that finds a request's times off says what time
it is (`Failed.wall_ms`), and the client goes by that from then on; it costs nothing while the
clocks agree.

Test libraries replace `time.time` and `time.monotonic` by clocks that stand still, and a client
that waited by those would wait for ever. So time is read from the system call itself, and
wall-clock time is the monotonic clock and a difference, which is found once.
"""

from __future__ import annotations

import time

_gettime, _MONOTONIC = time.clock_gettime, time.CLOCK_MONOTONIC


def monotonic() -> float:
    """Seconds on a clock that neither jumps nor stands still."""
    return _gettime(_MONOTONIC)


class ClientClock:
    """Wall-clock time for the stamps of one client's requests."""

    __slots__ = ("_difference_s", "_tolerance_s")

    def __init__(self, *, skew_s: float) -> None:
        """`skew_s`: how far apart clocks may be without harm."""
        self._difference_s = _gettime(time.CLOCK_REALTIME) - monotonic()
        self._tolerance_s = skew_s / 2

    def wall_s(self) -> float:
        """Seconds since the Unix epoch."""
        return monotonic() + self._difference_s

    def learn(self, wall_ms: int) -> float:
        """A node has just said what time it is: by how many seconds the own clock was wrong.

        0.0 if it was right; what then was wrong with the request's times was its age.
        """
        wrong_s = wall_ms / 1000 - self.wall_s()
        if abs(wrong_s) <= self._tolerance_s:
            return 0.0
        self._difference_s += wrong_s
        return wrong_s
