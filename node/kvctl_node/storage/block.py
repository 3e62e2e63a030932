"""Block: a few consecutive records of an SSTable, stored as one row.

One SQLite row per record would cost 2 µs to write; a block of about fifteen costs little more than
that. A get reads one block, so blocks are kept small enough to lie on one page.

    header   = msgpack [following, [place, ...], [end, ...], [checksum, ...]]
    records  = the encoded records (`record_codec`), one after another; `end` is where each ends
    checksum of a record: its CRC-32; of a header: its CRC-32, begun with the table's id

A *place* is partition and key in one byte string, the partition in front as four bytes, most
significant first: comparing places is comparing (partition, key). A get checks and decodes the
header and one record, so a damaged record does not take its neighbours with it; a merge decodes no
record at all.

`following` is the first place of the next block, empty in the last. It is what lets a single block
prove that a key is absent: a header whose checksum holds, that begins at or before the key and is
followed by a block that begins after it, lists the key if the table has it. A block read from the
wrong row, or from another table, is noticed the same way, however damaged the pages are by which
SQLite came to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from struct import Struct
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from kvctl_node.ports import Position

BLOCK_BYTES: Final = 3700
"""Aimed at: with the row's own overhead just within a page of 4096 bytes."""
_ENTRY_OVERHEAD_BYTES: Final = 10
_PARTITION = Struct(">I")
_PARTITION_BYTES: Final = _PARTITION.size

_pack_partition = _PARTITION.pack
_encode = msgspec.msgpack.Encoder().encode


class BlockHeader(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What a block holds, and where; all lists have one item per record."""

    following: bytes
    """The first place of the next block; empty in the last."""
    places: list[bytes]
    """In ascending order; never empty."""
    ends: list[int]
    checksums: list[int]


class Block(NamedTuple):
    """A block whose header is sound; its records are checked as they are taken out."""

    header: BlockHeader
    records: bytes

    def payload(self, at: int) -> bytes | None:
        """The encoded record of the place with this index; None if it is damaged."""
        header = self.header
        start = header.ends[at - 1] if at else 0
        payload = self.records[start : header.ends[at]]
        return payload if crc32(payload) == header.checksums[at] else None

    def payloads(self) -> list[bytes] | None:
        """All encoded records, in the order of their places; None if one is damaged."""
        header, records = self.header, self.records
        starts = [0, *header.ends]
        payloads = [records[a:b] for a, b in zip(starts, header.ends, strict=False)]
        return payloads if list(map(crc32, payloads)) == header.checksums else None


_decode_header = msgspec.msgpack.Decoder(BlockHeader).decode


def encode_block(
    following: bytes, places: Sequence[bytes], payloads: Sequence[bytes]
) -> tuple[bytes, bytes]:
    """Header and records of a block."""
    header = (following, places, list(accumulate(map(len, payloads))), list(map(crc32, payloads)))
    return _encode(header), b"".join(payloads)


def header_checksum(table_id: int, header: bytes) -> int:
    """The checksum of a header in a table."""
    return crc32(header, table_id)


def decode_block(header: bytes, records: bytes) -> Block:
    """A block whose header's checksum holds. Raises `msgspec.DecodeError`."""
    return Block(_decode_header(header), records)


def entries_per_block(places: Sequence[bytes], payloads: Sequence[bytes]) -> int:
    """How many of these entries make, on average, a block of `BLOCK_BYTES`; at least one."""
    size = sum(map(len, places)) + sum(map(len, payloads)) + _ENTRY_OVERHEAD_BYTES * len(places)
    return max(1, BLOCK_BYTES * len(places) // size)


def place_of(partition: int, key: bytes) -> bytes:
    """The place of a key."""
    return _pack_partition(partition) + key


def places_of(partition: int, keys: Sequence[bytes]) -> list[bytes]:
    """The places of several keys of one partition."""
    prefix = _pack_partition(partition)
    return [prefix + key for key in keys]


def key_of(place: bytes) -> bytes:
    """The key of a place."""
    return place[_PARTITION_BYTES:]


def position_of(place: bytes) -> Position:
    """Partition and key of a place."""
    return Position(int.from_bytes(place[:_PARTITION_BYTES], "big"), key_of(place))
