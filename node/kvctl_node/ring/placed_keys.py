"""Keys that are handled together, column by column, and where each of them falls.

The hash of a key decides its partition, its Merkle leaf, and its bits in every Bloom filter. It is
computed once for each, by `PartitionMap.placed`, and goes along with the key.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from kvctl_node.ring.key_hash import KeyHash


class PlacedKeys(NamedTuple):
    """Columns of equal length."""

    keys: Sequence[bytes]
    hashes: Sequence[KeyHash]
    partitions: Sequence[int]

    def at(self, indices: Collection[int]) -> PlacedKeys:
        """The keys with these indices, in this order."""
        keys, hashes, partitions = self
        return PlacedKeys(
            [keys[at] for at in indices],
            [hashes[at] for at in indices],
            [partitions[at] for at in indices],
        )
