"""The phi-accrual suspicion level, shown to people; nothing is decided by it.

Instead of "late or not", phi says how surprising the silence is, given how regularly news came
until now: phi = 1 means that such a silence, or a longer one, happens once in 10 times, phi = 8
once in 10^8. Intervals are taken as exponentially distributed, as in Apache Cassandra, so that
phi = elapsed / mean * log10(e). [Hayashibara et al., "The phi Accrual Failure Detector", SRDS 2004]

The decision itself uses a fixed window: it can be stated ("5 seconds"), tested, and does not grow
by itself while a loaded machine makes everybody late.
"""

from __future__ import annotations

import math

WEIGHT_OF_LATEST = 0.1
"""Exponential moving average: about the last twenty intervals count."""


class PhiAccrual:
    """The phi of one member. Times in seconds of the monotonic clock."""

    __slots__ = ("_last_s", "_mean_s")

    def __init__(self, expected_s: float) -> None:
        self._mean_s = expected_s
        self._last_s: float | None = None

    def on_news(self, now_s: float) -> None:
        """A newer heartbeat came."""
        if self._last_s is not None and now_s > self._last_s:
            self._mean_s += WEIGHT_OF_LATEST * (now_s - self._last_s - self._mean_s)
        self._last_s = now_s

    def forgive(self, now_s: float) -> None:
        """Do not count a pause of our own as an interval."""
        self._last_s = now_s

    def phi(self, now_s: float) -> float:
        """The suspicion level, 0 until there was any news."""
        if self._last_s is None:
            return 0.0
        return (now_s - self._last_s) / max(self._mean_s, 1e-6) * math.log10(math.e)
