"""Latencies in bounded memory, each known to one percent.

Bucket i holds the values from 1 µs · 1.01^i up to 1 µs · 1.01^(i+1), so a percentile read from the
buckets is off by less than one percent whatever the scale, and ten million samples take as much
room as ten. Histograms of several clients are added bucket by bucket: the percentiles of the sum
are those of all samples together, which averaged percentiles would not be.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

GROWTH = 1.01
LEAST_S = 1e-6
LARGEST_S = 1000.0
_PER_LOG = 1 / math.log(GROWTH)
_LOG_LEAST = math.log(LEAST_S)
BUCKETS = math.ceil((math.log(LARGEST_S) - _LOG_LEAST) * _PER_LOG) + 1
"""2,084 of them; values outside the range go to the first or the last."""


class LatencyHistogram:
    """Counts of latencies by bucket; all values in seconds."""

    __slots__ = ("_counts", "count")

    def __init__(self, counts: Sequence[int] = ()) -> None:
        """`counts`: what another histogram's `counts` gave; by default all zero."""
        self._counts = list(counts) if counts else [0] * BUCKETS
        if len(self._counts) != BUCKETS:
            raise ValueError(f"a histogram has {BUCKETS} buckets, not {len(self._counts)}")
        self.count = sum(self._counts)
        """How many values were recorded."""

    @property
    def counts(self) -> tuple[int, ...]:
        """How many values each bucket holds: to be sent to another process."""
        return tuple(self._counts)

    def record(self, latency_s: float) -> None:
        """Count one value. HOT PATH."""
        if latency_s <= LEAST_S:
            index = 0
        else:
            index = int((math.log(latency_s) - _LOG_LEAST) * _PER_LOG)
            if index >= BUCKETS:
                index = BUCKETS - 1
        self._counts[index] += 1
        self.count += 1

    def add(self, other: LatencyHistogram) -> None:
        """Count everything that `other` has counted."""
        self._counts = [mine + its for mine, its in zip(self._counts, other._counts, strict=True)]
        self.count += other.count

    def percentile_s(self, percent: float) -> float | None:
        """The least value that so many percent of all values do not exceed, within 1 %.

        None when nothing was recorded.
        """
        if not 0 < percent <= 100:
            raise ValueError(f"a percentile is over 0 and at most 100, not {percent}")
        if not self.count:
            return None
        rank = math.ceil(self.count * percent / 100)
        seen = 0
        for index, count in enumerate(self._counts):
            seen += count
            if seen >= rank:
                return float(LEAST_S * GROWTH ** (index + 0.5))
        raise AssertionError("the buckets hold fewer values than were counted")
