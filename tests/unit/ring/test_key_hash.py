"""Keys fall evenly and reproducibly on partitions and Merkle leaves."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.ring.claim import claim
from kvctl_node.ring.key_hash import (
    LEAF_SHIFT,
    LEAVES_PER_PARTITION,
    hash_of,
    leaf_of,
    partition_of,
)
from tests.unit.ring.ring_strategies import LAWS, equal_servers

KEYS = [f"user:{number}".encode() for number in range(20_000)]


def test_the_place_of_a_key_is_pinned_since_stored_data_depends_on_it() -> None:
    assert [partition_of(key, 1024) for key in (b"", b"cart:1", b"cart:2")] == PINNED_PARTITIONS
    assert [leaf_of(key) for key in (b"", b"cart:1", b"cart:2")] == PINNED_LEAVES


@LAWS
@given(st.binary(max_size=64), st.sampled_from([1, 8, 512, 65536]))
def test_doubling_the_partitions_splits_each_in_two(key: bytes, partitions: int) -> None:
    assert partition_of(key, 2 * partitions) // 2 == partition_of(key, partitions)


@given(st.binary(max_size=64))
@LAWS
def test_the_map_finds_the_same_partition_as_the_function(key: bytes) -> None:
    assert MAP.partition_of(key) == partition_of(key, 64)
    assert 0 <= leaf_of(key) < LEAVES_PER_PARTITION
    assert MAP.placed([key, b"other"]) == (
        [key, b"other"],
        [hash_of(key), hash_of(b"other")],
        [partition_of(key, 64), partition_of(b"other", 64)],
    )
    assert leaf_of(key) == hash_of(key)[1] >> LEAF_SHIFT


@pytest.mark.parametrize(
    "place", [lambda key: partition_of(key, 64), leaf_of], ids=["partitions", "leaves"]
)
def test_keys_spread_evenly(place) -> None:  # type: ignore[no-untyped-def]
    counts = Counter(place(key) for key in KEYS)
    expected = len(KEYS) / 64
    chi_square = sum((counts[cell] - expected) ** 2 / expected for cell in range(64))
    # 63 degrees of freedom: 99.9 % of fair spreads stay below 103.4.
    assert chi_square < 103.4


def test_leaves_of_one_partition_are_used_evenly() -> None:
    inside = [key for key in KEYS if partition_of(key, 8) == 3]
    counts = Counter(leaf_of(key) for key in inside)
    assert len(counts) == LEAVES_PER_PARTITION
    assert max(counts.values()) < 2.5 * len(inside) / LEAVES_PER_PARTITION


MAP = claim(equal_servers(3), partitions=64, n=3)
PINNED_PARTITIONS = [0, 841, 863]
PINNED_LEAVES = [0, 26, 22]
