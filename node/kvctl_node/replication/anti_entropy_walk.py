"""The walk of a comparison: what is still to be asked, from the root down to the keys.

    root ─▶ groups ─▶ partitions ─▶ listed      parts of partitions, key by key
              └───────────┴───────▶ sparse      whole partitions, many to a message

Deepest level first, with queues of bounded size, so that comparing with an empty disk costs memory
for a page of keys, not for all of them.

Where many branches differ and this node has few keys in them, those are listed at once instead of
the hashes of what is below: a ring with little in it is compared, or rebuilt, for little more than
what is in it. A few differing keys are found by hashes alone, which costs the same among however
many.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import Any, NamedTuple

from kvctl_node.replication.merkle_pair import GROUP_PARTITIONS, MerkleLevel, PairTree
from kvctl_node.ring.key_hash import LEAVES_PER_PARTITION

GROUPS_PER_QUERY = 8
PARTITIONS_PER_QUERY = 8
SPARSE_BRANCHES_MIN = 4
"""Fewer differing groups, or partitions of one answer, are walked by their hashes."""
SPARSE_GROUP_KEYS_MAX = 16
"""With so few keys in a group, listing them costs less than the hashes of its 32 partitions."""
SPARSE_PARTITION_KEYS_MAX = 32
"""With so few keys in a partition, listing them costs less than its 64 leaf hashes."""
SPARSE_PARTITIONS_PER_QUERY = 64

ALL_LEAVES = (1 << LEAVES_PER_PARTITION) - 1


class Listed(NamedTuple):
    """A part of a partition still to be compared key by key."""

    partition: int
    leaves: int
    """Bit i stands for leaf i."""
    start: bytes


class Walk:
    """What one comparison still has to ask."""

    def __init__(self, pair: PairTree, *, from_root: bool) -> None:
        self.root = from_root
        self.all_groups = False
        self.groups: deque[int] = deque()
        self.partitions: deque[int] = deque()
        self.sparse: deque[int] = deque()
        """Partitions to be listed whole."""
        self.listed: deque[Listed] = deque()
        self._pair = pair

    def next_query(self) -> tuple[MerkleLevel, tuple[int, ...]] | None:
        """The level and parents to ask hashes of next; None if hashes are through."""
        if self.partitions:
            return MerkleLevel.LEAF, tuple(islice(self.partitions, PARTITIONS_PER_QUERY))
        if self.groups:
            return MerkleLevel.PARTITION, tuple(islice(self.groups, GROUPS_PER_QUERY))
        if self.all_groups:
            return MerkleLevel.GROUP, ()
        if self.root:
            return MerkleLevel.ROOT, ()
        return None

    def take_root(self, *, goes_on: bool) -> None:
        """The root was compared."""
        self.root = False
        self.all_groups = goes_on

    def take_groups(self, differing: Sequence[int], damage: Iterable[int]) -> None:
        """All groups were compared; those of damaged partitions are gone through in any case."""
        self.all_groups = False
        many = len(differing) >= SPARSE_BRANCHES_MIN
        for group in sorted({one // GROUP_PARTITIONS for one in damage}.union(differing)):
            below = self._pair.children(MerkleLevel.PARTITION, (group,))
            if many and self._is_sparse(below, SPARSE_GROUP_KEYS_MAX):
                self.sparse.extend(below)
            else:
                self.groups.append(group)

    def take_partitions(self, groups: int, found: Iterable[int]) -> None:
        """The partitions of the first so many groups were compared."""
        drop_left(self.groups, groups)
        partitions = sorted(found)
        many = len(partitions) >= SPARSE_BRANCHES_MIN
        for partition in partitions:
            if many and self._is_sparse((partition,), SPARSE_PARTITION_KEYS_MAX):
                self.sparse.append(partition)
            else:
                self.partitions.append(partition)

    def take_leaves(self, partition: int, differing: Iterable[int], *, whole: bool) -> int:
        """The leaves of a partition were compared; how many differ. `whole`: list all of it."""
        first = partition * LEAVES_PER_PARTITION
        leaves = 0
        for one in differing:
            if first <= one < first + LEAVES_PER_PARTITION:
                leaves |= 1 << (one - first)
        if leaves or whole:
            self.listed.append(Listed(partition, ALL_LEAVES if whole else leaves, b""))
        return leaves.bit_count()

    def list_whole(self, partitions: Iterable[int]) -> None:
        """These are gone through on their own, page by page."""
        self.listed.extend(Listed(one, ALL_LEAVES, b"") for one in partitions)

    def take_sparse(self) -> list[int]:
        """The partitions to be listed in the next message."""
        taken = list(islice(self.sparse, SPARSE_PARTITIONS_PER_QUERY))
        drop_left(self.sparse, len(taken))
        return taken

    def take_listed(self, next_key: bytes | None) -> None:
        """The first part was compared, up to a key that comes after its start (None: its end)."""
        part = self.listed.popleft()
        if next_key is not None and next_key > part.start:
            self.listed.appendleft(part._replace(start=next_key))

    def _is_sparse(self, partitions: Sequence[int], keys_max: int) -> bool:
        """Whether all of them can be read, and hold few keys together."""
        tree = self._pair.tree
        return tree.keys_in(partitions) <= keys_max and tree.damaged.isdisjoint(partitions)


def drop_left(queue: deque[Any], count: int) -> None:
    """Take that many items from the front, or all there are."""
    for _ in range(min(count, len(queue))):
        queue.popleft()
