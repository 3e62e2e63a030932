"""Keys in partitions that a test chooses."""

from __future__ import annotations

from collections.abc import Iterable

from kvctl_node.ring.key_hash import hash_of
from kvctl_node.ring.placed_keys import PlacedKeys


def placed(places: Iterable[tuple[int, bytes]]) -> PlacedKeys:
    """These (partition, key) pairs as columns, with the keys' hashes."""
    rows = list(places)
    keys = [key for _, key in rows]
    return PlacedKeys(keys, list(map(hash_of, keys)), [partition for partition, _ in rows])
