"""Observations: "I miss the heartbeat of that member, in that generation", packed into bytes.

They are a value in the observer's own record (`StateKey.ACCUSED`), so they carry its name, whoever
passes them on. 12 bytes each: member id, 8; generation, 4; big-endian, in the order of ids, so that
equal sets are equal bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping

from kvctl_node.errors import ProtocolError

_OBSERVATION = struct.Struct(">QI")


def encode_accused(accused: Mapping[int, int]) -> bytes:
    """Member id → generation, as it travels."""
    return b"".join([_OBSERVATION.pack(member, accused[member]) for member in sorted(accused)])


def decode_accused(data: bytes) -> dict[int, int]:
    """The reverse of `encode_accused`. Raises `ProtocolError`."""
    if len(data) % _OBSERVATION.size:
        raise ProtocolError("a list of accused members ends in the middle of an entry.")
    return dict(_OBSERVATION.iter_unpack(data))
