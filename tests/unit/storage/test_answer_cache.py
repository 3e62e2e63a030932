"""The cache of recent table answers: bounded, and never wrong."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.config import StorageConfig
from kvctl_node.ports import Record
from kvctl_node.storage.answer_cache import ANSWER_OVERHEAD_BYTES, AnswerCache
from kvctl_node.storage.engine import SqliteStorageEngine
from kvctl_node.storage.record_codec import ABSENT

BUDGET = 40 * ANSWER_OVERHEAD_BYTES


def place(number: int) -> bytes:
    return b"%04d" % number


@given(asked=st.lists(st.integers(0, 200), max_size=600), size=st.sampled_from([0, 100, 5000]))
def test_an_answer_is_the_one_that_was_put_or_none_and_memory_is_bounded(
    asked: list[int], size: int
) -> None:
    cache = AnswerCache(BUDGET)
    for number in asked:
        expected = Record(b"%d" % number + b"." * size, b"") if number % 3 else None
        found = cache.get(place(number))
        assert found is ABSENT or found == expected
        if found is ABSENT:
            cache.put(place(number), expected)
        kept = [r for part in (cache._young, cache._old) for r in part.values()]
        used = sum(ANSWER_OVERHEAD_BYTES + len(r.content if r else b"") for r in kept)
        assert used <= BUDGET + 2 * (ANSWER_OVERHEAD_BYTES + size + 10)


def test_what_is_asked_again_and_again_stays() -> None:
    cache = AnswerCache(BUDGET)
    cache.put(place(0), None)
    for number in range(1, 1000):
        assert cache.get(place(0)) is None
        cache.put(place(number), None)
    assert cache.get(place(1)) is ABSENT


def test_a_read_for_a_quorum_and_the_one_to_apply_open_a_table_once(tmp_path: Path) -> None:
    engine = SqliteStorageEngine.open(tmp_path, StorageConfig(), partitions=8)
    engine.put(1, b"k", Record(b"old", b"1"))
    engine.commit()
    engine.freeze_memtable()
    assert engine.settle(30)
    for _ in range(3):
        assert engine.get(1, b"k") == Record(b"old", b"1")
        assert engine.get(1, b"absent") is None
    assert engine.stats().bloom_hits == 1
    assert engine.stats().bloom_false_positives == 0
    assert engine.stats().bloom_negatives == 3, "asked anew: a filter answers as soon as a cache"
    engine.close()


def test_a_newer_version_is_read_before_and_after_its_flush(tmp_path: Path) -> None:
    engine = SqliteStorageEngine.open(tmp_path, StorageConfig(), partitions=8)
    for version in range(3):
        engine.put(1, b"k", Record(b"%d" % version, b""))
        engine.drop(1, b"gone") if version else engine.put(1, b"gone", Record(b"0", b""))
        engine.commit()
        engine.freeze_memtable()
        assert engine.get(1, b"k") == Record(b"%d" % version, b"")
        assert engine.settle(30)
        for _ in range(2):
            assert engine.get(1, b"k") == Record(b"%d" % version, b"")
            assert (engine.get(1, b"gone") is None) == (version > 0)
            assert engine.get(1, b"later") is None
    engine.put(1, b"later", Record(b"3", b""))
    engine.commit()
    engine.freeze_memtable()
    assert engine.settle(30)
    assert engine.get(1, b"later") == Record(b"3", b"")
    engine.close()
