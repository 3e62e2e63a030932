"""Which tables are merged, and what comes out."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.ports import Position, Record
from kvctl_node.storage.block import position_of
from kvctl_node.storage.bloom_filter import BloomFilter
from kvctl_node.storage.compaction import choose_run, merge, tier_of
from kvctl_node.storage.crash_points import ignore_step
from kvctl_node.storage.flush import flush
from kvctl_node.storage.memtable import Memtable
from kvctl_node.storage.record_codec import decode_payload
from kvctl_node.storage.sstable import SSTable, TableDescription

BASE = 100


def table(segments: tuple[int, int], size: int) -> TableDescription:
    return TableDescription(
        table_id=segments[1],
        first_segment=segments[0],
        last_segment=segments[1],
        last_sequence=segments[1],
        row_count=1,
        file_bytes=size,
        file_checksum=0,
        low=Position(0, b""),
        high=Position(0, b""),
        bloom_bytes=8,
        bloom_checksum=0,
    )


def tables(*sizes: int, damaged: int = -1) -> list[tuple[TableDescription, bool]]:
    """Oldest first."""
    return [(table((i + 1, i + 1), size), i == damaged) for i, size in enumerate(sizes)]


def chosen(*sizes: int, damaged: int = -1) -> tuple[list[int], bool] | None:
    run = choose_run(tables(*sizes, damaged=damaged), base_bytes=BASE, fanout=4)
    return run and ([d.table_id for d in run.tables], run.reaches_oldest)


def test_tiers_grow_by_the_fanout() -> None:
    assert [tier_of(size, BASE, 4) for size in (0, 100, 101, 400, 401, 1600, 1601)] == [
        *(0, 0, 1, 1, 2, 2, 3)
    ]


def test_nothing_is_merged_before_a_tier_is_full() -> None:
    assert chosen() is None
    assert chosen(50, 50, 50) is None
    assert chosen(5000, 300, 300, 300, 50, 50, 50) is None


def test_a_full_tier_is_merged_and_only_that() -> None:
    assert chosen(50, 50, 50, 50) == ([1, 2, 3, 4], True)
    assert chosen(5000, 300, 50, 50, 50, 50) == ([3, 4, 5, 6], False)


def test_the_lowest_full_tier_goes_first() -> None:
    assert chosen(300, 300, 300, 300, 50, 50, 50, 50) == ([5, 6, 7, 8], False)


def test_a_small_table_older_than_a_large_one_is_not_stranded() -> None:
    assert chosen(50, 300, 50, 300, 50) == ([1, 2, 3, 4], True)


def test_nothing_is_merged_across_a_table_in_quarantine() -> None:
    assert chosen(50, 50, 50, 50, 50, 50, damaged=3) is None
    assert chosen(50, 50, 50, 50, 50, 50, damaged=1) == ([3, 4, 5, 6], False)


@given(sizes=st.lists(st.integers(1, 10 * BASE), max_size=120), keep=st.floats(0.1, 1.0))
def test_there_are_always_fewer_than_fanout_tables_in_a_tier(sizes: list[int], keep: float) -> None:
    fanout = 4
    present: list[tuple[TableDescription, bool]] = []
    for segment, size in enumerate(sizes, 1):
        present.append((table((segment, segment), size), False))
        while run := choose_run(present, base_bytes=BASE, fanout=fanout):
            merged = table(
                (run.tables[0].first_segment, run.tables[-1].last_segment),
                1 + int(keep * sum(d.file_bytes for d in run.tables)),
            )
            at = present.index((run.tables[0], False))
            present[at : at + len(run.tables)] = [(merged, False)]
        covered = [s for d, _ in present for s in range(d.first_segment, d.last_segment + 1)]
        assert covered == list(range(1, segment + 1))
        tiers = 1 + max(tier_of(d.file_bytes, BASE, fanout) for d, _ in present)
        assert len(present) <= (fanout - 1) * tiers


WRITES = st.lists(
    st.tuples(
        st.sampled_from([(2, b"a"), (0, b"b"), (3, b"c"), (0, b"d"), (3, b"e")]), st.booleans()
    ),
    max_size=12,
)


@given(segments=st.lists(WRITES, min_size=1, max_size=4), keep_markers=st.booleans())
def test_a_merge_keeps_the_newest_version_of_every_key_in_order(
    tmp_path_factory: pytest.TempPathFactory,
    segments: list[list[tuple[tuple[int, bytes], bool]]],
    keep_markers: bool,
) -> None:
    directory = tmp_path_factory.mktemp("merge")
    model: dict[tuple[int, bytes], Record | None] = {}
    opened = []
    for segment, writes in enumerate(segments, 1):
        memtable = Memtable(segment)
        for number, (place, dropped) in enumerate(writes):
            record = None if dropped else Record(b"%d-%d" % (segment, number), b"digest")
            memtable.put(*place, record)
            model[place] = record
        opened.append(flushed(directory, memtable, segment))
    rows = [
        (position_of(place), decode_payload(payload))
        for places, payloads in merge(opened, keep_markers=keep_markers)
        for place, payload in zip(places, payloads, strict=True)
    ]
    for source in opened:
        source.close()
    expected = {
        place: record
        for place, record in sorted(model.items())
        if keep_markers or record is not None
    }
    assert rows == list(expected.items())


def flushed(directory: Path, memtable: Memtable, table_id: int) -> SSTable:
    steps = flush(directory, memtable, table_id, 10, ignore_step)
    while True:
        try:
            next(steps)
        except StopIteration as stop:
            built = stop.value
            break
    description = table((table_id, table_id), built.file_bytes)
    description = msgspec.structs.replace(
        description, low=built.low, high=built.high, row_count=built.row_count
    )
    opened = SSTable(directory, description, BloomFilter.for_keys(1, 10))
    opened.open()
    return opened
