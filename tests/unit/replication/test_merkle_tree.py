"""The Merkle tree equals its recomputation, whatever is written, and whenever it is built."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvctl_node.ports import Record
from kvctl_node.replication.key_listing import list_keys
from kvctl_node.replication.merkle_pair import MerkleLevel, PairTree
from kvctl_node.replication.merkle_tree import HASH_BYTES, MerkleTree
from kvctl_node.ring.key_hash import LEAVES_PER_PARTITION, leaf_of, partition_of
from tests.memory_storage_engine import MemoryStorageEngine
from tests.placing import placed

PARTITIONS = 8
KEYS = [b"key%d" % number for number in range(40)]


def record(number: int) -> Record:
    return Record(b"content %d" % number, number.to_bytes(16, "big"))


class Disk:
    """A storage engine and the tree that is told of every change, as `Replica` does it."""

    def __init__(self, partitions: int = PARTITIONS) -> None:
        self.partitions = partitions
        self.storage = MemoryStorageEngine()
        self.tree = MerkleTree(partitions)

    def put(self, key: bytes, number: int) -> None:
        partition = partition_of(key, self.partitions)
        old = self.storage.get(partition, key)
        self.storage.put(partition, key, record(number))
        self.tree.on_change(partition, key, old, record(number))

    def put_new(self, keys: list[bytes], number: int) -> None:
        """Those of the keys that are not there yet, together."""
        asked = placed((partition_of(key, self.partitions), key) for key in keys)
        held = self.storage.may_hold(asked)
        new = asked.at([at for at in range(len(keys)) if at not in held])
        records = [record(number + at) for at in range(len(new.keys))]
        self.storage.put_new(new, records)
        self.tree.on_new(new, records)

    def drop(self, key: bytes) -> None:
        partition = partition_of(key, self.partitions)
        old = self.storage.get(partition, key)
        self.storage.drop(partition, key)
        self.tree.on_change(partition, key, old, None)

    def build(self, keys_max: int = 16) -> None:
        self.tree.rebuild(0, self.partitions)
        self.build_on(keys_max)

    def build_on(self, keys_max: int = 16) -> None:
        while self.tree.building:
            self.tree.build_slice(self.storage, keys_max)

    def pair(self, partitions: tuple[int, ...] = tuple(range(PARTITIONS))) -> PairTree:
        return PairTree(self.tree, partitions)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("slice"), st.just(b""), st.integers(1, 9)),
        st.tuples(st.just("build"), st.just(b""), st.integers(1, 9)),
        st.tuples(st.just("put"), st.sampled_from(KEYS), st.integers(1, 1000)),
        st.tuples(st.just("new"), st.sampled_from(KEYS), st.integers(1, 1000)),
        st.tuples(st.just("drop"), st.sampled_from(KEYS), st.just(0)),
        st.tuples(st.just("rebuild"), st.just(b""), st.integers(0, 1)),
        st.tuples(st.just("lost"), st.just(b""), st.integers(0, 1)),
    ),
    max_size=120,
)


@settings(max_examples=200, deadline=None)
@given(STEPS)
def test_the_tree_equals_its_recomputation_after_any_writes_during_any_rebuilds(steps) -> None:
    disk = Disk(partitions=2)
    for key in KEYS[::2]:
        disk.put(key, 1)
    disk.tree.rebuild(0, 2)
    for kind, key, number in steps:
        if kind == "put":
            disk.put(key, number)
        elif kind == "new":
            first = KEYS.index(key)
            disk.put_new(KEYS[first : first + 5], number)
        elif kind == "drop":
            disk.drop(key)
        elif kind == "slice":
            disk.tree.build_slice(disk.storage, number)
        elif kind == "build":
            disk.build_on(number)
        elif kind == "rebuild":
            disk.tree.rebuild(number, 2)
        else:
            disk.tree.on_lost(number)
        disk.tree.check_invariants(disk.storage)
    disk.build_on()
    disk.tree.check_invariants(disk.storage)
    assert disk.tree.is_ready((0, 1))
    assert disk.tree.drifted == []


def test_new_keys_before_the_cursor_are_added_to_what_is_being_read() -> None:
    disk = Disk(partitions=1)
    disk.put_new(KEYS[1::2], 1)
    disk.build()
    disk.tree.rebuild(0, 1)
    disk.tree.build_slice(disk.storage, 10)
    disk.put_new(KEYS[::2], 100)  # some of them before the cursor, some after it
    disk.build_on()
    assert disk.tree.drifted == []
    disk.tree.check_invariants(disk.storage)


def test_a_tree_is_not_ready_before_it_was_built() -> None:
    disk = Disk()
    assert not disk.pair().ready
    disk.build()
    assert disk.pair().ready


def test_the_same_content_written_in_any_order_has_the_same_root() -> None:
    one, two = Disk(), Disk()
    one.build()
    for key in KEYS:
        one.put(key, 1)
        one.put(key, 7)
    for key in reversed(KEYS):
        two.put(key, 7)
    two.build(3)
    assert one.pair().root() == two.pair().root()


def test_a_key_dropped_again_leaves_the_root_of_an_empty_disk() -> None:
    disk = Disk()
    disk.build()
    empty = disk.pair().root()
    disk.put(b"k", 1)
    assert disk.pair().root() != empty
    disk.drop(b"k")
    assert disk.pair().root() == empty


def test_one_differing_key_is_found_along_one_path() -> None:
    one, two = Disk(), Disk()
    for disk in (one, two):
        disk.build()
        for key in KEYS:
            disk.put(key, 1)
    two.put(KEYS[3], 2)
    partition = partition_of(KEYS[3], PARTITIONS)
    left, right = one.pair(), two.pair()
    differing = [
        left.differing(level, parents, right.hashes(level, parents))
        for level, parents in (
            (MerkleLevel.ROOT, ()),
            (MerkleLevel.GROUP, ()),
            (MerkleLevel.PARTITION, (0,)),
            (MerkleLevel.LEAF, (partition,)),
        )
    ]
    leaf = partition * LEAVES_PER_PARTITION + leaf_of(KEYS[3])
    assert differing == [[0], [0], [partition], [leaf]]


def test_the_hashes_of_a_level_fit_its_children() -> None:
    disk = Disk()
    disk.build()
    pair = disk.pair((1, 3, 4))
    for level, parents in (
        (MerkleLevel.ROOT, ()),
        (MerkleLevel.GROUP, ()),
        (MerkleLevel.PARTITION, (0, 99)),
        (MerkleLevel.LEAF, (3, 5)),
    ):
        hashes, children = pair.hashes(level, parents), pair.children(level, parents)
        assert children and len(hashes) == HASH_BYTES * len(children)


def test_a_pair_sees_only_what_it_shares() -> None:
    disk = Disk()
    disk.build()
    outside = partition_of(b"k", PARTITIONS)
    pair = disk.pair(tuple(p for p in range(PARTITIONS) if p != outside))
    before = pair.root()
    disk.put(b"k", 1)
    assert pair.root() == before


def test_a_damaged_record_makes_its_partition_damaged_and_the_others_stay_usable() -> None:
    disk = Disk()
    for key in KEYS:
        disk.put(key, 1)
    disk.storage.commit()
    damaged = partition_of(KEYS[0], PARTITIONS)
    disk.storage.corrupt(damaged, KEYS[0])
    disk.build()
    assert disk.tree.damaged == {damaged}
    assert disk.pair().ready and disk.pair().damaged == {damaged}
    disk.tree.check_invariants(disk.storage)
    disk.storage.put(damaged, KEYS[0], record(1))
    disk.tree.on_change(damaged, KEYS[0], None, record(1))
    disk.tree.rebuild(damaged, damaged + 1)
    disk.build_on()
    assert disk.tree.damaged == set()
    disk.tree.check_invariants(disk.storage)


def test_a_rebuild_notices_what_changed_on_the_disk_by_itself() -> None:
    disk = Disk()
    disk.build()
    for key in KEYS:
        disk.put(key, 1)
    partition = partition_of(KEYS[5], PARTITIONS)
    disk.storage.put(partition, KEYS[5], record(666))
    disk.build()
    assert disk.tree.drifted == [partition]
    disk.tree.check_invariants(disk.storage)


def test_the_figures_count_keys_and_bytes() -> None:
    disk = Disk()
    disk.build()
    disk.put(b"abc", 1)
    everywhere = tuple(range(PARTITIONS))
    assert disk.tree.key_count() == 1
    assert disk.tree.content_bytes(everywhere) == len(b"abc") + len(record(1).content)
    disk.drop(b"abc")
    assert disk.tree.key_count() == 0 and disk.tree.content_bytes(everywhere) == 0


@pytest.mark.parametrize("stop", [None, b"key3"])
def test_a_listing_names_exactly_the_keys_of_the_leaves_asked_for(stop) -> None:
    disk = Disk()
    for key in KEYS:
        disk.put(key, 1)
    partition = partition_of(KEYS[0], PARTITIONS)
    leaves = 1 << leaf_of(KEYS[0])
    listing = list_keys(disk.storage, partition, leaves, b"", stop)
    expected = sorted(
        key
        for key in KEYS
        if partition_of(key, PARTITIONS) == partition
        and leaf_of(key) == leaf_of(KEYS[0])
        and (stop is None or key < stop)
    )
    assert [key for key, _ in listing.entries] == expected and expected
    assert listing.next_key is None


def test_a_record_lost_behind_the_cursor_of_a_build_starts_its_partition_again() -> None:
    disk = Disk(partitions=1)
    for key in KEYS:
        disk.put(key, 1)
    disk.storage.commit()
    disk.tree.rebuild(0, 1)
    disk.tree.build_slice(disk.storage, 20)
    first = min(KEYS)
    disk.storage.corrupt(0, first)
    disk.tree.on_lost(0)
    disk.storage.put(0, first, record(2))
    disk.tree.on_change(0, first, None, record(2))
    disk.build_on()
    assert disk.tree.is_ready((0,))
    disk.tree.check_invariants(disk.storage)
