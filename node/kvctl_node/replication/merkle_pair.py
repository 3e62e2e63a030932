"""The Merkle tree of a pair of nodes: it stands over the partitions that both of them own.

    ROOT        one hash
    GROUP       up to 32 neighbouring partitions
    PARTITION   64 leaves
    LEAF        the keys themselves

Both sides work out the same shape from the ring, so a level is asked for by naming parents, and
the children's hashes follow in order. A pair that is equal finds out by one hash.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import IntEnum

import mmh3

from kvctl_node.replication.merkle_tree import HASH_BYTES, MerkleTree
from kvctl_node.ring.key_hash import LEAVES_PER_PARTITION
from kvctl_node.ring.partition_map import PartitionMap

GROUP_PARTITIONS = 32


class MerkleLevel(IntEnum):
    """What the hashes of a query are hashes of."""

    ROOT = 0
    GROUP = 1
    PARTITION = 2
    LEAF = 3


def shared_partitions(partition_map: PartitionMap, left: str, right: str) -> tuple[int, ...]:
    """The partitions that both nodes own a replica of, ascending."""
    owners = partition_map.owners
    return tuple(index for index, row in enumerate(owners) if left in row and right in row)


class PairTree:
    """A view of one node's tree over the partitions it shares with another."""

    def __init__(self, tree: MerkleTree, partitions: tuple[int, ...]) -> None:
        self.tree = tree
        self.partitions = partitions
        self._groups: dict[int, list[int]] = {}
        for partition in partitions:
            self._groups.setdefault(partition // GROUP_PARTITIONS, []).append(partition)
        self._shared = frozenset(partitions)

    @property
    def ready(self) -> bool:
        """Whether all of it can be compared."""
        return self.tree.is_ready(self.partitions)

    @property
    def damaged(self) -> frozenset[int]:
        """Shared partitions that this node cannot read completely."""
        return self._shared & self.tree.damaged

    def root(self) -> bytes:
        """One hash over everything shared."""
        return mmh3.mmh3_x64_128_digest(b"".join(map(self._group_hash, self._groups)))

    def children(self, level: MerkleLevel, parents: Sequence[int]) -> list[int]:
        """The numbers of the nodes of a level below the given parents, in order.

        Parents this pair does not share are left out. Leaves are numbered
        64 * partition + leaf.
        """
        if level is MerkleLevel.ROOT:
            return [0]
        if level is MerkleLevel.GROUP:
            return list(self._groups)
        if level is MerkleLevel.PARTITION:
            return [one for group in parents for one in self._groups.get(group, ())]
        return [
            partition * LEAVES_PER_PARTITION + leaf
            for partition in parents
            if partition in self._shared
            for leaf in range(LEAVES_PER_PARTITION)
        ]

    def hashes(self, level: MerkleLevel, parents: Sequence[int]) -> bytes:
        """The hashes of `children(level, parents)`, 16 bytes each, in order."""
        if level is MerkleLevel.ROOT:
            return self.root()
        if level is MerkleLevel.LEAF:
            leaf_bytes = self.tree.leaf_bytes
            return b"".join(leaf_bytes(one) for one in parents if one in self._shared)
        hash_of = self._group_hash if level is MerkleLevel.GROUP else self.tree.partition_hash
        return b"".join(map(hash_of, self.children(level, parents)))

    def differing(self, level: MerkleLevel, parents: Sequence[int], theirs: bytes) -> list[int]:
        """Children whose hash is not the one at their place in `theirs`."""
        ours = self.hashes(level, parents)
        if ours == theirs:
            return []
        return [
            child
            for at, child in zip(_offsets(len(ours)), self.children(level, parents), strict=True)
            if ours[at : at + HASH_BYTES] != theirs[at : at + HASH_BYTES]
        ]

    def _group_hash(self, group: int) -> bytes:
        return mmh3.mmh3_x64_128_digest(
            b"".join(map(self.tree.partition_hash, self._groups[group]))
        )


def _offsets(length: int) -> Iterable[int]:
    return range(0, length, HASH_BYTES)
