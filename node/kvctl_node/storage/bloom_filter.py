"""Bloom filter: "this SSTable does not hold the key", for certain, from a few bits per key.

A filter answers *no* (certain) or *maybe*, so a get opens, on average, little more than the one
table that has the key. This is a *blocked* filter with bit patterns: a key sets five bits, all in
one 64-bit word, as one of 4096 patterns that are fixed for ever. One hash of 128 bits chooses the
word (its first half) and the pattern (its second half), so adding a key is one OR, and asking for
one is one AND, where a classical filter needs seven steps in Python. It is the hash that decides a
key's partition as well (`ring.key_hash`, other bits of it), so whoever has that has everything that
any table's filter is asked with (Putze, Sanders and Singler, "Cache-, Hash- and Space-Efficient
Bloom Filters", 2007, describe both ideas).

The price is that keys are spread unevenly over the words. Measured at 12 bits per key: 1.1 % of
needless maybes (a classical filter: 0.3 %, and 1 % at 10 bits), 0.4 % at 17, 0.16 % at 24, the
default; and 0.3 µs to add a key or ask for one, hash included (classical: 1.6 and 0.5).

Filters have a power of two of words, so a key gets up to twice the bits that were asked for, and
most tables of a node have filters of one size, which can be asked together (`filter_bank`).

Invariant: no false negatives; a key that was added is a maybe for ever.
"""

from __future__ import annotations

import sys
from array import array
from collections.abc import Iterable
from typing import Final

from kvctl_node.ring.key_hash import KeyHash, hash_of

WORD_BITS: Final = 64
PATTERN_BITS: Final = 5
"""Bits a key sets: the best number at 12 bits per key, since words are filled unevenly."""
PATTERN_COUNT: Final = 4096
PATTERN_MASK: Final = PATTERN_COUNT - 1


def _bits(number: int) -> tuple[int, ...]:
    """`PATTERN_BITS` different bits of a word, drawn from the hash of the pattern's number."""
    bits: set[int] = set()
    attempt = 0
    while len(bits) < PATTERN_BITS:
        drawn, _ = hash_of(b"%d/%d" % (number, attempt))
        bits, attempt = set(), attempt + 1
        for _ in range(PATTERN_BITS):
            bits.add(drawn % WORD_BITS)
            drawn //= WORD_BITS
    return tuple(sorted(bits))


BITS: Final = tuple(_bits(number) for number in range(PATTERN_COUNT))
"""The bits of each pattern."""
_PATTERNS: Final = tuple(sum(1 << bit for bit in bits) for bits in BITS)


class BloomFilter:
    """A set of keys, each known by its hash, that can be added to and asked, not listed."""

    __slots__ = ("word_count", "words")

    def __init__(self, words: array[int]) -> None:
        assert words.itemsize * 8 == WORD_BITS
        assert len(words) >= 1
        self.words = words
        self.word_count = len(words)

    @classmethod
    def for_keys(cls, keys: int, bits_per_key: int) -> BloomFilter:
        """An empty filter with at least so many bits for each of so many keys.

        The number of words is a power of two: then most filters of a node are of the same size.
        """
        needed = max(1, -(-keys * bits_per_key // WORD_BITS))
        words = 1 << (needed - 1).bit_length()
        return cls(array("Q", bytes(words * WORD_BITS // 8)))

    @classmethod
    def from_bytes(cls, data: bytes) -> BloomFilter:
        """The filter that `to_bytes` wrote down; its length is a multiple of the word's."""
        words = array("Q", data)
        if sys.byteorder == "big":
            words.byteswap()
        return cls(words)

    def to_bytes(self, first: int = 0, stop: int | None = None) -> bytes:
        """The words first <= w < stop, or all, least significant byte first."""
        words = self.words[first:stop]
        if sys.byteorder == "big":
            words.byteswap()
        return words.tobytes()

    def add(self, hashes: Iterable[KeyHash]) -> None:
        """Add the keys with these hashes."""
        words, count, patterns = self.words, self.word_count, _PATTERNS
        for first, second in hashes:
            words[first % count] |= patterns[second & PATTERN_MASK]

    def may_contain(self, key_hash: KeyHash) -> bool:
        """False: a key with this hash is certainly not here."""
        first, second = key_hash
        pattern = _PATTERNS[second & PATTERN_MASK]
        return self.words[first % self.word_count] & pattern == pattern

    def any_of(self, hashes: Iterable[KeyHash]) -> list[int]:
        """Which of these hashes, by index, may be those of keys that are here. HOT PATH."""
        words, count, patterns = self.words, self.word_count, _PATTERNS
        return [
            at
            for at, (first, second) in enumerate(hashes)
            if words[first % count] & (pattern := patterns[second & PATTERN_MASK]) == pattern
        ]
