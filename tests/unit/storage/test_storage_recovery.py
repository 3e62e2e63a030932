"""What the engine does when it opens a directory: recover, quarantine, or refuse."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from kvctl_node.config import StorageConfig
from kvctl_node.errors import CorruptRecordError, DataDirectoryError
from kvctl_node.ports import Position, Record
from kvctl_node.storage.crash_points import CrashPoint
from kvctl_node.storage.engine import SqliteStorageEngine

PARTITIONS = 8
CONFIG = StorageConfig(memtable_bytes=64 * 1024, compaction_fanout=4)


def engine_at(directory: Path, config: StorageConfig = CONFIG) -> SqliteStorageEngine:
    return SqliteStorageEngine.open(directory, config, partitions=PARTITIONS)


def record(number: int) -> Record:
    return Record(b"content-%04d-" % number + b"." * 40, b"%016d" % number)


def fill(engine: SqliteStorageEngine, numbers: range) -> None:
    for number in numbers:
        engine.put(number % PARTITIONS, b"key-%04d" % number, record(number))
        engine.commit()


def flushed(directory: Path, *ranges: range) -> list[Path]:
    """A closed store with one SSTable per range; their paths, oldest first."""
    engine = engine_at(directory)
    for numbers in ranges:
        fill(engine, numbers)
        engine.freeze_memtable()
        assert engine.settle(30)
    engine.close()
    return sorted((directory / "sstables").iterdir())


def in_database(directory: Path, statement: str, *values: object) -> None:
    connection = sqlite3.connect(directory / "data.sqlite", isolation_level=None)
    connection.execute(statement, values)
    connection.close()


def test_a_directory_in_use_is_refused_and_the_holder_named(tmp_path: Path) -> None:
    engine = engine_at(tmp_path)
    with pytest.raises(DataDirectoryError, match=r"in use by process \d+"):
        engine_at(tmp_path)
    engine.close()
    engine_at(tmp_path).close()


def test_the_directory_is_for_its_owner_only(tmp_path: Path) -> None:
    engine_at(tmp_path / "deep" / "data").close()
    assert (tmp_path / "deep" / "data").stat().st_mode & 0o777 == 0o700


def with_a_turn(directory: Path) -> None:
    """The directory, used once."""
    engine = engine_at(directory)
    engine.commit()
    engine.close()


def test_another_number_of_partitions_is_refused(tmp_path: Path) -> None:
    with_a_turn(tmp_path)
    with pytest.raises(DataDirectoryError, match="8 partitions, not 16"):
        SqliteStorageEngine.open(tmp_path, CONFIG, partitions=16)


def test_a_refused_directory_is_unlocked_again(tmp_path: Path) -> None:
    with_a_turn(tmp_path)
    with pytest.raises(DataDirectoryError):
        SqliteStorageEngine.open(tmp_path, CONFIG, partitions=16)
    engine_at(tmp_path).close()


@pytest.mark.parametrize(("durability", "synchronous"), [("os", 1), ("fsync", 2)])
def test_durability_sets_what_a_commit_waits_for(
    tmp_path: Path, durability: str, synchronous: int
) -> None:
    engine = engine_at(tmp_path, StorageConfig(durability=durability))
    assert engine._database.execute("PRAGMA synchronous").fetchone() == (synchronous,)
    assert engine._database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    engine.close()


DAMAGE: dict[str, str] = {
    "log batch": "UPDATE log SET batch = zeroblob(length(batch)) WHERE sequence = 3",
    "log batch missing": "DELETE FROM log WHERE sequence = 3",
    "log batch in another place": "UPDATE log SET segment = segment + 1 WHERE sequence = 5",
    "metadata": "UPDATE metadata SET value = x'00'",
}


@pytest.mark.parametrize("statement", DAMAGE.values(), ids=DAMAGE.keys())
def test_damage_to_the_commit_log_is_refused_not_skipped(tmp_path: Path, statement: str) -> None:
    engine = engine_at(tmp_path)
    fill(engine, range(5))
    engine.close()
    in_database(tmp_path, statement)
    with pytest.raises(CorruptRecordError):
        engine_at(tmp_path)


MANIFEST_DAMAGE: dict[str, str] = {
    "entry missing": "DELETE FROM manifest WHERE table_id = 1",
    "entry changed": "UPDATE manifest SET file_checksum = file_checksum + 1",
    "filter missing": "DELETE FROM bloom WHERE table_id = 1",
    "filter changed": "UPDATE bloom SET bits = zeroblob(length(bits))",
}


@pytest.mark.parametrize("statement", MANIFEST_DAMAGE.values(), ids=MANIFEST_DAMAGE.keys())
def test_damage_to_the_manifest_is_refused(tmp_path: Path, statement: str) -> None:
    flushed(tmp_path, range(10), range(10, 20))
    in_database(tmp_path, statement)
    with pytest.raises(CorruptRecordError):
        engine_at(tmp_path)


@pytest.mark.parametrize("content", [b"no database at all" * 300, b"\0" * 4096])
def test_a_database_that_is_none_is_refused(tmp_path: Path, content: bytes) -> None:
    engine = engine_at(tmp_path)
    fill(engine, range(5))
    engine.close()
    path = tmp_path / "data.sqlite"
    path.write_bytes(content + path.read_bytes()[len(content) :])
    with pytest.raises(CorruptRecordError):
        engine_at(tmp_path)


def remove(path: Path) -> None:
    path.unlink()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-4096])


def scramble(path: Path) -> None:
    path.write_bytes(b"\xa5" * path.stat().st_size)


@pytest.mark.parametrize("harm", [remove, truncate, scramble])
def test_a_lost_table_is_reported_and_its_keys_are_not_read_as_absent(
    tmp_path: Path, harm: Callable[[Path], None]
) -> None:
    first, second = flushed(tmp_path, range(100), range(50, 150))
    harm(first)
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    assert engine.stats().corrupt_sstables == (first.name,)
    for number in range(50, 150):
        assert engine.get(number % PARTITIONS, b"key-%04d" % number) == record(number)
    for number in range(50):
        with pytest.raises(CorruptRecordError):
            engine.get(number % PARTITIONS, b"key-%04d" % number)
    with pytest.raises(CorruptRecordError):
        engine.scan(Position(0, b""), PARTITIONS, limit=10, bytes_max=1000)
    absent = sum(answers_absent(engine, number) for number in range(1000, 1200))
    assert absent >= 180, "the Bloom filter still rules out most of what was never there"
    engine.put(0, b"key-0000", record(7))
    engine.commit()
    assert engine.get(0, b"key-0000") == record(7)
    engine.close()
    assert second.exists()


def answers_absent(engine: SqliteStorageEngine, number: int) -> bool:
    try:
        return engine.get(number % PARTITIONS, b"key-%04d" % number) is None
    except CorruptRecordError:
        return False


def test_compaction_leaves_a_damaged_table_and_what_is_older_alone(tmp_path: Path) -> None:
    paths = flushed(tmp_path, *(range(n * 10, n * 10 + 10) for n in range(3)))
    paths[1].write_bytes(paths[1].read_bytes().replace(b"content-0013", b"content-0x13"))
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    for n in range(3, 9):
        fill(engine, range(n * 10, n * 10 + 10))
        engine.freeze_memtable()
        assert engine.settle(30)
    stats = engine.stats()
    assert stats.compactions >= 1
    assert stats.corrupt_sstables == (paths[1].name,)
    assert paths[0].exists() and paths[1].exists()
    with pytest.raises(CorruptRecordError):
        engine.get(13 % PARTITIONS, b"key-0013")
    for number in set(range(90)) - {13}:
        assert engine.get(number % PARTITIONS, b"key-%04d" % number) == record(number)
    engine.close()


def test_rot_in_a_file_is_found_without_any_read(tmp_path: Path) -> None:
    (path,) = flushed(tmp_path, range(10))
    path.write_bytes(path.read_bytes().replace(b"content-0003", b"content-0x03"))
    engine = engine_at(tmp_path)
    assert engine.settle(30)
    assert engine.stats().corrupt_sstables == (path.name,)
    assert engine.stats().corrupt_records == 0
    assert engine.get(4, b"key-0004") == record(4), "sound rows of it are still answered"
    with pytest.raises(CorruptRecordError):
        engine.get(3, b"key-0003")
    assert engine.stats().corrupt_records == 1
    engine.close()


def test_segments_recovered_from_the_log_are_released_one_by_one(tmp_path: Path) -> None:
    """A crash between the flushes of two recovered segments must not lose the second's start."""
    config = StorageConfig(memtable_bytes=4096, compaction_fanout=100)
    flushes_allowed = 0

    def on_step(step: CrashPoint) -> None:
        nonlocal flushes_allowed
        if step == CrashPoint.FLUSH_STARTED:
            flushes_allowed -= 1
            if flushes_allowed < 0:
                raise OSError(errno.EIO, "not now")

    def reopened() -> SqliteStorageEngine:
        return SqliteStorageEngine.open(tmp_path, config, partitions=PARTITIONS, on_step=on_step)

    engine = reopened()
    fill(engine, range(60))
    segments = engine.stats().frozen_memtables
    assert segments >= 4
    engine.close()
    for _ in range(segments):
        flushes_allowed = 1
        engine = reopened()
        engine.check_invariants()
        while engine.stats().flushes < 1:
            engine.settle(0.02)
        engine.settle(0.02)
        assert engine.stats().flushes == 1
        for number in range(60):
            assert engine.get(number % PARTITIONS, b"key-%04d" % number) == record(number)
        engine.close()


