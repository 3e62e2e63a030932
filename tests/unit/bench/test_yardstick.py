"""The yardstick measures something, and leaves no process behind."""

from __future__ import annotations

import psutil

from kvctl.bench.yardstick import Yardstick, measure_echo


def test_the_yardstick_measures_both_depths_and_leaves_nothing_running() -> None:
    before = set(psutil.Process().children())
    measured = measure_echo(seconds=0.1)
    assert measured.echo_per_s > 1000
    assert 0 < measured.echo_ms < 100
    assert set(psutil.Process().children()) <= before


def test_a_run_is_divided_by_what_the_machine_did_before_and_after_it() -> None:
    assert Yardstick(60_000.0, 0.1).mean_with(Yardstick(40_000.0, 0.3)) == (50_000.0, 0.2)
