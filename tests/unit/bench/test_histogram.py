"""Percentiles from buckets, against percentiles from all the samples."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.bench.histogram import BUCKETS, LARGEST_S, LEAST_S, LatencyHistogram

LATENCIES = st.floats(min_value=LEAST_S * 1.02, max_value=LARGEST_S * 0.98)
SAMPLES = st.lists(LATENCIES, min_size=1, max_size=200)
PERCENTS = st.floats(min_value=0.001, max_value=100)


def filled(samples: list[float]) -> LatencyHistogram:
    histogram = LatencyHistogram()
    for sample in samples:
        histogram.record(sample)
    return histogram


def exact_percentile(samples: list[float], percent: float) -> float:
    return sorted(samples)[math.ceil(len(samples) * percent / 100) - 1]


@given(SAMPLES, PERCENTS)
def test_a_percentile_is_within_one_percent_of_the_exact_one(
    samples: list[float], percent: float
) -> None:
    found = filled(samples).percentile_s(percent)
    assert found == pytest.approx(exact_percentile(samples, percent), rel=0.01)


@given(SAMPLES, SAMPLES)
def test_adding_histograms_is_recording_all_samples_in_one(
    left: list[float], right: list[float]
) -> None:
    added = filled(left)
    added.add(LatencyHistogram(filled(right).counts))
    together = filled(left + right)
    assert added.counts == together.counts
    assert added.count == together.count == len(left) + len(right)


@given(SAMPLES)
def test_percentiles_never_fall(samples: list[float]) -> None:
    histogram = filled(samples)
    values = [histogram.percentile_s(percent) or 0 for percent in (1, 50, 95, 99, 100)]
    assert values == sorted(values)


@pytest.mark.parametrize("latency_s", [0.0, -1.0, 1e-9, 1e9])
def test_a_latency_out_of_range_is_counted_at_the_edge(latency_s: float) -> None:
    histogram = filled([latency_s])
    assert histogram.count == sum(histogram.counts) == 1
    assert len(histogram.counts) == BUCKETS
    edge = LARGEST_S if latency_s > 1 else LEAST_S
    assert histogram.percentile_s(50) == pytest.approx(edge, rel=0.02)


def test_without_samples_there_is_no_percentile() -> None:
    assert LatencyHistogram().percentile_s(99) is None


@pytest.mark.parametrize("percent", [0, -1, 100.1])
def test_an_impossible_percentile_is_refused(percent: float) -> None:
    with pytest.raises(ValueError, match="percentile"):
        filled([1.0]).percentile_s(percent)