def test_files_no_manifest_names_are_removed(tmp_path: Path) -> None:
    (path,) = flushed(tmp_path, range(10))
    for name in ("00000077.sqlite", "00000078.sqlite.tmp", "00000078.sqlite.tmp-journal"):
        (path.parent / name).write_bytes(b"left over")
    engine = engine_at(tmp_path)
    assert list(path.parent.iterdir()) == [path]
    assert engine.get(3, b"key-0003") == record(3)
    engine.close()


def test_the_log_is_emptied_by_flushes_and_its_file_stops_growing(tmp_path: Path) -> None:
    engine = engine_at(tmp_path)
    sizes = []
    for _ in range(6):
        fill(engine, range(400))
        engine.freeze_memtable()
        assert engine.settle(30)
        assert engine.stats().log_bytes == 0
        sizes.append(engine._database.execute("PRAGMA page_count").fetchone()[0])
    assert sizes[-1] <= 1.5 * sizes[0]
    engine.close()


def test_overwriting_one_key_for_ever_does_not_grow_the_log_for_ever(tmp_path: Path) -> None:
    engine = engine_at(tmp_path, StorageConfig(memtable_bytes=4096))
    for number in range(2000):
        engine.put(1, b"hot", record(number))
        engine.commit()
    assert engine.settle(30)
    assert engine.stats().log_bytes <= 5 * 4096
    assert engine.get(1, b"hot") == record(1999)
    engine.close()


def test_bloom_filters_keep_a_cold_get_to_about_one_table(tmp_path: Path) -> None:
    flushed(tmp_path, *(range(n * 200, n * 200 + 200) for n in range(3)))
    engine = engine_at(tmp_path)
    for number in range(600):
        assert engine.get(number % PARTITIONS, b"key-%04d" % number) == record(number)
    stats = engine.stats()
    assert stats.bloom_hits == 600
    assert stats.bloom_negatives >= 550
    assert stats.bloom_false_positives <= 30
    engine.close()
