"""Where a key falls on the circle: MurmurHash3 (x64, 128 bits) of its bytes.

The circle is the range of the first 64-bit word. It is cut into Q equal partitions, Q a power of
two, so a partition is the top log2(Q) bits of that word. The Merkle leaf within the partition is
the top six bits of the *second* word: independent of the partition, and the same for every Q.

                 first word                          second word
    ┌──────────┬───────────────────┐   ┌────────┬──────────────────────┐
    │partition │                   │   │  leaf  │                      │
    └──────────┴───────────────────┘   └────────┴──────────────────────┘
      log2(Q)                            6 bits
"""

from __future__ import annotations

from collections.abc import Iterable

import mmh3

LEAVES_PER_PARTITION = 64
"""Merkle leaves in each partition; a power of two."""

WORD_BITS = 64
_LEAF_SHIFT = WORD_BITS - LEAVES_PER_PARTITION.bit_length() + 1


def partition_shift(partitions: int) -> int:
    """How far to shift the first hash word right to get a partition of `partitions`."""
    assert partitions > 0 and partitions & (partitions - 1) == 0, "Q is a power of two"
    return WORD_BITS + 1 - partitions.bit_length()


def partition_of(key: bytes, partitions: int) -> int:
    """The partition, 0 to `partitions` - 1, of a key on a circle of `partitions` (power of two)."""
    return mmh3.mmh3_x64_128_utupledigest(key)[0] >> partition_shift(partitions)


def leaf_of(key: bytes) -> int:
    """The Merkle leaf of a key within its partition, 0 to 63."""
    return mmh3.mmh3_x64_128_utupledigest(key)[1] >> _LEAF_SHIFT


def leaves_of(keys: Iterable[bytes]) -> list[int]:
    """`leaf_of` for many keys."""
    return [words[1] >> _LEAF_SHIFT for words in map(mmh3.mmh3_x64_128_utupledigest, keys)]
