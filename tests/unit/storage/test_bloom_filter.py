"""Laws of the Bloom filter: no false negatives, few false positives."""

from __future__ import annotations

from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.ring.key_hash import hash_of, partition_of
from kvctl_node.storage.bloom_filter import (
    BITS,
    PATTERN_BITS,
    PATTERN_COUNT,
    BloomFilter,
)


def asks(bloom: BloomFilter, key: bytes) -> bool:
    return bloom.may_contain(hash_of(key))


@given(
    keys=st.lists(st.binary(max_size=40), max_size=200),
    bits_per_key=st.integers(1, 20),
)
def test_a_key_that_was_added_is_always_a_maybe(keys: list[bytes], bits_per_key: int) -> None:
    bloom = BloomFilter.for_keys(len(keys), bits_per_key)
    bloom.add(map(hash_of, keys))
    assert all(asks(bloom, key) for key in keys)
    read_back = BloomFilter.from_bytes(bloom.to_bytes())
    assert all(asks(read_back, key) for key in keys)


@pytest.mark.parametrize(
    ("bits_per_key", "rate_max"), [(8, 0.04), (12, 0.0125), (16, 0.006), (24, 0.002)]
)
def test_false_positives_are_as_rare_as_was_measured(bits_per_key: int, rate_max: float) -> None:
    bloom = BloomFilter.for_keys(10_000, bits_per_key)
    bloom.add(hash_of(b"present-%d" % number) for number in range(10_000))
    asked = 40_000
    wrong = sum(asks(bloom, b"absent-%d" % number) for number in range(asked))
    assert wrong / asked <= rate_max


def test_an_empty_filter_denies_everything() -> None:
    bloom = BloomFilter.for_keys(0, 10)
    assert not any(asks(bloom, b"%d" % number) for number in range(1000))


def test_the_keys_of_one_partition_spread_as_well() -> None:
    """Partition and filter use the same hash, but other bits of it."""
    inside = [
        key
        for key in (b"key-%d" % number for number in range(100_000))
        if partition_of(key, 64) == 17
    ]
    half = len(inside) // 2
    bloom = BloomFilter.for_keys(half, 24)
    bloom.add(map(hash_of, inside[:half]))
    assert sum(asks(bloom, key) for key in inside[half:]) <= 0.006 * half


@pytest.mark.parametrize(("keys", "words"), [(0, 1), (5, 1), (6, 2), (1000, 256), (1365, 256)])
def test_the_size_is_the_next_power_of_two(keys: int, words: int) -> None:
    bloom = BloomFilter.for_keys(keys, 12)
    assert bloom.word_count == words
    assert keys * 12 <= words * 64 < 2 * max(keys * 12, 64)


@given(
    added=st.lists(st.binary(max_size=8), max_size=40),
    asked=st.lists(st.binary(max_size=8), max_size=40),
)
def test_asking_about_several_keys_is_asking_about_each(
    added: list[bytes], asked: list[bytes]
) -> None:
    bloom = BloomFilter.for_keys(len(added), 4)
    bloom.add(map(hash_of, added))
    asked = asked + added[:5]
    maybe = [at for at, key in enumerate(asked) if asks(bloom, key)]
    assert bloom.any_of(map(hash_of, asked)) == maybe


@given(words=st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=9), data=st.data())
def test_a_part_of_the_bytes_is_that_of_all_bytes(words: list[int], data: st.DataObject) -> None:
    bloom = BloomFilter(array("Q", words))
    first = data.draw(st.integers(0, len(words)))
    stop = data.draw(st.integers(first, len(words)))
    assert bloom.to_bytes(first, stop) == bloom.to_bytes()[8 * first : 8 * stop]


def test_patterns_are_the_same_for_ever() -> None:
    """Filters are stored: other patterns would make false negatives of every one of them."""
    assert {len(set(bits)) for bits in BITS} == {PATTERN_BITS}
    assert len(BITS) == PATTERN_COUNT
    assert len(set(BITS)) > 0.99 * PATTERN_COUNT
    bloom = BloomFilter.for_keys(2, 64)
    bloom.add([hash_of(b"k"), hash_of(b"l")])
    assert bloom.to_bytes().hex() == "04408002c00105000000000000000000"
