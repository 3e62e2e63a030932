"""The partition map as bytes: compact, versioned, and one encoding only per map.

    offset  bytes    field (integers big-endian)
    0       1        format version, 1
    1       4        epoch, from 1
    5       16       hash of the previous map, zeros in epoch 1
    21      1        log2(Q)
    22      2        number of members M, 1 to 256
    24      1        N - 1
    25      …        M names, ascending: length (1 byte), then ASCII
    …       N·Q      for each partition the indices of its owners among the names, primary first
    end-4   4        MurmurHash3 (x86, 32 bits) of everything before

One byte per virtual node makes 3 KiB for 1024 partitions and N=3. The encoding is canonical (names
sorted, nothing optional), so the hash of the document identifies the map. The checksum catches
damage at rest and in transit; the checks behind it catch documents that were never valid.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import mmh3

from kvctl_node.config import NAME_PATTERN, NODES_MAX, PARTITIONS_MAX
from kvctl_node.errors import ProtocolError

FORMAT_VERSION = 1
HASH_BYTES = 16
NO_PREVIOUS = bytes(HASH_BYTES)
"""Stands where the hash of the previous map would, in the first map of a cluster."""

_HEADER = struct.Struct(">BI16sBHB")
_CHECKSUM = struct.Struct(">I")
_PARTITION_BITS_MAX = PARTITIONS_MAX.bit_length() - 1


class MapFields(NamedTuple):
    """The content of a partition map; see `PartitionMap` for the meaning of the fields."""

    epoch: int
    previous_hash: bytes
    members: tuple[str, ...]
    n: int
    owners: tuple[tuple[str, ...], ...]


def encode_map(fields: MapFields) -> bytes:
    """The canonical document of a well-formed map."""
    index = {name: position for position, name in enumerate(fields.members)}
    partition_bits = len(fields.owners).bit_length() - 1
    body = bytearray(
        _HEADER.pack(
            FORMAT_VERSION,
            fields.epoch,
            fields.previous_hash,
            partition_bits,
            len(fields.members),
            fields.n - 1,
        )
    )
    for name in fields.members:
        encoded = name.encode("ascii")
        body.append(len(encoded))
        body += encoded
    for row in fields.owners:
        body += bytes([index[owner] for owner in row])
    body += _CHECKSUM.pack(_checksum(bytes(body)))
    return bytes(body)


def decode_map(document: bytes) -> MapFields:
    """The fields of a document. Raises `ProtocolError` if it is not exactly one valid map."""
    body = _checked_body(bytes(document))
    _, epoch, previous_hash, partition_bits, member_count, n_less_one = _HEADER.unpack_from(body)
    n = n_less_one + 1
    if epoch < 1 or (epoch == 1) != (previous_hash == NO_PREVIOUS):
        raise _invalid(f"epoch {epoch} and its previous hash contradict each other")
    if partition_bits > _PARTITION_BITS_MAX:
        raise _invalid(f"2^{partition_bits} partitions are too many")
    if not n <= member_count <= NODES_MAX:
        raise _invalid(f"{n} replicas do not fit {member_count} members")
    members, start = _decode_members(body, member_count)
    owners = _decode_owners(body[start:], members, n, 1 << partition_bits)
    return MapFields(epoch, previous_hash, members, n, owners)


def _checked_body(document: bytes) -> bytes:
    """The document without its checksum, once version, length and checksum are right."""
    if len(document) < _HEADER.size + _CHECKSUM.size:
        raise _invalid(f"{len(document)} bytes are too few")
    if document[0] != FORMAT_VERSION:
        raise _invalid(f"its format version is {document[0]}, not {FORMAT_VERSION}")
    body = document[: -_CHECKSUM.size]
    if _CHECKSUM.unpack_from(document, len(body))[0] != _checksum(body):
        raise _invalid("its checksum does not match")
    return body


def _decode_members(body: bytes, count: int) -> tuple[tuple[str, ...], int]:
    """The member names, and the offset of the first byte after them."""
    offset = _HEADER.size
    names: list[str] = []
    for _ in range(count):
        if offset >= len(body):
            raise _invalid("it ends within the member names")
        length = body[offset]
        # Bytes that are not ASCII become characters that no name may have.
        name = body[offset + 1 : offset + 1 + length].decode("latin-1")
        if len(name) != length or not NAME_PATTERN.match(name):
            raise _invalid("a member name is malformed")
        if names and name <= names[-1]:
            raise _invalid("member names are not ascending")
        names.append(name)
        offset += 1 + length
    return tuple(names), offset


def _decode_owners(
    table: bytes, members: tuple[str, ...], n: int, partitions: int
) -> tuple[tuple[str, ...], ...]:
    """The owners of every partition; equal rows share one tuple."""
    if len(table) != n * partitions:
        raise _invalid(f"its table has {len(table)} bytes instead of {n * partitions}")
    rows: dict[bytes, tuple[str, ...]] = {}
    owners: list[tuple[str, ...]] = []
    for start in range(0, len(table), n):
        indices = table[start : start + n]
        row = rows.get(indices)
        if row is None:
            if max(indices) >= len(members) or len(frozenset(indices)) != n:
                raise _invalid(f"partition {start // n} has wrong owners")
            row = rows[indices] = tuple(members[index] for index in indices)
        owners.append(row)
    return tuple(owners)


def _checksum(body: bytes) -> int:
    return mmh3.mmh3_32_uintdigest(body)


def _invalid(reason: str) -> ProtocolError:
    return ProtocolError(f"The partition map document is invalid: {reason}.")
