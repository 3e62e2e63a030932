"""Filter bank: the Bloom filters of several SSTables in one array, asked with one look.

Every table more costs every read a look into one more filter, somewhere else in memory. A bank
holds up to eight filters of one size *bit-sliced*: for each of their bits one byte, whose bit k is
that bit of the filter in lane k. A key's word is the same in all of them, so the AND of the five
bytes its pattern names is the set of lanes that may have it; they lie within 64 bytes.

    lane 7 .. 0                       filters' bit 3   ─▶ 0 1 1 0 0 0 1 0
                                      filters' bit 17  ─▶ 0 1 0 0 0 0 1 1
    maybe = AND of five such bytes    ...                 ─────────────── AND
                                                          0 1 0 0 0 0 1 0   tables 1 and 6

Source: Faloutsos and Christodoulakis, "Signature Files", ACM TOIS 1984; Goodwin et al.,
"BitFunnel", SIGIR 2017, for bit-sliced Bloom filters.

Filling a lane takes milliseconds for a filter of common size, so it is done in steps. Until then,
and for filters that are large or of a size of their own, a filter is asked by itself (`FilterSet`).
Measured with eight filters and keys that are in none: 0.4 µs a key instead of 1.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Final

from kvctl_node.ring.key_hash import KeyHash
from kvctl_node.storage.bloom_filter import BITS, PATTERN_MASK, WORD_BITS
from kvctl_node.storage.sstable import SSTable

LANES: Final = 8
BANK_WORDS_MAX: Final = 1 << 17
"""Filters of more words are asked alone: a bank takes 64 bytes of memory for every word."""
STEP_WORDS: Final = 2048
"""Words of a filter put in its lane by one step: about a millisecond."""

# Written out most significant bit first, eight bits to a byte: where each bit of a word ends up.
_PLACES: Final = tuple(tuple(bit - bit % 8 + 7 - bit % 8 for bit in bits) for bits in BITS)
_SET: Final = [bytes(byte % 2 << lane for byte in range(256)) for lane in range(LANES)]
"""For each lane: the digits b"0" and b"1" (which differ in their lowest bit) -> 0 and the lane."""
_CLEAR: Final = [bytes(byte & ~(1 << lane) for byte in range(256)) for lane in range(LANES)]


class FilterBank:
    """Tables whose filters have the same number of words, up to eight."""

    def __init__(self, word_count: int) -> None:
        self.word_count = word_count
        self.lanes: list[SSTable | None] = [None] * LANES
        """The table in each lane; its filter is filled in."""
        self._slices = bytearray(word_count * WORD_BITS)
        self._live = 0
        """The lanes in use, as a byte of the slices has them."""

    def free_lane(self) -> int | None:
        """A lane without a table, if there is one."""
        return self.lanes.index(None) if None in self.lanes else None

    def fill(self, lane: int, table: SSTable) -> Iterator[None]:
        """Put the table's filter in a free lane, a bounded step for each yield; asked at the end.

        Whatever was left in the lane, by a table that went or by steps that were not taken to the
        end, is overwritten.
        """
        for first in range(0, self.word_count, STEP_WORDS):
            stop = min(first + STEP_WORDS, self.word_count)
            size = (stop - first) * WORD_BITS
            bits = int.from_bytes(table.bloom.to_bytes(first, stop), "big")
            added = format(bits, f"0{size}b").encode().translate(_SET[lane])
            at = slice(first * WORD_BITS, stop * WORD_BITS)
            kept = self._slices[at].translate(_CLEAR[lane])
            both = int.from_bytes(kept, "big") | int.from_bytes(added, "big")
            self._slices[at] = both.to_bytes(size, "big")
            yield
        self.lanes[lane] = table
        self._live |= 1 << lane

    def remove(self, table: SSTable) -> None:
        """Ask this table's filter no more."""
        lane = self.lanes.index(table)
        self.lanes[lane] = None
        self._live &= ~(1 << lane)

    def may_contain(self, key_hash: KeyHash) -> list[SSTable]:
        """The tables that cannot exclude a key with this hash."""
        first, second = key_hash
        slices, word = self._slices, first % self.word_count * WORD_BITS
        maybe = self._live
        for place in _PLACES[second & PATTERN_MASK]:
            maybe &= slices[word + place]
            if not maybe:
                return []
        return [t for lane, t in enumerate(self.lanes) if maybe >> lane & 1 and t is not None]

    def any_of(self, hashes: Iterable[KeyHash]) -> list[int]:
        """Which of these hashes, by index, some table cannot exclude. HOT PATH."""
        slices, count, live, places = self._slices, self.word_count, self._live, _PLACES
        maybe = []
        for at, (first, second) in enumerate(hashes):
            word = first % count * WORD_BITS
            a, b, c, d, e = places[second & PATTERN_MASK]
            two = slices[word + a] & slices[word + b]
            if two and two & slices[word + c] & slices[word + d] & slices[word + e] & live:
                maybe.append(at)
        return maybe


