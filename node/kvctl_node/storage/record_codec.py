"""How a record is written down, and how damage to it is noticed.

A record is kept as a *payload*: its msgpack encoding, or nil for a removal marker (a key whose copy
was dropped, so that older SSTables must not answer for it). Payloads meet the disk in two shapes,
both with a CRC-32, because SQLite itself keeps no checksums and would hand out flipped bits:

* **log batch**: everything one turn wrote, as one blob; its checksum covers its place in the log
  as well, so a batch that turns up in the wrong place is noticed too;
* **block**: some consecutive records of an SSTable, under a header that lists them (see `block`).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import Enum
from typing import Final
from zlib import crc32

import msgspec

from kvctl_node.errors import CorruptRecordError
from kvctl_node.ports import Hint, Record

LogEntry = tuple[int, bytes, Record | None]
"""(partition, key, record; None: the copy was dropped), as the commit log keeps it."""


HintChange = tuple[str, bytes, Hint | None]
"""(target, key, hint; None: it was deleted), as the commit log keeps it."""


class Absent(Enum):
    """The type of `ABSENT`."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT
"""This place says nothing about the key: look in the next older one. None says it was dropped."""

_ENCODER = msgspec.msgpack.Encoder()
_PAYLOAD_DECODER: msgspec.msgpack.Decoder[Record | None] = msgspec.msgpack.Decoder(Record | None)
_BATCH_DECODER = msgspec.msgpack.Decoder(tuple[list[LogEntry], list[HintChange]])
_LOG_PLACE = struct.Struct(">QQ")

encode_payload = _ENCODER.encode
"""Record | None -> payload."""

DROPPED_PAYLOAD: Final = encode_payload(None)


def decode_payload(payload: bytes) -> Record | None:
    """The record of a payload, None for a removal marker. Raises `CorruptRecordError`."""
    try:
        return _PAYLOAD_DECODER.decode(payload)
    except msgspec.DecodeError as error:
        raise CorruptRecordError(f"A stored record cannot be decoded: {error}.") from error


def encode_batch(entries: Sequence[LogEntry], hints: Sequence[HintChange]) -> bytes:
    """One turn's writes, in order, as one blob."""
    return _ENCODER.encode((entries, hints))


def batch_checksum(segment: int, sequence: int, batch: bytes) -> int:
    """The checksum of a log batch at its place."""
    return crc32(batch, crc32(_LOG_PLACE.pack(segment, sequence)))


def decode_batch(batch: bytes) -> tuple[list[LogEntry], list[HintChange]]:
    """The writes of one turn. Raises `CorruptRecordError`."""
    try:
        return _BATCH_DECODER.decode(batch)
    except msgspec.DecodeError as error:
        raise CorruptRecordError(f"A commit log batch cannot be decoded: {error}.") from error
