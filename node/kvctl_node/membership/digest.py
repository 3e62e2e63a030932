"""Digests: how much a node knows of each member, packed into bytes.

Each member takes 20 bytes, whatever the length of its name:

    +-----------+------------+-----------+---------+
    | member id | generation | heartbeat | version |   big-endian
    |  8 bytes  |  4 bytes   |  4 bytes  | 4 bytes |
    +-----------+------------+-----------+---------+
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple

from kvctl_node.errors import ProtocolError
from kvctl_node.membership.member import Member

_ENTRY = struct.Struct(">QIII")

ENTRY_BYTES = _ENTRY.size


class DigestEntry(NamedTuple):
    """How much somebody knows of a member; generation 0 means nothing."""

    member: int
    generation: int
    heartbeat: int
    version: int


def encode_digest(members: Iterable[Member]) -> bytes:
    """One entry for each member, in the given order."""
    pack = _ENTRY.pack
    return b"".join([pack(one.id, one.generation, one.heartbeat, one.version) for one in members])


def encode_entries(entries: Iterable[DigestEntry]) -> bytes:
    """The reverse of `decode_digest`."""
    return b"".join([_ENTRY.pack(*entry) for entry in entries])


def decode_digest(data: bytes) -> list[DigestEntry]:
    """Raises `ProtocolError` if the length is not that of whole entries."""
    if len(data) % _ENTRY.size:
        raise ProtocolError("a gossip digest ends in the middle of an entry.")
    return [DigestEntry._make(entry) for entry in _ENTRY.iter_unpack(data)]