class FilterSet:
    """The filters of all tables: as many as possible in banks, the others by themselves."""

    def __init__(self) -> None:
        self._single: list[SSTable] = []
        self._banks: list[FilterBank] = []
        self._moving: tuple[SSTable, FilterBank, Iterator[None]] | None = None
        """A single table on its way into a bank, and the steps that are left."""

    def add(self, table: SSTable) -> None:
        """Ask this table's filter from now on."""
        self._single.append(table)
        self._consider_moving()

    def remove(self, table: SSTable) -> None:
        """Ask this table's filter no more."""
        if self._moving is not None and self._moving[0] is table:
            self._moving = None
        if table in self._single:
            self._single.remove(table)
        for bank in self._banks:
            if table in bank.lanes:
                bank.remove(table)
                self._give_up_if_not_worth_it(bank)
                break
        self._consider_moving()

    def _give_up_if_not_worth_it(self, bank: FilterBank) -> None:
        """One filter alone is asked as quickly outside, and takes an eighth of the memory there."""
        left = [table for table in bank.lanes if table is not None]
        if len(left) < 2 and (self._moving is None or self._moving[1] is not bank):
            self._single += left
            self._banks.remove(bank)

    # ------------------------------------------------------------ filling banks

    @property
    def has_work(self) -> bool:
        """Whether `improve` has something to do."""
        return self._moving is not None

    def improve(self) -> None:
        """A bounded step toward fewer looks: move tables that stand alone into banks."""
        if self._moving is None:
            return
        table, bank, steps = self._moving
        for _ in steps:
            return
        self._single.remove(table)
        if bank not in self._banks:
            self._banks.append(bank)
        self._moving = None
        self._consider_moving()

    def _consider_moving(self) -> None:
        """Choose a table for which a bank has room, or one of two of a size, for a new bank."""
        if self._moving is not None:
            return
        sizes = [table.bloom.word_count for table in self._single]
        for table, size in zip(self._single, sizes, strict=True):
            for bank in self._banks:
                lane = bank.free_lane()
                if bank.word_count == size and lane is not None:
                    self._moving = table, bank, bank.fill(lane, table)
                    return
            if size <= BANK_WORDS_MAX and sizes.count(size) > 1:
                bank = FilterBank(size)
                self._moving = table, bank, bank.fill(0, table)
                return

    # ------------------------------------------------------------ asking

    def may_contain(self, key_hash: KeyHash) -> list[SSTable]:
        """The tables that cannot exclude a key with this hash, in no order."""
        maybe = [table for table in self._single if table.bloom.may_contain(key_hash)]
        for bank in self._banks:
            maybe += bank.may_contain(key_hash)
        return maybe

    def any_of(self, hashes: Sequence[KeyHash]) -> set[int]:
        """Which of these hashes, by index, some table cannot exclude. HOT PATH."""
        maybe: set[int] = set()
        for bank in self._banks:
            maybe.update(bank.any_of(hashes))
        for table in self._single:
            maybe.update(table.bloom.any_of(hashes))
        return maybe
