"""Asking a set of filters is asking each of them, wherever they stand."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kvctl_node.config import StorageConfig
from kvctl_node.ports import Position, Record
from kvctl_node.ring.key_hash import KeyHash, hash_of
from kvctl_node.storage.bloom_filter import BloomFilter
from kvctl_node.storage.engine import SqliteStorageEngine
from kvctl_node.storage.filter_bank import BANK_WORDS_MAX, LANES, STEP_WORDS, FilterBank, FilterSet
from kvctl_node.storage.sstable import SSTable, TableDescription
from tests.placing import placed

HASHES = [hash_of(b"key-%d" % number) for number in range(40)]


def table_of(hashes: Sequence[KeyHash], *, keys: int = 0) -> SSTable:
    """A table, of which only the filter counts; for so many keys, or as many as there are."""
    bloom = BloomFilter.for_keys(keys or len(hashes), 8)
    bloom.add(hashes)
    description = TableDescription(
        table_id=1,
        first_segment=1,
        last_segment=1,
        last_sequence=1,
        row_count=len(hashes),
        file_bytes=0,
        file_checksum=0,
        low=Position(0, b""),
        high=Position(0, b""),
        bloom_bytes=0,
        bloom_checksum=0,
    )
    return SSTable(Path("nowhere"), description, bloom)


def work_off(filters: FilterSet) -> int:
    """Improve until there is nothing to improve; how many steps it took."""
    steps = 0
    while filters.has_work:
        filters.improve()
        steps += 1
        assert steps < 1000
    return steps


def alone(filters: FilterSet) -> int:
    return len(filters._single)


class FilterSetMachine(RuleBasedStateMachine):
    """Tables of a few sizes come and go while banks are being filled."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = FilterSet()
        self.tables: list[SSTable] = []

    @rule(
        places=st.lists(st.sampled_from(HASHES), max_size=12),
        keys=st.sampled_from([0, 20, STEP_WORDS * 9]),
    )
    def add(self, places: list[bytes], keys: int) -> None:
        table = table_of(places, keys=keys)
        self.tables.append(table)
        self.filters.add(table)

    @precondition(lambda self: self.tables)
    @rule(data=st.data())
    def remove(self, data: st.DataObject) -> None:
        table = data.draw(st.sampled_from(self.tables))
        self.tables.remove(table)
        self.filters.remove(table)

    @rule(steps=st.integers(1, 5))
    def improve(self, steps: int) -> None:
        for _ in range(steps):
            self.filters.improve()

    @rule()
    def finish(self) -> None:
        work_off(self.filters)

    @invariant()
    def every_filter_is_asked_as_if_alone(self) -> None:
        some = set()
        for at, asked in enumerate(HASHES):
            expected = {id(table) for table in self.tables if table.bloom.may_contain(asked)}
            maybe = [id(table) for table in self.filters.may_contain(asked)]
            assert len(maybe) == len(set(maybe))
            assert set(maybe) == expected
            if expected:
                some.add(at)
        assert self.filters.any_of(HASHES) == some


TestFilterSet = FilterSetMachine.TestCase
TestFilterSet.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_filters_of_one_size_stand_together_and_others_alone() -> None:
    filters = FilterSet()
    for _ in range(LANES + 1):
        filters.add(table_of(HASHES[:5]))
    filters.add(table_of(HASHES[:5], keys=100))
    work_off(filters)
    assert [bank.lanes.count(None) for bank in filters._banks] == [0]
    assert alone(filters) == 2, "one is of another size, and one found no room"


def test_a_bank_ends_when_it_holds_less_than_two() -> None:
    filters = FilterSet()
    tables = [table_of([place]) for place in HASHES[:3]]
    for table in tables:
        filters.add(table)
    work_off(filters)
    for table, banks, single in ((tables[0], 1, 0), (tables[1], 0, 1), (tables[2], 0, 0)):
        filters.remove(table)
        assert (len(filters._banks), alone(filters)) == (banks, single)


def test_a_lane_that_became_free_is_used_again() -> None:
    filters = FilterSet()
    tables = [table_of([place]) for place in HASHES[:LANES]]
    for table in tables:
        filters.add(table)
    work_off(filters)
    filters.remove(tables[3])
    filters.add(table_of([HASHES[20]]))
    work_off(filters)
    assert alone(filters) == 0
    assert not any(table is tables[3] for table in filters.may_contain(HASHES[3]))
    assert len(filters.may_contain(HASHES[20])) >= 1


def test_large_filters_stand_alone_since_a_bank_of_them_would_take_too_much_memory() -> None:
    filters = FilterSet()
    for _ in range(2):
        filters.add(table_of([], keys=BANK_WORDS_MAX * 16))
    assert not filters.has_work
    for _ in range(2):
        filters.add(table_of([], keys=BANK_WORDS_MAX * 8))
    work_off(filters)
    assert alone(filters) == 2


def test_a_lane_is_filled_in_bounded_steps_and_asked_only_when_it_is_full() -> None:
    table = table_of(HASHES, keys=STEP_WORDS * 3 * 8)
    words = table.bloom.word_count
    bank = FilterBank(words)
    steps = words // STEP_WORDS
    assert steps > 2
    taken = 0
    for _ in bank.fill(2, table):
        taken += 1
        assert not any(bank.may_contain(asked) for asked in HASHES)
    assert taken == steps
    assert all(bank.may_contain(asked) == [table] for asked in HASHES)


def test_the_lane_of_a_filter_that_goes_while_it_is_moved_is_filled_from_the_beginning() -> None:
    keys = STEP_WORDS * 3 * 8
    filters = FilterSet()
    for _ in range(2):
        filters.add(table_of([], keys=keys))
    work_off(filters)
    gone = table_of([], keys=keys)
    filters.add(gone)
    filters.improve()
    filters.remove(gone)
    assert filters.any_of(HASHES) == set()
    stays = table_of(HASHES, keys=keys)
    filters.add(stays)
    work_off(filters)
    assert alone(filters) == 0
    assert all(filters.may_contain(asked) == [stays] for asked in HASHES)


def test_an_engine_that_has_time_puts_its_filters_into_a_bank(tmp_path: Path) -> None:
    engine = SqliteStorageEngine.open(tmp_path, StorageConfig(), partitions=8)
    for number in range(3):
        engine.put(0, b"key-%d" % number, Record(b"content", b"d" * 16, b""))
        engine.commit()
        engine.freeze_memtable()
    assert engine.settle(30)
    filters = engine._tables.filters
    assert (alone(filters), len(filters._banks)) == (0, 1)
    asked = placed([(0, b"key-1"), (0, b"absent"), (0, b"key-2")])
    assert set(engine.may_hold(asked)) == {0, 2}
    engine.close()
