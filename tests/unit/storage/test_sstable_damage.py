"""An SSTable answers rightly or raises, whatever happened to its file."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TypeVar
from zlib import crc32

import pytest

from kvctl_node.errors import CorruptRecordError
from kvctl_node.ports import Position, Record
from kvctl_node.storage.block import place_of, position_of
from kvctl_node.storage.bloom_filter import BloomFilter
from kvctl_node.storage.compaction import STEPS, merge
from kvctl_node.storage.crash_points import ignore_step
from kvctl_node.storage.memtable import Batch
from kvctl_node.storage.record_codec import ABSENT, encode_payload
from kvctl_node.storage.sstable import SSTable, TableDescription
from kvctl_node.storage.sstable_writer import build_table

Result = TypeVar("Result")
ROWS = 240


def key(number: int) -> bytes:
    return b"key-%04d" % number


def record(number: int) -> Record:
    return Record(b"content-%04d-" % number + b"." * 30, b"%016d" % number)


def place(number: int) -> bytes:
    return place_of(number // 40, key(number))


def entries() -> Batch:
    """Even numbers only: the odd keys between them are absent."""
    numbers = range(2, 2 * ROWS, 2)
    return [place(n) for n in numbers], [encode_payload(record(n)) for n in numbers]


def entries_from(start: Position) -> list[tuple[bytes, bytes]]:
    return [entry for entry in zip(*entries(), strict=True) if position_of(entry[0]) >= start]


def read_from(table: SSTable, start: Position) -> list[tuple[bytes, bytes]]:
    return [
        entry for batch in table.batches(place_of(*start)) for entry in zip(*batch, strict=True)
    ]


def run(steps: Generator[None, None, Result]) -> Result:
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            result: Result = stop.value
            return result


def build(directory: Path, rows: Batch, table_id: int = 1) -> TableDescription:
    bloom = BloomFilter.for_keys(len(rows[0]), 10)
    built = run(build_table(directory, table_id, [rows], bloom, steps=STEPS, on_step=ignore_step))
    return TableDescription(
        table_id=table_id,
        first_segment=table_id,
        last_segment=table_id,
        last_sequence=table_id,
        row_count=built.row_count,
        file_bytes=built.file_bytes,
        file_checksum=built.file_checksum,
        low=built.low,
        high=built.high,
        bloom_bytes=len(bloom.to_bytes()),
        bloom_checksum=crc32(bloom.to_bytes()),
    )


def opened(directory: Path, description: TableDescription) -> SSTable:
    table = SSTable(directory, description, BloomFilter.for_keys(1, 10))
    table.open()
    return table


def test_too_many_open_files_are_no_damage(tmp_path: Path) -> None:
    table = SSTable(tmp_path, build(tmp_path, entries()), BloomFilter.for_keys(1, 10))
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.open(os.devnull, os.O_RDONLY)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free, hard))  # the next one would be too many
    try:
        with pytest.raises(OSError, match="Too many open files"):
            table.open()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert not table.damage
    table.open()
    assert not table.damage
    table.close()


def test_a_table_returns_what_was_written_and_proves_the_rest_absent(tmp_path: Path) -> None:
    table = opened(tmp_path, build(tmp_path, entries()))
    for number in range(2 * ROWS + 2):
        expected = record(number) if 2 <= number < 2 * ROWS and number % 2 == 0 else ABSENT
        assert table.find(place(number)) == expected
    assert table.find(place_of(99, b"")) is ABSENT
    table.close()


def test_batches_from_any_place_are_complete(tmp_path: Path) -> None:
    table = opened(tmp_path, build(tmp_path, entries()))
    for start in (
        Position(0, b""),
        Position(3, key(121)),
        Position(3, key(122)),
        Position(99, b""),
    ):
        assert read_from(table, start) == entries_from(start)
    table.close()


def test_a_flipped_bit_anywhere_gives_the_right_answer_or_an_error(tmp_path: Path) -> None:
    description = build(tmp_path, entries())
    path = tmp_path / description.file_name
    sound = path.read_bytes()
    assert len(sound) >= 4 * 4096, "interior pages are wanted as well"
    errors = 0
    for offset in range(0, len(sound), 29):
        damaged = bytearray(sound)
        damaged[offset] ^= 1 << offset % 8
        path.write_bytes(damaged)
        table = opened(tmp_path, description)
        for number in range(1, 2 * ROWS, 31):
            expected = record(number) if number % 2 == 0 else ABSENT
            try:
                assert table.find(place(number)) == expected, offset
            except CorruptRecordError:
                errors += 1
        try:
            start = Position(2, key(95))
            assert read_from(table, start) == entries_from(start), offset
        except CorruptRecordError:
            errors += 1
        table.close()
    assert errors > 100


def firsts(path: Path) -> list[bytes]:
    with closing(sqlite3.connect(path)) as connection:
        return [row[0] for row in connection.execute("SELECT first FROM blocks ORDER BY first")]


def alter(path: Path, statement: str, *values: object) -> None:
    """Change a table the way no page checksum would notice: the file stays a sound database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        assert connection.execute(statement, values).rowcount >= 1


