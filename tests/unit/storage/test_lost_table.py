"""Giving up a damaged table: what it may have held is missing, and nothing older comes back."""

from __future__ import annotations

import os
import random
import signal
from pathlib import Path

import pytest

from kvctl_node.config import StorageConfig
from kvctl_node.errors import CorruptRecordError
from kvctl_node.ports import Position, Record
from kvctl_node.storage.crash_points import CrashPoint, OnStep, ignore_step
from kvctl_node.storage.engine import SqliteStorageEngine

PARTITIONS = 8
CONFIG = StorageConfig(memtable_bytes=1 << 20, compaction_fanout=4)
OLD, NEW, NEWEST = Record(b"old", b"1"), Record(b"new", b"2"), Record(b"newest", b"3")


def engine_at(directory: Path, on_step: OnStep = ignore_step) -> SqliteStorageEngine:
    return SqliteStorageEngine.open(directory, CONFIG, partitions=PARTITIONS, on_step=on_step)


def key(number: int) -> bytes:
    return b"key-%04d" % number


def flush(engine: SqliteStorageEngine) -> None:
    engine.commit()
    engine.freeze_memtable()
    assert engine.settle(30)


def three_tables(directory: Path) -> list[Path]:
    """Old: keys 0-399. New: 100-149 overwritten, 150-199 dropped. Newest: 100-109 overwritten."""
    engine = engine_at(directory)
    for number in range(400):
        engine.put(1, key(number), OLD)
    flush(engine)
    for number in range(100, 200):
        if number < 150:
            engine.put(1, key(number), NEW)
        else:
            engine.drop(1, key(number))
    flush(engine)
    for number in range(100, 110):
        engine.put(1, key(number), NEWEST)
    flush(engine)
    engine.close()
    return sorted((directory / "sstables").iterdir())


