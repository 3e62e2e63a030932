"""Giving up a damaged table: putting in its place a table that hides what it may have held.

Once its owner has begun to rebuild the keys of a damaged table from their other replicas, the table
itself is of no use. But it cannot just go. It may have held newer versions, or removal markers, of
keys that older tables hold too, and those would come back: a deleted key, or an old version
whose actor has minted dots since.

So its place is taken by a table of removal markers, for every key of an older table that the lost
one *may* have held, by its Bloom filter. That filter lies in the manifest, so it is known to be
sound. One key in a hundred is hidden needlessly, and is rebuilt from its replicas like the rest.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from node.errors import CorruptRecordError
from node.storage.background import Urgency
from node.storage.bloom_filter import BloomFilter, hash_pair
from node.storage.compaction import STEPS, DamagedTable, merge
from node.storage.crash_points import CrashPoint, OnStep
from node.storage.installation import Installation
from node.storage.memtable import Batch
from node.storage.record_codec import DROPPED_PAYLOAD
from node.storage.sstable import SSTable, TableDescription, table_file_name
from node.storage.sstable_writer import BuiltTable, build_table

if TYPE_CHECKING:
    from node.storage.housekeeping import Housekeeping


class LostTables:
    """Replaces damaged tables one by one, the oldest first."""

    def __init__(self, housekeeping: Housekeeping) -> None:
        self._housekeeping = housekeeping
        self._tables = housekeeping.tables
        self._forgetting: set[int] = set()
        """Ids of the tables to be replaced."""

    def forget_all(self) -> None:
        """Replace every table that is in quarantine now."""
        idle = not self._forgetting
        for table in self._tables.newest_first:
            if table.damage:
                self._housekeeping.quarantine(table.description.table_id, table.damage)
                self._forgetting.add(table.description.table_id)
        if idle:
            self._forget_next()

    def _forget_next(self) -> None:
        """Begin with the oldest, since sound rows of older damaged tables are still answered.

        Of an older table that went to quarantine later it is not known what is to be hidden. So
        then the rest stays in quarantine too, until the owner, who has to know, asks again.
        """
        tables = self._tables.oldest_first()
        damaged = [at for at, (_, quarantined) in enumerate(tables) if quarantined]
        self._forgetting &= {tables[at][0].table_id for at in damaged}
        if not self._forgetting:
            return
        lost = self._tables.by_id(tables[damaged[0]][0].table_id)
        assert lost is not None
        if lost.description.table_id not in self._forgetting:
            self._forgetting.clear()
            return
        self._build(lost, [description for description, _ in tables[: damaged[0]]])

    def _build(self, lost: SSTable, older: Sequence[TableDescription]) -> None:
        housekeeping = self._housekeeping
        table_id = housekeeping.take_table_id()
        housekeeping.worker.submit(
            f"replacement of {lost.path.name}",
            Urgency.COMPACTION,
            lambda: build_stand_in(
                housekeeping.directory,
                lost.bloom,
                older,
                table_id,
                bloom_bits_per_key=housekeeping.config.bloom_bits_per_key,
                on_step=housekeeping.on_step,
            ),
            lambda result: self._on_built(lost, result),
        )

    def _on_built(self, lost: SSTable, result: BuiltTable | DamagedTable) -> None:
        housekeeping = self._housekeeping
        if isinstance(result, DamagedTable):
            housekeeping.quarantine(result.table_id, result.damage)
            self._forget_next()
        elif housekeeping.is_replaced(lost.description):
            # It had been merged, soundly, just before a read found it damaged.
            housekeeping.remove_files([housekeeping.directory / table_file_name(result.table_id)])
            self._forgetting.discard(lost.description.table_id)
            self._forget_next()
        else:
            housekeeping.enqueue(
                Installation(
                    result,
                    (lost.description,),
                    CrashPoint.COMPACTION_INSTALLING,
                    lambda: self._on_installed(lost),
                )
            )

    def _on_installed(self, lost: SSTable) -> None:
        housekeeping = self._housekeeping
        self._tables.forget_answers()
        housekeeping.on_step(CrashPoint.COMPACTION_INSTALLED)
        housekeeping.remove_files([lost.path])
        housekeeping.consider_compaction()
        self._forget_next()


def build_stand_in(
    directory: Path,
    lost: BloomFilter,
    older: Sequence[TableDescription],
    table_id: int,
    *,
    bloom_bits_per_key: int,
    on_step: OnStep,
) -> Generator[None, None, BuiltTable | DamagedTable]:
    """Make the table of markers; `older` are the sound tables older than the lost one.

    Raises `sqlite3.Error`, `OSError`.
    """
    # Most keys of the older tables were not in the lost one, but how many were is not known.
    bloom = BloomFilter.for_keys(sum(d.row_count for d in older), bloom_bits_per_key)
    with ExitStack() as stack:
        sources: list[SSTable] = []
        for description in older:
            source = SSTable(directory, description, bloom)
            source.open()
            stack.callback(source.close)
            sources.append(source)
        markers = _markers(merge(sources, keep_markers=True), lost)
        try:
            return (
                yield from build_table(
                    directory, table_id, markers, bloom, steps=STEPS, on_step=on_step
                )
            )
        except CorruptRecordError:
            for source in sources:
                if source.damage:
                    return DamagedTable(source.description.table_id, source.damage)
            raise


def _markers(batches: Iterator[Batch], lost: BloomFilter) -> Iterator[Batch]:
    for places, _ in batches:
        hidden = [place for place in places if lost.may_contain(hash_pair(place))]
        yield hidden, [DROPPED_PAYLOAD] * len(hidden)
