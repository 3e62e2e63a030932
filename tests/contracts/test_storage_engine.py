"""The contract of `StorageEngine`: the same tests for the SQLite engine and the one in memory."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    rule,
)

from kvctl_node.errors import CorruptRecordError, StorageFullError
from kvctl_node.ports import Position, Record, ScanPage, StorageEngine, StoredEntry
from kvctl_node.storage.engine import SqliteStorageEngine
from tests.contracts.disks import PARTITIONS, Disk, MemoryDisk, SqliteDisk
from tests.placing import placed

START = Position(0, b"")


@pytest.fixture(params=[MemoryDisk, SqliteDisk])
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    disk: Disk = request.param()
    yield disk
    disk.remove()


def record(number: int, size: int = 40) -> Record:
    content = b"content-%d-" % number + b"." * size
    return Record(content, b"%016d" % number, b"recent", f"n1#{number}")


def scan_all(engine: StorageEngine, limit: int = 3, bytes_max: int = 1 << 20) -> list[StoredEntry]:
    """Page through everything, checking each page against its bounds."""
    entries: list[StoredEntry] = []
    place: Position | None = START
    while place is not None:
        page: ScanPage = engine.scan(place, PARTITIONS, limit=limit, bytes_max=bytes_max)
        assert len(page.entries) <= limit
        assert len(page.entries) <= 1 or (
            sum(len(entry.record.content) for entry in page.entries) <= bytes_max
        )
        assert all((entry.partition, entry.key) >= place for entry in page.entries)
        assert page.next is None or page.next > place
        entries += page.entries
        place = page.next
    return entries


def test_a_put_is_read_back_in_the_same_turn(disk: Disk) -> None:
    disk.engine.put(1, b"k", record(1))
    assert disk.engine.get(1, b"k") == record(1)


def test_several_new_keys_are_put_together_and_survive_a_crash(disk: Disk) -> None:
    places = [(1, b"a"), (1, b"b"), (2, b"c")]
    disk.engine.put(1, b"known", record(9))
    assert list(disk.engine.may_hold(placed([*places, (1, b"known")]))) == [3]
    disk.engine.put_new(placed(places), [record(1), record(2), record(3)])
    assert sorted(disk.engine.may_hold(placed(places))) == [0, 1, 2]
    disk.engine.commit()
    disk.crash()
    disk.flush()
    disk.settle()
    assert sorted(disk.engine.may_hold(placed(places))) == [0, 1, 2]
    negatives = disk.engine.stats().bloom_negatives
    assert list(disk.engine.may_hold(placed([(2, b"d"), (1, b"e"), (1, b"a")]))) == [2]
    if isinstance(disk, SqliteDisk):
        assert disk.engine.stats().bloom_negatives == negatives + 2
    assert [entry.record for entry in scan_all(disk.engine)] == [
        record(1),
        record(2),
        record(9),
        record(3),
    ]


def test_an_unknown_key_is_not_found(disk: Disk) -> None:
    assert disk.engine.get(1, b"k") is None


def test_a_committed_turn_survives_a_crash_whole(disk: Disk) -> None:
    disk.engine.put(1, b"a", record(1))
    disk.engine.put(2, b"b", record(2))
    disk.engine.set_metadata("generation", b"7")
    disk.engine.commit()
    disk.crash()
    assert disk.engine.get(1, b"a") == record(1)
    assert disk.engine.get(2, b"b") == record(2)
    assert disk.engine.metadata("generation") == b"7"


def test_an_uncommitted_turn_is_gone_after_a_crash(disk: Disk) -> None:
    disk.engine.put(1, b"a", record(1))
    disk.engine.set_metadata("generation", b"1")
    disk.engine.commit()
    disk.engine.put(1, b"a", record(2))
    disk.engine.drop(1, b"a")
    disk.engine.put(1, b"new", record(3))
    disk.engine.set_metadata("generation", b"2")
    disk.crash()
    assert disk.engine.get(1, b"a") == record(1)
    assert disk.engine.get(1, b"new") is None
    assert disk.engine.metadata("generation") == b"1"


def test_a_dropped_key_stays_gone_through_crash_flush_and_compaction(disk: Disk) -> None:
    disk.engine.put(1, b"k", record(1))
    disk.engine.commit()
    disk.flush()
    disk.settle()
    disk.engine.drop(1, b"k")
    assert disk.engine.get(1, b"k") is None
    disk.engine.commit()
    disk.crash()
    assert disk.engine.get(1, b"k") is None
    disk.flush()
    disk.settle()
    assert disk.engine.get(1, b"k") is None
    assert scan_all(disk.engine) == []
    disk.crash()
    assert disk.engine.get(1, b"k") is None


def test_the_newest_version_wins_after_flush_and_compaction(disk: Disk) -> None:
    for version in range(6):
        disk.engine.put(3, b"k", record(version))
        disk.engine.put(3, b"other-%d" % version, record(version))
        disk.engine.commit()
        disk.flush()
        disk.settle()
        assert disk.engine.get(3, b"k") == record(version)
    disk.crash()
    assert disk.engine.get(3, b"k") == record(5)
    assert len(scan_all(disk.engine)) == 7


def test_a_scan_pages_through_everything_in_order(disk: Disk) -> None:
    expected = []
    for partition in range(PARTITIONS):
        for number in range(20):
            key = b"key-%02d-%d" % (number, partition)
            expected.append(StoredEntry(partition, key, record(number)))
    for entry in reversed(expected):
        disk.engine.put(*entry)
        disk.engine.commit()
    disk.settle()
    assert scan_all(disk.engine, limit=7) == expected
    assert scan_all(disk.engine, limit=100, bytes_max=120) == expected


def test_a_scan_stops_before_the_stop_partition(disk: Disk) -> None:
    for partition in range(4):
        disk.engine.put(partition, b"k%d" % -partition, record(partition))
    disk.engine.commit()
    disk.flush()
    disk.settle()
    page = disk.engine.scan(Position(1, b""), 3, limit=10, bytes_max=1000)
    assert [entry.partition for entry in page.entries] == [1, 2]
    assert page.next is None


def test_a_scan_starts_at_the_key_it_is_given(disk: Disk) -> None:
    for key in (b"a", b"b", b"c"):
        disk.engine.put(1, key, record(1))
    disk.engine.commit()
    disk.flush()
    disk.settle()
    page = disk.engine.scan(Position(1, b"b"), 2, limit=10, bytes_max=1000)
    assert [entry.key for entry in page.entries] == [b"b", b"c"]


def test_one_record_larger_than_bytes_max_still_makes_a_page(disk: Disk) -> None:
    disk.engine.put(1, b"a", record(1, size=5000))
    disk.engine.put(1, b"b", record(2, size=5000))
    disk.engine.commit()
    page = disk.engine.scan(START, PARTITIONS, limit=10, bytes_max=10)
    assert [entry.key for entry in page.entries] == [b"a"]
    assert page.next is not None


def test_empty_and_binary_keys_and_contents_are_kept_exactly(disk: Disk) -> None:
    empty = Record(b"", b"", b"", "")
    disk.engine.put(0, b"", empty)
    disk.engine.put(0, bytes(range(256)), record(1))
    disk.engine.commit()
    disk.flush()
    disk.settle()
    disk.crash()
    assert disk.engine.get(0, b"") == empty
    assert disk.engine.get(0, bytes(range(256))) == record(1)
    assert [entry.key for entry in scan_all(disk.engine)] == [b"", bytes(range(256))]


def test_a_damaged_record_raises_until_it_is_written_again(disk: Disk) -> None:
    disk.engine.put(1, b"a", record(1))
    disk.engine.put(1, b"b", record(2))
    disk.engine.commit()
    disk.corrupt(1, b"a")
    with pytest.raises(CorruptRecordError):
        disk.engine.get(1, b"a")
    with pytest.raises(CorruptRecordError):
        disk.engine.scan(START, PARTITIONS, limit=10, bytes_max=1000)
    assert disk.engine.stats().corrupt_records >= 1
    assert disk.engine.get(1, b"b") == record(2)
    disk.engine.put(1, b"a", record(3))
    disk.engine.commit()
    assert disk.engine.get(1, b"a") == record(3)


def test_what_is_damaged_can_be_given_up_and_is_then_missing(disk: Disk) -> None:
    disk.engine.put(1, b"a", record(1))
    disk.engine.commit()
    disk.corrupt(1, b"a")
    disk.settle()
    disk.engine.put(1, b"later", record(2))
    with pytest.raises(CorruptRecordError):
        disk.engine.get(1, b"a")
    assert disk.engine.stats().corrupt_sstables
    disk.engine.set_metadata("rebuilding", b"yes")
    disk.engine.forget_quarantined(range(PARTITIONS))
    disk.engine.commit()
    disk.settle()
    assert not disk.engine.stats().corrupt_sstables
    for _ in range(2):
        assert disk.engine.get(1, b"a") is None
        assert [entry.key for entry in scan_all(disk.engine)] == [b"later"]
        disk.crash()
    disk.engine.put(1, b"a", record(3))
    disk.engine.commit()
    disk.flush()
    disk.settle()
    assert disk.engine.get(1, b"a") == record(3)


def test_giving_up_what_is_damaged_is_part_of_the_turn(disk: Disk) -> None:
    disk.engine.put(1, b"a", record(1))
    disk.engine.commit()
    disk.corrupt(1, b"a")
    disk.settle()
    with pytest.raises(CorruptRecordError):
        disk.engine.get(1, b"a")
    disk.engine.set_metadata("rebuilding", b"yes")
    disk.engine.forget_quarantined(range(PARTITIONS))
    disk.crash()
    disk.settle()
    with pytest.raises(CorruptRecordError):
        disk.engine.get(1, b"a")
    assert disk.engine.metadata("rebuilding") is None


def test_a_commit_on_a_full_disk_raises_and_leaves_nothing_half_applied(disk: Disk) -> None:
    disk.engine.put(1, b"before", record(1))
    disk.engine.commit()
    disk.fill()
    for number in range(64):
        disk.engine.put(1, b"during-%d" % number, record(number, size=4096))
    with pytest.raises(StorageFullError):
        disk.engine.commit()
    disk.crash()
    assert disk.engine.get(1, b"before") == record(1)
    assert [entry.key for entry in scan_all(disk.engine)] == [b"before"]


KEYS = {b"c": 0, b"long-" * 20: 0, b"aa": 1, b"b": 1, b"d": 1, b"a": 2, b"bb": 2, b"e": 2}
"""Key → the partition it always comes with; neither order is that of the other."""
PLACES = st.sampled_from([(partition, key) for key, partition in KEYS.items()])


class StorageMachine(RuleBasedStateMachine):
    """Any history of turns, crashes and housekeeping, against two dicts: visible and durable."""

    disk: Disk

    kind: type[MemoryDisk] | type[SqliteDisk]

    @initialize()
    def start(self) -> None:
        self.disk = self.kind()
        self.visible: dict[tuple[int, bytes], Record] = {}
        self.durable: dict[tuple[int, bytes], Record] = {}
        self.written = 0

    @rule(place=PLACES, size=st.sampled_from([0, 100, 3000]))
    def put(self, place: tuple[int, bytes], size: int) -> None:
        self.written += 1
        self.visible[place] = record(self.written, size)
        self.disk.engine.put(*place, self.visible[place])

    @rule(places=st.lists(PLACES, unique_by=lambda place: place[1]))
    def put_what_is_new(self, places: list[tuple[int, bytes]]) -> None:
        engine = self.disk.engine
        held = engine.may_hold(placed(places))
        assert {at for at, place in enumerate(places) if place in self.visible} <= set(held)
        new = [place for at, place in enumerate(places) if at not in held]
        records = [record(self.written + at) for at in range(len(new))]
        self.written += len(new)
        self.visible.update(zip(new, records, strict=True))
        engine.put_new(placed(new), records)

    @rule(place=PLACES)
    def drop(self, place: tuple[int, bytes]) -> None:
        self.visible.pop(place, None)
        self.disk.engine.drop(*place)

    @rule(crash=st.booleans())
    def commit(self, crash: bool) -> None:
        self.disk.engine.commit()
        self.durable = dict(self.visible)
        if crash:
            self.disk.crash()

    @rule()
    def crash(self) -> None:
        self.disk.crash()
        self.visible = dict(self.durable)

    @rule(settle=st.booleans())
    def flush(self, settle: bool) -> None:
        self.commit(crash=False)
        self.disk.flush()
        if settle:
            self.disk.settle()

    @rule()
    def maintain(self) -> None:
        self.disk.engine.maintain()

    @rule(limit=st.integers(1, 5), bytes_max=st.sampled_from([1, 200, 10000]))
    def scan(self, limit: int, bytes_max: int) -> None:
        found = {
            (e.partition, e.key): e.record for e in scan_all(self.disk.engine, limit, bytes_max)
        }
        assert found == self.visible
        assert list(found) == sorted(found)

    @invariant()
    def every_key_reads_as_the_model_says(self) -> None:
        for key, partition in {**KEYS, b"never": 1}.items():
            found = self.disk.engine.get(partition, key)
            assert found == self.visible.get((partition, key))

    @invariant()
    def every_log_segment_is_in_one_place(self) -> None:
        if isinstance(self.disk.engine, SqliteStorageEngine):
            self.disk.engine.check_invariants()

    def teardown(self) -> None:
        if hasattr(self, "disk"):
            self.disk.remove()


class MemoryStorageMachine(StorageMachine):
    kind = MemoryDisk


class SqliteStorageMachine(StorageMachine):
    kind = SqliteDisk


TestMemoryStorageMachine = MemoryStorageMachine.TestCase
TestSqliteStorageMachine = SqliteStorageMachine.TestCase
TestMemoryStorageMachine.settings = TestSqliteStorageMachine.settings = settings(
    max_examples=40,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.too_slow],
)
