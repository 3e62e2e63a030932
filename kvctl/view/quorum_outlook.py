"""What can still be read and written, given who can work with whom.

Pure arithmetic over the partition map. A **side** is a set of nodes that reach each other. A
coordinator on that side fills the N slots of a key as the store does: strict, only the primaries it
reaches; sloppy, each missing primary is replaced by the next reachable node clockwise, so that as
many slots are filled as there are nodes, up to N. Then

* a write needs W filled slots, else it answers `unavailable`;
* a read is answered for every key if R primaries are reachable; with fewer, but R slots filled, it
  is answered only as far as stand-ins hold the key: a stand-in without it is no evidence.

Only *how many* primaries of a partition are on a side matters, so partitions with the same owners
are counted together, and a whole ring costs as much as it has distinct rows.

Source of the slot rule: DeCandia et al., "Dynamo", SOSP 2007, sections 4.5 and 4.6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple

from kvctl_node.config import QuorumConfig
from kvctl_node.ring.partition_map import PartitionMap


class Reads(IntEnum):
    """How far a range can be read; a higher one includes the lower."""

    NONE = 0
    STAND_INS = 1
    """Only keys that enough stand-ins hold."""
    ALL = 2


class Service(IntEnum):
    """A range in one word; a higher one is better."""

    NO_WRITE_QUORUM = 0
    DEGRADED = 1
    """Writes go on, without some primary."""
    FULL = 2


class SideOutlook(NamedTuple):
    """What the nodes of one side can do, in partitions."""

    nodes: frozenset[str]
    full: int
    """All N primaries are here."""
    degraded: int
    """Writes are taken, though some primary is missing."""
    no_write: int
    reads: int
    """Every key can be read."""
    reads_stand_ins: int
    """Only what stand-ins hold can be read."""
    no_read: int

    @property
    def partitions(self) -> int:
        """All partitions."""
        return self.full + self.degraded + self.no_write


def slots_filled(owners: Collection[str], side: Collection[str], quorum: QuorumConfig) -> int:
    """How many of the N slots of a partition a coordinator on this side can fill."""
    primaries = sum(name in side for name in owners)
    if quorum.mode == "strict":
        return primaries
    return min(len(owners), len(side))


def service_of(owners: Collection[str], side: Collection[str], quorum: QuorumConfig) -> Service:
    """What this side can do for a partition with these owners."""
    if slots_filled(owners, side, quorum) < quorum.w:
        return Service.NO_WRITE_QUORUM
    return Service.FULL if all(name in side for name in owners) else Service.DEGRADED


def reads_of(owners: Collection[str], side: Collection[str], quorum: QuorumConfig) -> Reads:
    """How far this side can read a partition with these owners."""
    if sum(name in side for name in owners) >= quorum.r:
        return Reads.ALL
    return Reads.STAND_INS if slots_filled(owners, side, quorum) >= quorum.r else Reads.NONE


@lru_cache(maxsize=4)
def _rows(ring: PartitionMap) -> tuple[tuple[frozenset[str], int], ...]:
    """The distinct sets of owners, with how many partitions each owns."""
    return tuple(Counter(frozenset(row) for row in ring.owners).items())


def side_outlook(ring: PartitionMap, quorum: QuorumConfig, side: Iterable[str]) -> SideOutlook:
    """What one side can do."""
    nodes = frozenset(side)
    service: Counter[Service] = Counter()
    reads: Counter[Reads] = Counter()
    for owners, count in _rows(ring):
        service[service_of(owners, nodes, quorum)] += count
        reads[reads_of(owners, nodes, quorum)] += count
    return SideOutlook(
        nodes,
        service[Service.FULL],
        service[Service.DEGRADED],
        service[Service.NO_WRITE_QUORUM],
        reads[Reads.ALL],
        reads[Reads.STAND_INS],
        reads[Reads.NONE],
    )


def sides_of(reach: Mapping[str, frozenset[str]]) -> tuple[frozenset[str], ...]:
    """The distinct sides nodes find themselves on, largest first.

    `reach` names, for each node, those it can work with. After a clean cut these are disjoint; with
    one-way cuts and bridges they overlap, and each is somebody's side.
    """
    return tuple(sorted(set(reach.values()), key=lambda side: (-len(side), sorted(side))))


class ClusterOutlook(NamedTuple):
    """The ring as a whole: for each partition the best any client can have, in partitions."""

    full: int
    degraded: int
    no_write: int
    no_read: int
    """Not a single key of theirs can be read for sure."""
    sides: tuple[SideOutlook, ...]


def cluster_outlook(
    ring: PartitionMap, quorum: QuorumConfig, reach: Mapping[str, frozenset[str]]
) -> ClusterOutlook:
    """What clients that may talk to any living node can have."""
    return _outlook_of_sides(ring, quorum, sides_of(reach))


@lru_cache(maxsize=64)
def _outlook_of_sides(
    ring: PartitionMap, quorum: QuorumConfig, sides: tuple[frozenset[str], ...]
) -> ClusterOutlook:
    """Remembered: whoever watches asks several times a second, and the answer rarely changes."""
    service: Counter[Service] = Counter()
    no_read = 0
    for owners, count in _rows(ring):
        best = max(
            (service_of(owners, side, quorum) for side in sides), default=Service.NO_WRITE_QUORUM
        )
        service[best] += count
        if not any(reads_of(owners, side, quorum) is Reads.ALL for side in sides):
            no_read += count
    return ClusterOutlook(
        service[Service.FULL],
        service[Service.DEGRADED],
        service[Service.NO_WRITE_QUORUM],
        no_read,
        tuple(side_outlook(ring, quorum, side) for side in sides),
    )


def describe_side(side: SideOutlook) -> str:
    """One sentence: what people on this side will notice."""
    names = ",".join(sorted(side.nodes)) or "nobody"
    total = side.partitions
    writes = _part(total - side.no_write, total, "writes")
    if side.degraded and not side.no_write:
        writes += f", {_percent(side.degraded, total)} of them without some owner"
    reads = _part(side.reads, total, "reads")
    if side.reads_stand_ins:
        reads += f", {_percent(side.reads_stand_ins, total)} only what stand-ins hold"
    return f"{names}: {writes}; {reads}."


def _part(count: int, total: int, what: str) -> str:
    if count == total:
        return f"{what} everywhere"
    if not count:
        return f"no {what}"
    return f"{what} in {_percent(count, total)} of the ring"


def _percent(count: int, total: int) -> str:
    """Never 0 % of something, nor 100 % of less than all."""
    share = round(100 * count / total)
    if count:
        share = max(share, 1)
    return f"{min(share, 99) if count < total else share} %"
