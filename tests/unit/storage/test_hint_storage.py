"""Hints on SQLite: what their path through log and table costs, and what damage does to them."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from kvctl_node.config import StorageConfig
from kvctl_node.errors import CorruptRecordError
from kvctl_node.ports import Hint, Record
from kvctl_node.storage.engine import SqliteStorageEngine
from kvctl_node.storage.hint_log import STORE_SLICE_ROWS

CONFIG = StorageConfig(memtable_bytes=1 << 20)


def engine_at(directory: Path, config: StorageConfig = CONFIG) -> SqliteStorageEngine:
    return SqliteStorageEngine.open(directory, config, partitions=8)


def hint(number: int) -> Hint:
    return Hint("n2", 1, b"%04d" % number, b"content-%04d" % number, b"digest", b"", number, True)


def stored(directory: Path, count: int) -> None:
    """A closed store with hints in its table."""
    engine = engine_at(directory)
    for number in range(count):
        engine.hints.put(hint(number))
    engine.commit()
    engine.freeze_memtable()
    assert engine.settle(30)
    engine.close()


def damage(directory: Path, number: int) -> None:
    with closing(sqlite3.connect(directory / "data.sqlite", isolation_level=None)) as connection:
        changed = connection.execute(
            "UPDATE hints SET hint = zeroblob(length(hint)) WHERE key = ?", (b"%04d" % number,)
        )
        assert changed.rowcount == 1


def rows(engine: SqliteStorageEngine) -> int:
    count: int = engine._database.execute("SELECT count(*) FROM hints").fetchone()[0]
    return count


def test_a_damaged_hint_raises_when_asked_for_and_still_counts_as_held(tmp_path: Path) -> None:
    stored(tmp_path, 3)
    damage(tmp_path, 1)
    engine = engine_at(tmp_path)
    with pytest.raises(CorruptRecordError):
        engine.hints.get("n2", b"0001")
    assert engine.hints.holds(b"0001")
    assert engine.hints.get("n2", b"0002") == hint(2)
    engine.close()


def test_a_damaged_hint_is_left_out_of_pages_dropped_and_counted(tmp_path: Path) -> None:
    stored(tmp_path, 5)
    damage(tmp_path, 0)
    damage(tmp_path, 2)
    engine = engine_at(tmp_path)
    assert list(engine.hints.page("n2", b"", 2)) == [hint(1), hint(3)]
    assert engine.hints.damaged == 2
    assert list(engine.hints.page("n2", b"", 10)) == [hint(1), hint(3), hint(4)]
    assert engine.hints.damaged == 2
    engine.commit()
    engine.close()
    engine = engine_at(tmp_path)
    assert engine.hints.get("n2", b"0000") is None
    assert engine.hints.queues()[0].hints == 3
    engine.close()


def test_a_damaged_hint_can_be_replaced(tmp_path: Path) -> None:
    stored(tmp_path, 2)
    damage(tmp_path, 1)
    engine = engine_at(tmp_path)
    engine.hints.put(hint(1))
    assert list(engine.hints.page("n2", b"", 10)) == [hint(0), hint(1)]
    assert engine.hints.damaged == 0
    engine.close()


def test_hints_delivered_before_their_segment_is_full_never_reach_the_table(tmp_path: Path) -> None:
    engine = engine_at(tmp_path)
    for number in range(100):
        engine.hints.put(hint(number))
        engine.commit()
        engine.hints.delete("n2", hint(number).key)
        engine.commit()
    assert rows(engine) == 0
    engine.hints.put(hint(1000))
    engine.commit()
    engine.freeze_memtable()
    assert engine.settle(30)
    assert rows(engine) == 1
    assert engine.stats().log_bytes == 0
    engine.close()


def test_hints_alone_fill_a_memtable_and_are_stored_in_slices(tmp_path: Path) -> None:
    engine = engine_at(tmp_path, StorageConfig(memtable_bytes=64 * 1024))
    for number in range(1000):
        engine.hints.put(hint(number))
        engine.commit()
    assert engine.settle(30)
    assert engine.stats().flushes >= 4
    assert engine.stats().log_bytes < 64 * 1024
    assert rows(engine) >= 500
    engine.close()
    engine = engine_at(tmp_path)
    engine.check_invariants()
    assert engine.hints.queues()[0].hints == 1000
    engine.close()


def test_a_segment_is_released_only_when_its_hints_are_in_the_table(tmp_path: Path) -> None:
    engine = engine_at(tmp_path)
    count = 3 * STORE_SLICE_ROWS
    for number in range(count):
        engine.hints.put(hint(number))
    engine.put(1, b"k", Record(b"content", b"digest"))
    engine.commit()
    engine.freeze_memtable()
    seen = set()
    while not engine.stats().flushes:
        engine.settle(0.0)
        engine._housekeeping.worker.wait(0.05)
        engine.maintain()
        seen.add(rows(engine))
        assert engine.stats().flushes == 0 or rows(engine) == count
        assert engine.hints.get("n2", hint(count - 1).key) == hint(count - 1)
    assert len(seen) >= 3, "in several transactions"
    engine.close()
