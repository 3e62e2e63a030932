"""Merges wait for a quiet time, but not for ever."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event

import pytest

from kvctl_node.config import StorageConfig
from kvctl_node.ports import Record
from kvctl_node.storage import compaction_schedule
from kvctl_node.storage.compaction_schedule import PATIENCE, QUIET_S
from kvctl_node.storage.crash_points import CrashPoint
from kvctl_node.storage.engine import SqliteStorageEngine

FANOUT = 4
CONFIG = StorageConfig(compaction_fanout=FANOUT)
WAIT_S = 30


class Clock:
    """The schedule's time; stands still unless told."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def monotonic(self) -> float:
        return self.now_s


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(compaction_schedule, "time", clock)
    return clock


@pytest.fixture
def engine(tmp_path: Path, clock: Clock) -> Iterator[SqliteStorageEngine]:
    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=8)
    yield engine
    engine.close()


def flush(engine: SqliteStorageEngine, times: int) -> None:
    """Fill so many memtables, and wait until each is a table."""
    for _ in range(times):
        flushed = engine.stats().flushes
        engine.put(0, b"key-%d" % flushed, Record(b"content", b"d" * 16, b""))
        engine.commit()
        engine.freeze_memtable()
        keep_house(engine, lambda flushed=flushed: engine.stats().flushes > flushed)


def flush_before_a_quiet_time(engine: SqliteStorageEngine, times: int, clock: Clock) -> None:
    """The same, and then time passes in which nothing is written."""
    flush(engine, times)
    clock.now_s += QUIET_S


def keep_house(engine: SqliteStorageEngine, until: Callable[[], bool]) -> None:
    """Maintain as a node does, until a condition holds and nothing can be done right now."""
    deadline_s = time.monotonic() + WAIT_S
    while engine.maintain() or not until():
        assert time.monotonic() < deadline_s, engine.stats()
        time.sleep(0.001)


def is_merged(engine: SqliteStorageEngine) -> bool:
    stats = engine.stats()
    return stats.sstables == 1 and not stats.compaction_due


def test_a_run_waits_while_memtables_fill_and_is_merged_once_they_do_not(
    engine: SqliteStorageEngine, clock: Clock
) -> None:
    flush(engine, FANOUT - 1)
    assert not engine.stats().compaction_due
    flush(engine, 2)
    assert engine.stats().compaction_due
    clock.now_s += QUIET_S * 0.99
    assert not engine.maintain()
    flush(engine, 1)
    clock.now_s += QUIET_S * 0.99
    assert not engine.maintain(), "the flush began the quiet time anew"
    assert (engine.stats().sstables, engine.stats().compactions) == (FANOUT + 2, 0)
    clock.now_s += QUIET_S
    keep_house(engine, lambda: is_merged(engine))
    assert engine.stats().compactions == 1


def test_a_run_that_has_become_long_waits_no_more(
    engine: SqliteStorageEngine, clock: Clock
) -> None:
    flush(engine, PATIENCE * FANOUT - 1)
    assert (engine.stats().compaction_due, engine.stats().compactions) == (True, 0)
    flush(engine, 1)
    keep_house(engine, lambda: is_merged(engine))


def test_what_was_due_at_a_stop_is_merged_at_the_start(tmp_path: Path, clock: Clock) -> None:
    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=8)
    flush(engine, FANOUT)
    engine.close()
    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=8)
    keep_house(engine, lambda: is_merged(engine))
    engine.close()


def test_whoever_settles_an_engine_does_not_wait_for_a_quiet_time(
    engine: SqliteStorageEngine, clock: Clock
) -> None:
    flush(engine, FANOUT)
    assert engine.settle(WAIT_S)
    assert is_merged(engine)


# ------------------------------------------------------------ damage while tables are merged


def begin_merging(engine: SqliteStorageEngine) -> None:
    """Begin what is due, and wait until it is merged; it is not looked at yet."""
    worker = engine._housekeeping.worker
    engine._housekeeping.compaction.consider()
    deadline_s = time.monotonic() + WAIT_S
    while not worker.finished:
        assert time.monotonic() < deadline_s
        time.sleep(0.001)


def spans(engine: SqliteStorageEngine) -> list[tuple[int, int]]:
    """First and last segment of every table, oldest first."""
    return [(d.first_segment, d.last_segment) for d, _ in engine._tables.oldest_first()]


