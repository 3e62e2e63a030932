"""The small parts of the process: clock, boot id, figures, garbage collection."""

from __future__ import annotations

import gc
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvctl_node.runtime import boot_id, garbage_schedule, process_stats
from kvctl_node.runtime.boot_id import read_boot_id
from kvctl_node.runtime.garbage_schedule import GarbageSchedule
from kvctl_node.runtime.system_clock import SystemClock


class Knot:
    """Garbage only the cyclic collector can free."""

    def __init__(self) -> None:
        self.self = self


@pytest.fixture
def schedule() -> Iterator[GarbageSchedule]:
    made = GarbageSchedule()
    made.begin()
    yield made
    made.end()
    assert gc.isenabled()


def tie() -> weakref.ref[Knot]:
    return weakref.ref(Knot())


def test_nothing_is_collected_in_the_middle_of_a_turn(schedule: GarbageSchedule) -> None:
    knot = tie()
    kept = [[] for _ in range(3 * gc.get_threshold()[0])]
    assert kept
    assert knot() is not None


def test_an_idle_node_collects_once_enough_is_new(schedule: GarbageSchedule) -> None:
    knot = tie()
    schedule.after_turn(idle=True)
    assert knot() is not None
    kept = [[] for _ in range(garbage_schedule.IDLE_OBJECTS_MIN)]
    schedule.after_turn(idle=False)
    assert knot() is not None
    schedule.after_turn(idle=True)
    assert kept
    assert knot() is None


def test_a_node_that_is_never_idle_collects_young_objects_now_and_then(
    schedule: GarbageSchedule,
) -> None:
    knot = tie()
    kept = [[] for _ in range(garbage_schedule.BUSY_OBJECTS_MAX)]
    schedule.after_turn(idle=False)
    assert kept
    assert knot() is None


def test_the_boot_id_stays_the_same_while_the_machine_runs() -> None:
    assert read_boot_id() == read_boot_id() != ""


def test_without_a_boot_id_every_start_counts_as_a_boot(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(boot_id.sys, "platform", "plan9")
    monkeypatch.setattr(boot_id, "_LINUX_BOOT_ID", tmp_path / "missing")
    assert read_boot_id() != read_boot_id()


def test_memory_is_known_on_every_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = process_stats.resident_bytes()
    monkeypatch.setattr(process_stats, "_STATM", tmp_path / "missing")
    peak = process_stats.resident_bytes()
    assert here > 1_000_000
    assert here / 4 < peak < here * 64


def test_the_clock_reads_both_clocks_at_once() -> None:
    before = (time.monotonic(), int(time.time() * 1000))
    now = SystemClock().now()
    after = (time.monotonic(), int(time.time() * 1000) + 1)
    assert before[0] <= now.monotonic_s <= after[0]
    assert before[1] - 1 <= now.wall_ms <= after[1]