def lose(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


def check_forgotten(engine: SqliteStorageEngine) -> None:
    """The table in the middle is gone, and with it every key it may have held, unless newer."""
    assert all(engine.get(1, key(number)) == NEWEST for number in range(100, 110))
    assert all(engine.get(1, key(number)) is None for number in range(110, 200))
    assert all(engine.get(1, key(n)) == OLD for n in (*range(100), *range(200, 400)))
    found = engine.scan(Position(0, b""), PARTITIONS, limit=1000, bytes_max=1 << 20).entries
    assert len(found) == 310


def test_older_versions_of_what_was_lost_do_not_come_back(tmp_path: Path) -> None:
    _, lost, _ = three_tables(tmp_path)
    lose(lost)
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    assert engine.stats().corrupt_sstables == (lost.name,)
    with pytest.raises(CorruptRecordError):
        engine.get(1, key(160))
    engine.forget_quarantined(range(PARTITIONS))
    engine.commit()
    assert engine.settle(30)
    assert engine.stats().corrupt_sstables == ()
    assert not lost.exists()
    engine.check_invariants()
    check_forgotten(engine)
    for number in range(3):
        engine.put(2, key(number), OLD)
        flush(engine)
    assert engine.stats().compactions >= 1, "the stand-in is merged like any other table"
    engine.close()
    engine = engine_at(tmp_path)
    assert [engine.get(1, key(n)) for n in (105, 120, 160)] == [NEWEST, None, None]
    engine.close()


def test_all_damaged_tables_are_given_up_at_once(tmp_path: Path) -> None:
    oldest, lost, newest = three_tables(tmp_path)
    lose(oldest)
    lost.unlink()
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    assert engine.stats().corrupt_sstables == (oldest.name, lost.name)
    engine.forget_quarantined(range(PARTITIONS))
    engine.forget_quarantined(range(PARTITIONS))
    assert engine.settle(30)
    assert engine.stats().corrupt_sstables == ()
    entries = engine.scan(Position(0, b""), PARTITIONS, limit=1000, bytes_max=1 << 20).entries
    assert [entry.key for entry in entries] == [key(number) for number in range(100, 110)]
    assert newest.exists()
    engine.close()


def test_an_older_table_found_damaged_meanwhile_keeps_both_in_quarantine(tmp_path: Path) -> None:
    """Its sound rows are still answered, so what stood in for the newer one could not hide them."""
    oldest, lost, _ = three_tables(tmp_path)
    lose(lost)
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    oldest.write_bytes(oldest.read_bytes().replace(key(300), b"kex-0300"))
    engine.forget_quarantined(range(PARTITIONS))
    assert engine.settle(30)
    assert engine.stats().corrupt_sstables == (oldest.name, lost.name)
    for number in (120, 160):
        with pytest.raises(CorruptRecordError):
            engine.get(1, key(number))
    assert engine.get(1, key(105)) == NEWEST
    engine.forget_quarantined(range(PARTITIONS))
    assert engine.settle(30)
    assert engine.stats().corrupt_sstables == ()
    assert [engine.get(1, key(number)) for number in (105, 120, 160, 300)] == [NEWEST, *[None] * 3]
    engine.close()


def test_a_table_without_a_single_damaged_record_is_salvaged_whole(tmp_path: Path) -> None:
    _, lost, _ = three_tables(tmp_path)
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    assert engine.get(1, key(120)) == NEW
    table = engine._tables.by_id(int(lost.name.split(".")[0]))
    assert table is not None
    table.damage = "found by someone else"
    assert engine.get(1, key(120)) == NEW, "it was read from sound bytes"
    engine.forget_quarantined(range(PARTITIONS))
    assert engine.settle(30)
    assert engine.get(1, key(120)) == NEW, "and could be salvaged"
    engine.close()


def test_without_damage_nothing_is_given_up(tmp_path: Path) -> None:
    paths = three_tables(tmp_path)
    engine = engine_at(tmp_path)
    engine.forget_quarantined(range(PARTITIONS))
    assert engine.settle(30)
    assert sorted((tmp_path / "sstables").iterdir()) == paths
    engine.close()


@pytest.mark.parametrize(
    "point",
    [
        CrashPoint.COMPACTION_BATCH_WRITTEN,
        CrashPoint.COMPACTION_RENAMED,
        CrashPoint.BLOOM_CHUNK_STAGED,
        CrashPoint.COMPACTION_INSTALLING,
        CrashPoint.COMPACTION_INSTALLED,
        CrashPoint.TABLE_UNLINKED,
    ],
)
def test_a_kill_on_the_way_leaves_the_table_in_quarantine_or_given_up(
    tmp_path: Path, point: CrashPoint
) -> None:
    _, lost, _ = three_tables(tmp_path)
    lose(lost)
    child = os.fork()
    if child == 0:

        def on_step(step: CrashPoint) -> None:
            if step == point:
                os.kill(os.getpid(), signal.SIGKILL)

        try:
            engine = engine_at(tmp_path, on_step)
            engine.settle(30)
            engine.forget_quarantined(range(PARTITIONS))
            engine.settle(30)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL
    engine = engine_at(tmp_path)
    engine.check_invariants()
    assert engine.settle(30)
    if engine.stats().corrupt_sstables:
        with pytest.raises(CorruptRecordError):
            engine.get(1, key(120))
        engine.forget_quarantined(range(PARTITIONS))
        assert engine.settle(30)
    check_forgotten(engine)
    engine.close()


def spread_tables(directory: Path, keys: int = 4000) -> Path:
    """One table with keys over all partitions; an older one has the same keys."""
    engine = engine_at(directory)
    for record in (OLD, NEW):
        for number in range(keys):
            engine.put(number % PARTITIONS, key(number), record)
        flush(engine)
    engine.close()
    return sorted((directory / "sstables").iterdir())[-1]


def give_up(engine: SqliteStorageEngine, partitions: set[int]) -> bool:
    engine.forget_quarantined(partitions)
    engine.commit()
    assert engine.settle(30)
    return not engine.stats().corrupt_sstables


def unreadable_partitions(engine: SqliteStorageEngine) -> set[int]:
    found = set()
    for partition in range(PARTITIONS):
        try:
            engine.scan(Position(partition, b""), partition + 1, limit=10_000, bytes_max=1 << 30)
        except CorruptRecordError:
            found.add(partition)
    return found


@pytest.mark.parametrize("seed", range(12))
def test_what_can_be_read_of_a_damaged_table_is_kept(tmp_path: Path, seed: int) -> None:
    """Some bytes anywhere are flipped, or the end is cut off: nothing old comes back."""
    rng = random.Random(seed)
    path = spread_tables(tmp_path)
    data = bytearray(path.read_bytes())
    if seed % 3:
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(data))
            data[at : at + rng.randint(1, 200)] = rng.randbytes(rng.randint(1, 200))
        del data[path.stat().st_size :]
    else:
        del data[rng.randrange(len(data)) :]
    path.write_bytes(data)
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    lost = unreadable_partitions(engine)
    readable = {}
    for number in range(4000):
        try:
            readable[number] = engine.get(number % PARTITIONS, key(number))
        except CorruptRecordError:
            continue
    assert engine.stats().corrupt_sstables
    assert give_up(engine, lost)
    assert not unreadable_partitions(engine)
    for number in range(4000):
        found = engine.get(number % PARTITIONS, key(number))
        assert found in (NEW, None), "an old version came back"
        if number % PARTITIONS not in lost:
            assert found == NEW
        if number in readable:
            assert found == NEW
    engine.close()


def test_a_table_is_given_up_as_it_lies_on_the_disk_not_as_sqlite_remembers_it(
    tmp_path: Path,
) -> None:
    """The first page, which SQLite never reads again, is destroyed under an open table."""
    path = spread_tables(tmp_path)
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    assert engine.get(1, key(1)) == NEW
    data = bytearray(path.read_bytes())
    at = data.index(key(2001))
    data[at] ^= 0xFF
    data[:512] = bytes(512)
    with path.open("r+b") as file:
        file.write(data)
    assert unreadable_partitions(engine)
    lost = unreadable_partitions(engine)
    assert give_up(engine, lost)
    for number in range(4000):
        assert engine.get(number % PARTITIONS, key(number)) in (NEW, None)
    engine.close()


def test_a_table_that_lost_more_than_is_given_up_stays_in_quarantine(tmp_path: Path) -> None:
    path = spread_tables(tmp_path)
    data = path.read_bytes()
    at = data.index(key(2001))
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    lost = unreadable_partitions(engine)
    assert lost == {2001 % PARTITIONS}
    assert not give_up(engine, {0, 2, 3})
    assert unreadable_partitions(engine) == lost
    assert give_up(engine, lost)
    assert engine.get(2, key(2002)) == NEW
    assert sum(engine.get(n % PARTITIONS, key(n)) == NEW for n in range(4000)) > 3800
    engine.close()