def files(directory: Path) -> set[str]:
    return {path.name for path in (directory / "sstables").iterdir()}


def listed(engine: SqliteStorageEngine) -> set[str]:
    return {description.file_name for description, _ in engine._tables.oldest_first()}


def assert_sound(engine: SqliteStorageEngine, directory: Path, keys: int) -> None:
    """Every key is there, nothing lies about, nothing is left to do; closes the engine."""
    keep_house(engine, engine._housekeeping.is_idle)
    engine.check_invariants()
    assert not engine.stats().compaction_due
    assert files(directory) == listed(engine)
    assert all(engine.get(0, b"key-%d" % number) for number in range(keys))
    engine.close()


def assert_sound_for_ever(engine: SqliteStorageEngine, directory: Path, keys: int) -> None:
    """The same, and after the next start too."""
    assert_sound(engine, directory, keys)
    assert_sound(SqliteStorageEngine.open(directory, CONFIG, partitions=8), directory, keys)


@pytest.mark.parametrize("found_by", ["a read", "verification"])
def test_what_was_made_of_a_table_that_turned_out_damaged_is_not_used(
    clock: Clock, tmp_path: Path, found_by: str
) -> None:
    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=8)
    flush_before_a_quiet_time(engine, 2 * FANOUT + 1, clock)
    begin_merging(engine)
    assert engine.stats().compaction_due, "it is being merged"
    table = engine._tables.newest_first[FANOUT]
    if found_by == "a read":
        table.condemn("for a test")
    else:
        engine._housekeeping.quarantine(table.description.table_id, "for a test")
    keep_house(engine, engine._housekeeping.is_idle)
    expected = [(1, FANOUT), (FANOUT + 1, FANOUT + 1), (FANOUT + 2, 2 * FANOUT + 1)]
    assert spans(engine) == expected, "its elders and its juniors are merged, one run after another"
    assert engine.stats().compactions == 2
    assert_sound_for_ever(engine, tmp_path, 2 * FANOUT + 1)


def test_a_merge_that_met_a_quarantine_goes_no_further(clock: Clock, tmp_path: Path) -> None:
    steps: list[CrashPoint] = []
    started, may_go_on = Event(), Event()

    def on_step(step: CrashPoint) -> None:
        steps.append(step)
        if step is CrashPoint.COMPACTION_STARTED:
            started.set()
            assert may_go_on.wait(WAIT_S)

    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=8, on_step=on_step)
    flush_before_a_quiet_time(engine, FANOUT + 1, clock)
    engine._housekeeping.compaction.consider()
    assert started.wait(WAIT_S)
    oldest = engine._tables.newest_first[-1]
    engine._housekeeping.quarantine(oldest.description.table_id, "for a test")
    may_go_on.set()
    keep_house(engine, engine._housekeeping.is_idle)
    assert spans(engine) == [(1, 1), (2, FANOUT + 1)]
    assert steps.count(CrashPoint.COMPACTION_STARTED) == 2
    assert steps.count(CrashPoint.COMPACTION_WRITTEN) == 1
    assert_sound_for_ever(engine, tmp_path, FANOUT + 1)


def test_tables_are_left_alone_until_what_was_made_of_them_is_installed(
    clock: Clock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=8)
    count = 2 * FANOUT + 1
    flush_before_a_quiet_time(engine, count, clock)
    begin_merging(engine)
    housekeeping = engine._housekeeping
    housekeeping.worker.deliver_finished()
    assert len(housekeeping._installations) == 1

    def is_full(*_: object) -> int:
        raise sqlite3.OperationalError("database or disk is full")

    with monkeypatch.context() as full:
        full.setattr(housekeeping._manifest, "stage_bloom", is_full)
        oldest = engine._tables.newest_first[-1]
        housekeeping.quarantine(oldest.description.table_id, "found when it was merged already")
        housekeeping.compaction.consider(hurry=True)
        assert housekeeping.worker.is_idle(), "nothing else is made of these tables"
        engine.maintain()
        assert "full" in engine.stats().background_error
        assert engine.stats().compaction_due
    assert engine.settle(WAIT_S)
    assert spans(engine) == [(1, count)]
    assert engine.stats().corrupt_sstables == ()
    assert_sound_for_ever(engine, tmp_path, count)
