"""Merges wait for a quiet time, but not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from node.config import StorageConfig
from node.ports import Record
from node.storage import compaction_schedule
from node.storage.compaction_schedule import PATIENCE, QUIET_S
from node.storage.engine import SqliteStorageEngine

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


def test_after_a_start_nothing_waits(tmp_path: Path, clock: Clock) -> None:
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
