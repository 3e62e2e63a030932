"""The Merkle tree of one node: what it holds, summed up so that two nodes can compare by hashes.

Every partition has 64 leaves. A leaf is the XOR of a 128-bit hash of (key, digest) over all keys
that fall into it, so a write changes exactly one leaf, at the cost of two hashes, whatever else the
leaf holds. The digest of a record covers the causal context and all siblings, so equal leaves mean
equal versions. Inner nodes are computed when somebody asks (`merkle_pair`).

    partition  ──▶ hash of its 64 leaves, kept until one of them changes
      leaf     ──▶ XOR of MurmurHash3(digest + key), 128 bits
        key    ──▶ read from storage only once the leaf is known to differ

Leaves live in memory and are built from storage in the background, in slices (keeping them on disk
would cost every turn more than the rebuild costs once). While a partition is being read, writes
*before* the cursor are added to the draft as well; those after it are left out, because the scan is
going to see them. A full rebuild now and then reads every record's checksum: a damaged partition is
found that way long before anybody reads it.

Invariants: a built partition's leaves equal their recomputation from storage; a partition is built,
damaged, or in the queue to be built.

Source: Merkle, "A Digital Signature Based on a Conventional Encryption Function", CRYPTO 1987;
DeCandia et al., "Dynamo", SOSP 2007, section 4.7, for their use in anti-entropy.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import mmh3

from kvctl_node.errors import CorruptRecordError
from kvctl_node.ports import Position, Record, ScanPage, StorageEngine
from kvctl_node.ring.key_hash import LEAF_SHIFT, LEAVES_PER_PARTITION, leaf_of
from kvctl_node.ring.placed_keys import PlacedKeys

HASH_BYTES = 16
SLICE_BYTES_MAX = 1024 * 1024
"""Content read by one slice of a build, at most, after its first record."""

_NO_LEAVES = [0] * LEAVES_PER_PARTITION
_DAMAGED_HASH = b"\xff" * HASH_BYTES
_hash_of = mmh3.mmh3_x64_128_uintdigest


class PartitionLeaves:
    """The leaves of one partition, and how much is in it."""

    __slots__ = ("content_bytes", "hash", "keys", "leaves")

    def __init__(self) -> None:
        # One integer for each leaf, and a list: nothing else in Python takes a XOR as quickly.
        self.leaves = _NO_LEAVES.copy()
        self.keys = 0
        self.content_bytes = 0
        self.hash: bytes | None = None
        """Of all leaves; None when one of them changed since."""

    def swap(self, key: bytes, old: Record | None, new: Record | None) -> None:
        """Take the old record of a key out of its leaf and put the new one in. HOT PATH."""
        change = 0
        if old is None:
            self.keys += 1
            self.content_bytes += len(key)
        else:
            change = _hash_of(old.digest + key)
            self.content_bytes -= len(old.content)
        if new is None:
            self.keys -= 1
            self.content_bytes -= len(key)
        else:
            change ^= _hash_of(new.digest + key)
            self.content_bytes += len(new.content)
        self.leaves[leaf_of(key)] ^= change
        self.hash = None


def _to_bytes(leaves: list[int]) -> bytes:
    """The 64 leaves, 16 bytes each, the same on every machine."""
    return b"".join([leaf.to_bytes(HASH_BYTES, "little") for leaf in leaves])


_EMPTY_HASH = mmh3.mmh3_x64_128_digest(_to_bytes(_NO_LEAVES))


class MerkleTree:
    """The leaves of all partitions a node holds anything of."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self.damaged: set[int] = set()
        """Partitions whose records cannot all be read."""
        self.drifted: list[int] = []
        """Partitions that a rebuild found to differ from what their leaves said; for events."""
        self.reads_begun = 0
        """Times that reading everything was begun, for rebuilds of all partitions."""
        self.last_read = 0
        """The number of the last of them that was ended."""
        self._leaves: list[PartitionLeaves | None] = [None] * partitions
        """By partition; None where nothing is held, or nothing is known."""
        self._built = bytearray(partitions)
        self._unbuilt = partitions
        self._queue: deque[tuple[int, int]] = deque()
        self._reads_all = False
        """The range being read is everything."""
        self._cursor: Position | None = None
        """Where the build goes on; everything before it, within the range, was read."""
        self._stop = 0
        self._draft = PartitionLeaves()
        self._draft_partition = -1
        self._draft_key = b""

    # ------------------------------------------------------------ writes

    def on_change(self, partition: int, key: bytes, old: Record | None, new: Record | None) -> None:
        """A copy is replaced, made (`old` None) or dropped (`new` None), in this very turn."""
        if old is not None and new is not None and old.digest == new.digest:
            return
        leaves = self._leaves[partition]
        if leaves is not None:
            leaves.swap(key, old, new)
        elif self._built[partition]:
            leaves = self._leaves[partition] = PartitionLeaves()
            leaves.swap(key, old, new)
        if partition == self._draft_partition and key < self._draft_key:
            self._draft.swap(key, old, new)

    def on_new(self, placed: PlacedKeys, records: Sequence[Record]) -> None:
        """Copies of different keys are made, in this very turn, where there were none. HOT PATH."""
        keys, hashes, partitions = placed
        if self._unbuilt or self._draft_partition in partitions:
            for partition, key, record in zip(partitions, keys, records, strict=True):
                self.on_change(partition, key, None, record)
            return
        known = self._leaves
        rows = zip(partitions, keys, hashes, records, strict=True)
        for partition, key, (_, second), record in rows:
            leaves = known[partition]
            if leaves is None:
                leaves = known[partition] = PartitionLeaves()
            leaves.leaves[second >> LEAF_SHIFT] ^= _hash_of(record.digest + key)
            leaves.hash = None
            leaves.keys += 1
            leaves.content_bytes += len(key) + len(record.content)

    def on_lost(self, partition: int) -> None:
        """A record of the partition is damaged: its part of the leaf is unknown, read all again."""
        self._forget(partition)
        if partition == self._draft_partition:
            self._begin_at(Position(partition, b""))
        else:
            self.rebuild(partition, partition + 1)

    # ------------------------------------------------------------ building

    def rebuild(self, first: int, stop: int) -> None:
        """Queue the partitions first <= p < stop; what was built of them stays in use meanwhile."""
        if (first, stop) not in self._queue:
            self._queue.append((first, stop))

    @property
    def building(self) -> bool:
        """Whether `build_slice` has something to do."""
        return self._cursor is not None or bool(self._queue)

    def build_slice(self, storage: StorageEngine, keys_max: int) -> None:
        """Read at most `keys_max` records on, and install the partitions that are complete."""
        if self._cursor is None:
            if not self._queue:
                return
            first, self._stop = self._queue.popleft()
            self._reads_all = (first, self._stop) == (0, self.partitions)
            self.reads_begun += self._reads_all
            self._begin_at(Position(first, b""))
        assert self._cursor is not None
        page = self._read(storage, self._cursor, keys_max)
        if page is None:
            self._give_up_partition()
            return
        for entry in page.entries:
            self._advance_to(entry.partition)
            self._draft.swap(entry.key, None, entry.record)
        if page.next is None:
            self._finish_range()
        else:
            self._advance_to(page.next.partition)
            self._cursor = page.next
            self._draft_key = page.next.key

    def _read(self, storage: StorageEngine, cursor: Position, keys_max: int) -> ScanPage | None:
        """A page from the cursor on; None if the cursor's own partition is damaged."""
        try:
            return storage.scan(cursor, self._stop, limit=keys_max, bytes_max=SLICE_BYTES_MAX)
        except CorruptRecordError:
            after = cursor.partition + 1
        # The damage may lie in a later partition: read this one alone.
        try:
            page = storage.scan(cursor, after, limit=keys_max, bytes_max=SLICE_BYTES_MAX)
        except CorruptRecordError:
            return None
        if page.next is None and after < self._stop:
            return ScanPage(page.entries, Position(after, b""))
        return page

    def _begin_at(self, cursor: Position) -> None:
        self._cursor = cursor
        self._draft = PartitionLeaves()
        self._draft_partition, self._draft_key = cursor

    def _advance_to(self, partition: int) -> None:
        """Everything before `partition` was read: install the draft and the empty ones after it."""
        if partition == self._draft_partition:
            return
        self._install(self._draft_partition, self._draft)
        for empty in range(self._draft_partition + 1, partition):
            self._install(empty, None)
        self._draft = PartitionLeaves()
        self._draft_partition, self._draft_key = partition, b""

    def _finish_range(self) -> None:
        self._advance_to(self._stop)
        self._end_range()

    def _end_range(self) -> None:
        self._cursor = None
        self._draft_partition = -1
        if self._reads_all:
            self.last_read = self.reads_begun

    def _give_up_partition(self) -> None:
        """The partition at the cursor cannot be read: it is damaged, go on after it."""
        partition = self._draft_partition
        self._forget(partition)
        self.damaged.add(partition)
        if partition + 1 == self._stop:
            self._end_range()
        else:
            self._begin_at(Position(partition + 1, b""))

    def _install(self, partition: int, draft: PartitionLeaves | None) -> None:
        if draft is not None and not draft.keys:
            draft = None
        if self._built[partition]:
            before = self._leaves[partition]
            if (before.leaves if before else _NO_LEAVES) != (draft.leaves if draft else _NO_LEAVES):
                self.drifted.append(partition)
        else:
            self._built[partition] = 1
            self._unbuilt -= 1
        self._leaves[partition] = draft
        self.damaged.discard(partition)

    def _forget(self, partition: int) -> None:
        self._leaves[partition] = None
        if self._built[partition]:
            self._built[partition] = 0
            self._unbuilt += 1

    # ------------------------------------------------------------ reading

    def is_ready(self, partitions: tuple[int, ...]) -> bool:
        """Whether every one of them was built, or is known to be damaged."""
        if not self._unbuilt:
            return True
        return all(self._built[one] or one in self.damaged for one in partitions)

    def unbuilt(self) -> frozenset[int]:
        """Partitions that are damaged, or of which it is not known whether they are."""
        if not self._unbuilt:
            return frozenset()
        return frozenset(one for one in range(self.partitions) if not self._built[one])

    def partition_hash(self, partition: int) -> bytes:
        """Hash of the partition's leaves, 16 bytes; equal to no other while it is damaged."""
        if partition in self.damaged:
            return _DAMAGED_HASH
        leaves = self._leaves[partition]
        if leaves is None:
            return _EMPTY_HASH
        if leaves.hash is None:
            leaves.hash = mmh3.mmh3_x64_128_digest(_to_bytes(leaves.leaves))
        return leaves.hash

    def leaf_bytes(self, partition: int) -> bytes:
        """The 64 leaves of a partition, 16 bytes each."""
        leaves = self._leaves[partition]
        return _to_bytes(_NO_LEAVES if leaves is None else leaves.leaves)

    def content_bytes(self, partitions: tuple[int, ...]) -> int:
        """Bytes of keys and contents in these partitions: what a full copy would have to move."""
        return sum(one.content_bytes for one in self._held(partitions))

    def keys_in(self, partitions: Iterable[int]) -> int:
        """Keys in these partitions, as far as they were built."""
        return sum(one.keys for one in self._held(partitions))

    def key_count(self) -> int:
        """Keys in all partitions built so far."""
        return self.keys_in(range(self.partitions))

    def _held(self, partitions: Iterable[int]) -> Iterator[PartitionLeaves]:
        """The leaves of those of these partitions in which something is held."""
        for partition in partitions:
            leaves = self._leaves[partition]
            if leaves is not None:
                yield leaves

    def check_invariants(self, storage: StorageEngine) -> None:
        """Assert that built partitions equal their recomputation; reads everything, for tests."""
        assert self._unbuilt == self.partitions - sum(self._built)
        assert all(
            built or held is None for built, held in zip(self._built, self._leaves, strict=True)
        )
        fresh = MerkleTree(self.partitions)
        fresh.rebuild(0, self.partitions)
        while fresh.building:
            fresh.build_slice(storage, 1024)
        for partition in range(self.partitions):
            if self._built[partition] and partition not in fresh.damaged:
                assert self.partition_hash(partition) == fresh.partition_hash(partition)
                assert self.content_bytes((partition,)) == fresh.content_bytes((partition,))
                assert self.keys_in((partition,)) == fresh.keys_in((partition,))
