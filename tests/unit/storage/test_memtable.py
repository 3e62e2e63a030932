"""A memtable counts what it holds, however it got there."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.ports import Position, Record
from kvctl_node.storage.block import place_of
from kvctl_node.storage.memtable import Memtable
from tests.placing import placed

PLACES = st.lists(
    st.tuples(st.integers(0, 3), st.binary(min_size=1, max_size=3)), unique_by=lambda one: one[1]
)


def record(number: int) -> Record:
    return Record(b"c" * number, b"%016d" % number, b"r" * (number % 3))


@given(before=PLACES, new=PLACES)
def test_new_keys_put_together_count_like_those_put_one_by_one(
    before: list[tuple[int, bytes]], new: list[tuple[int, bytes]]
) -> None:
    together, one_by_one = Memtable(1), Memtable(1)
    for memtable in (together, one_by_one):
        for at, place in enumerate(before):
            memtable.put(*place, record(at) if at % 2 else None)
    keys = [key for _, key in new]
    held = together.may_hold(keys)
    known = {key for _, key in before}
    assert held == {at for at, key in enumerate(keys) if key in known}
    new = [place for at, place in enumerate(new) if at not in held]
    records = [record(at) for at in range(len(new))]
    together.put_new(placed(new), records)
    for place, one in zip(new, records, strict=True):
        one_by_one.put(*place, one)
    assert together.key_count == one_by_one.key_count
    assert together.memory_bytes == one_by_one.memory_bytes
    assert list(together.batches(9, 10**6)) == list(one_by_one.batches(9, 10**6))


@given(
    parts=st.lists(PLACES, max_size=5), start=st.tuples(st.integers(0, 3), st.binary(max_size=2))
)
def test_a_scan_has_each_place_once_in_order_whenever_it_was_put(
    parts: list[list[tuple[int, bytes]]], start: tuple[int, bytes]
) -> None:
    memtable = Memtable(1)
    partition_of: dict[bytes, int] = {}
    model: dict[tuple[int, bytes], Record | None] = {}
    for part in parts:
        for at, (partition, key) in enumerate(part):
            place = partition_of.setdefault(key, partition), key
            model[place] = record(at) if at % 3 else None
            memtable.put(*place, model[place])
        expected = [
            (place_of(*place), model[place]) for place in sorted(model) if start <= place < (3, b"")
        ]
        assert list(memtable.scan(Position(*start), 3)) == expected
