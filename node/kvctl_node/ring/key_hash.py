"""Where a key falls on the circle: MurmurHash3 (x64, 128 bits) of its bytes.

The circle is the range of the first 64-bit word. It is cut into Q equal partitions, Q a power of
two, so a partition is the top log2(Q) bits of that word. The Merkle leaf within the partition is
the top six bits of the *second* word: independent of the partition, and the same for every Q. The
lowest bits of both choose the key's bits in a Bloom filter (`kvctl_node.storage.bloom_filter`).

                 first word                          second word
    ┌──────────┬─────────┬─────────┐   ┌────────┬─────────────┬────────┐
    │partition │         │  word   │   │  leaf  │             │pattern │
    └──────────┴─────────┴─────────┘   └────────┴─────────────┴────────┘
      log2(Q)              up to 32      6 bits                12 bits
"""

from __future__ import annotations

from collections.abc import Callable

import mmh3

KeyHash = tuple[int, int]
"""The two 64-bit words of a key's hash."""
# The unsigned tuple digest is mmh3's quickest form of them.
hash_of: Callable[[bytes], KeyHash] = mmh3.mmh3_x64_128_utupledigest

LEAVES_PER_PARTITION = 64
"""Merkle leaves in each partition; a power of two."""

WORD_BITS = 64
LEAF_SHIFT = WORD_BITS - LEAVES_PER_PARTITION.bit_length() + 1
"""How far to shift the second hash word right to get the leaf."""


def partition_shift(partitions: int) -> int:
    """How far to shift the first hash word right to get a partition of `partitions`."""
    assert partitions > 0 and partitions & (partitions - 1) == 0, "Q is a power of two"
    return WORD_BITS + 1 - partitions.bit_length()


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, 0 to `partitions` - 1, of a key on a circle of `partitions` (power of two)."""
    return hash_of(key)[0] >> partition_shift(partitions)


def leaf_of(key: bytes) -> int:
    """The Merkle leaf of a key within its partition, 0 to 63."""
    return hash_of(key)[1] >> LEAF_SHIFT
