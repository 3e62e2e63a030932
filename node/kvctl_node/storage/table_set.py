"""The SSTables that make up the store now, newest first, and how a read goes through them.

A get asks the Bloom filters of all tables (`filter_bank`), and opens those that say "maybe", from
the newest to the oldest; the first table that knows the key answers. With one false maybe in a
thousand, a get costs little more than one look into one table, however many there are. Recent
answers are kept (`answer_cache`).
"""

from __future__ import annotations

from collections.abc import Sequence

from kvctl_node.errors import CorruptRecordError
from kvctl_node.ports import Record
from kvctl_node.ring.key_hash import KeyHash, hash_of
from kvctl_node.storage.answer_cache import AnswerCache
from kvctl_node.storage.block import place_of
from kvctl_node.storage.filter_bank import FilterSet
from kvctl_node.storage.record_codec import ABSENT
from kvctl_node.storage.sstable import SSTable, TableDescription


class TableSet:
    """All tables the manifest names, open for reading on the loop's thread."""

    def __init__(self, tables: Sequence[SSTable]) -> None:
        """`tables` in any order."""
        self.newest_first: list[SSTable] = []
        self.filters = FilterSet()
        self._answers = AnswerCache()
        self.bloom_negatives = 0
        self.bloom_hits = 0
        self.bloom_false_positives = 0
        self.corrupt_records = 0
        """Reads that failed because of damage."""
        for table in tables:
            self.replace(table, ())

    def find(self, partition: int, key: bytes) -> Record | None:
        """The newest record in any table, None if there is none. Raises `CorruptRecordError`."""
        if not self.newest_first:
            return None
        place = place_of(partition, key)
        answer = self._answers.get(place)
        return self._search(place, key) if answer is ABSENT else answer

    def _search(self, place: bytes, key: bytes) -> Record | None:
        maybe = self.filters.may_contain(hash_of(key))
        self.bloom_negatives += len(self.newest_first) - len(maybe)
        if not maybe:
            return None  # what the filters alone can say is found out again as quickly
        if len(maybe) > 1:
            maybe.sort(key=_age)
        try:
            for table in maybe:
                found = table.find(place)
                if found is not ABSENT:
                    self.bloom_hits += 1
                    self._answers.put(place, found)
                    return found
                self.bloom_false_positives += 1
        except CorruptRecordError:
            self.corrupt_records += 1
            raise
        self._answers.put(place, None)
        return None

    def may_hold(self, hashes: Sequence[KeyHash]) -> set[int]:
        """Which keys, by the index of their hashes, the filters cannot exclude. HOT PATH."""
        if not self.newest_first:
            return set()
        maybe = self.filters.any_of(hashes)
        self.bloom_negatives += len(self.newest_first) * (len(hashes) - len(maybe))
        return maybe

    def by_id(self, table_id: int) -> SSTable | None:
        """The table of an id, None if it was merged away."""
        return next((t for t in self.newest_first if t.description.table_id == table_id), None)

    def replace(self, added: SSTable, removed: Sequence[TableDescription]) -> None:
        """Put a table in the place of others, which are closed."""
        kept = [added]
        for table in self.newest_first:
            if table.description in removed:
                self.filters.remove(table)
                table.close()
            else:
                kept.append(table)
        self.newest_first = sorted(kept, key=_age)
        self.filters.add(added)

    def forget_answers(self) -> None:
        """The tables do not answer as they did: one was flushed, or a damaged one given up."""
        self._answers.clear()

    def oldest_first(self) -> list[tuple[TableDescription, bool]]:
        """(description, in quarantine) of every table, as the compaction policy wants it."""
        return [(table.description, bool(table.damage)) for table in reversed(self.newest_first)]

    def damaged(self) -> tuple[str, ...]:
        """File names of the tables in quarantine, oldest first."""
        tables = reversed(self.newest_first)
        return tuple(table.description.file_name for table in tables if table.damage)

    def close(self) -> None:
        """Release all files."""
        for table in self.newest_first:
            table.close()


def _age(table: SSTable) -> int:
    """Least for the newest."""
    return -table.description.first_segment