DELETE = "DELETE FROM blocks WHERE first = ?"


def test_a_block_that_was_removed_is_noticed_by_get_and_scan(tmp_path: Path) -> None:
    """A hole with sound neighbours: only what the block before it names as following can tell."""
    description = build(tmp_path, entries())
    path = tmp_path / description.file_name
    blocks = firsts(path)
    assert len(blocks) >= 5
    alter(path, DELETE, blocks[2])
    table = opened(tmp_path, description)
    inside = [p for p in entries()[0] if blocks[2] <= p < blocks[3]]
    for removed in (inside[0], inside[-1]):
        with pytest.raises(CorruptRecordError, match="rows are missing"):
            table.find(removed)
        with pytest.raises(CorruptRecordError, match="rows are missing"):
            table.find(removed + b"never there")
    with pytest.raises(CorruptRecordError, match="rows are missing"):
        read_from(table, Position(0, b""))
    assert table.find(blocks[1]) != ABSENT
    assert table.find(blocks[3]) != ABSENT
    assert table.find(inside[0][:-1]) is ABSENT, "the end of the block before is still proven"
    table.close()


@pytest.mark.parametrize("end", [0, -1])
def test_a_missing_first_or_last_block_is_noticed(tmp_path: Path, end: int) -> None:
    description = build(tmp_path, entries())
    path = tmp_path / description.file_name
    alter(path, DELETE, firsts(path)[end])
    table = opened(tmp_path, description)
    with pytest.raises(CorruptRecordError):
        table.find(entries()[0][end])
    with pytest.raises(CorruptRecordError):
        read_from(table, Position(0, b""))
    table.close()


def test_a_block_of_another_table_is_not_believed(tmp_path: Path) -> None:
    """Both are sound, and of the same keys; yet one is older."""
    older, newer = build(tmp_path, entries()), build(tmp_path, entries(), table_id=2)
    shutil.copyfile(tmp_path / older.file_name, tmp_path / newer.file_name)
    table = opened(tmp_path, newer)
    with pytest.raises(CorruptRecordError, match="does not match its checksum"):
        table.find(place(100))
    table.close()


@pytest.mark.parametrize(("source", "target"), [(1, 3), (3, 1)])
def test_a_block_in_the_row_of_another_is_not_believed(
    tmp_path: Path, source: int, target: int
) -> None:
    description = build(tmp_path, entries())
    path = tmp_path / description.file_name
    blocks = firsts(path)
    for column in ("checksum", "header", "records"):
        alter(
            path,
            f"UPDATE blocks SET {column} = (SELECT {column} FROM blocks WHERE first = ?)"
            " WHERE first = ?",
            blocks[source],
            blocks[target],
        )
    table = opened(tmp_path, description)
    for looked_for in (blocks[target], blocks[target] + b"never there"):
        with pytest.raises(CorruptRecordError, match=r"rows are (missing|out of order)"):
            table.find(looked_for)
    with pytest.raises(CorruptRecordError):
        read_from(table, Position(0, b""))
    table.close()


def test_a_damaged_record_leaves_its_neighbours_readable(tmp_path: Path) -> None:
    description = build(tmp_path, entries())
    path = tmp_path / description.file_name
    path.write_bytes(path.read_bytes().replace(b"content-0200", b"content-9200"))
    table = opened(tmp_path, description)
    with pytest.raises(CorruptRecordError, match="a record does not match its checksum"):
        table.find(place(200))
    assert table.find(place(198)) == record(198)
    assert table.find(place(202)) == record(202)
    assert table.find(place(201)) is ABSENT
    table.close()


@pytest.mark.parametrize("kept", [0, 100, 4096, 8192])
def test_a_truncated_table_is_reported_not_read_as_absent(tmp_path: Path, kept: int) -> None:
    description = build(tmp_path, entries())
    path = tmp_path / description.file_name
    path.write_bytes(path.read_bytes()[:kept])
    table = opened(tmp_path, description)
    assert "bytes instead of" in table.damage
    with pytest.raises(CorruptRecordError):
        table.find(place(41))
    with pytest.raises(CorruptRecordError):
        read_from(table, Position(0, b""))


def test_a_merge_of_a_damaged_table_raises_instead_of_dropping_rows(tmp_path: Path) -> None:
    places, payloads = entries()
    first = build(tmp_path, (places, payloads))
    second = build(tmp_path, (places[::3], payloads[::3]), table_id=2)
    path = tmp_path / first.file_name
    content = path.read_bytes()
    path.write_bytes(content.replace(b"content-0200", b"content-9200"))
    tables = [opened(tmp_path, first), opened(tmp_path, second)]
    with pytest.raises(CorruptRecordError):
        list(merge(tables, keep_markers=True))
    assert tables[0].damage and not tables[1].damage
    for table in tables:
        table.close()
