"""Giving up a damaged table: putting in its place what is left of it, and hiding what may not be.

Once its owner has begun to rebuild the lost keys of a damaged table from their other replicas, the
table itself is of no use. But it cannot just go. Most of its records may be sound, and if their
other replicas have some damage too, nobody else has them. And it may have held newer versions, or
removal markers, of keys that older tables hold too, and those would come back: a deleted key, or an
old version whose actor has minted dots since.

So its place is taken by a table of what could be salvaged (`salvage`) and, within the gaps, of
removal markers: for every key of an older table that the lost one *may* have held, by its Bloom
filter. That filter lies in the manifest, so it is known to be sound. One key in six hundred of
those, by default, is hidden needlessly, and is rebuilt from its replicas like the rest.

The owner says of which partitions it gives up what cannot be read, since it no longer counts there
as one that knows. If more than that turns out to be lost, the table stays in quarantine, and the
owner has to look again.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from kvctl_node.errors import CorruptRecordError
from kvctl_node.ring.key_hash import hash_of
from kvctl_node.storage.background import Urgency
from kvctl_node.storage.block import key_of
from kvctl_node.storage.bloom_filter import BloomFilter
from kvctl_node.storage.compaction import STEPS, DamagedTable, merge
from kvctl_node.storage.crash_points import CrashPoint, OnStep
from kvctl_node.storage.installation import Installation
from kvctl_node.storage.memtable import Batch
from kvctl_node.storage.record_codec import DROPPED_PAYLOAD
from kvctl_node.storage.salvage import Salvage
from kvctl_node.storage.sstable import SSTable, TableDescription, table_file_name
from kvctl_node.storage.sstable_writer import BATCH_ROWS, BuiltTable, build_table

if TYPE_CHECKING:
    from kvctl_node.storage.housekeeping import Housekeeping


class LostTables:
    """Replaces damaged tables one by one, the oldest first."""

    def __init__(self, housekeeping: Housekeeping) -> None:
        self._housekeeping = housekeeping
        self._tables = housekeeping.tables
        self._forgetting: set[int] = set()
        """Ids of the tables to be replaced."""
        self._given_up: frozenset[int] = frozenset()
        """Partitions in which keys may be missing."""

    def forget_all(self, partitions: Collection[int]) -> None:
        """Replace every table that is in quarantine now, if only these partitions lose by it."""
        self._given_up = frozenset(partitions)
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
                lost.description,
                lost.bloom,
                older,
                table_id,
                bloom_bits_per_key=housekeeping.config.bloom_bits_per_key,
                on_step=housekeeping.on_step,
            ),
            lambda result: self._on_built(lost, result),
        )

    def _on_built(self, lost: SSTable, result: StandIn | DamagedTable) -> None:
        housekeeping = self._housekeeping
        if isinstance(result, DamagedTable):
            housekeeping.quarantine(result.table_id, result.damage)
            self._forget_next()
            return
        table, missing = result
        if not missing <= self._given_up:
            lost.condemn(lost.damage)
            housekeeping.remove_files([housekeeping.directory / table_file_name(table.table_id)])
            self._forgetting.clear()
        elif housekeeping.is_replaced(lost.description):
            # It had been merged, soundly, just before a read found it damaged.
            housekeeping.remove_files([housekeeping.directory / table_file_name(table.table_id)])
            self._forgetting.discard(lost.description.table_id)
            self._forget_next()
        else:
            housekeeping.enqueue(
                Installation(
                    table,
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
        housekeeping.compaction.consider()
        self._forget_next()


class StandIn(NamedTuple):
    """A table to take the place of a damaged one."""

    table: BuiltTable
    missing: frozenset[int]
    """Partitions that lose keys by it."""


def build_stand_in(
    directory: Path,
    lost: TableDescription,
    lost_bloom: BloomFilter,
    older: Sequence[TableDescription],
    table_id: int,
    *,
    bloom_bits_per_key: int,
    on_step: OnStep,
) -> Generator[None, None, StandIn | DamagedTable]:
    """Make the table; `older` are the sound tables older than the lost one.

    Raises `sqlite3.Error`, `OSError`.
    """
    # Most keys of the older tables were not in the lost one, but how many were is not known.
    rows_max = lost.row_count + sum(d.row_count for d in older)
    bloom = BloomFilter.for_keys(rows_max, bloom_bits_per_key)
    with ExitStack() as stack:
        sources: list[SSTable] = []
        for description in older:
            source = SSTable(directory, description, bloom)
            source.open()
            stack.callback(source.close)
            sources.append(source)
        salvage = Salvage(directory, lost)
        markers = _markers(merge(sources, keep_markers=True), lost_bloom)
        batches = _in_batches(_united(salvage, markers))
        try:
            built = yield from build_table(
                directory, table_id, batches, bloom, steps=STEPS, on_step=on_step
            )
        except CorruptRecordError:
            for source in sources:
                if source.damage:
                    return DamagedTable(source.description.table_id, source.damage)
            raise
    return StandIn(built, frozenset(salvage.lost_partitions))


def _markers(batches: Iterator[Batch], lost: BloomFilter) -> Iterator[bytes]:
    """Places of older tables that the lost one may have had as well."""
    for places, _ in batches:
        yield from (place for place in places if lost.may_contain(hash_of(key_of(place))))


def _united(salvage: Salvage, markers: Iterator[bytes]) -> Iterator[tuple[bytes, bytes]]:
    """The salvaged records, and in the gaps between them the markers, in order."""
    marker = next(markers, None)
    for place, payload in salvage.rows():
        while marker is not None and marker < place:
            if salvage.is_lost(marker):
                yield marker, DROPPED_PAYLOAD
            marker = next(markers, None)
        if marker == place:
            marker = next(markers, None)
        yield place, payload
    while marker is not None:
        if salvage.is_lost(marker):
            yield marker, DROPPED_PAYLOAD
        marker = next(markers, None)


def _in_batches(entries: Iterator[tuple[bytes, bytes]]) -> Iterator[Batch]:
    while batch := list(islice(entries, BATCH_ROWS)):
        places, payloads = zip(*batch, strict=True)
        yield list(places), list(payloads)
