"""What a node holds in some Merkle leaves of a partition: the last step of a comparison.

Leaves are spread over a partition by hash while storage is sorted by key, so a listing reads the
partition in order, a bounded number of keys at a time, and keeps those of the leaves asked for.

Where a partition holds few keys, to list them costs less than to send its 64 leaf hashes: then
whole partitions are listed, many to a message.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from kvctl_node.errors import CorruptRecordError
from kvctl_node.ports import Position, Record, StorageEngine
from kvctl_node.ring.key_hash import leaf_of

KEYS_EXAMINED_MAX = 512
"""Keys read for one message."""
LISTING_BYTES_MAX = 4 * 1024 * 1024
"""Content read for one message, at most, after its first record."""


class Listing(NamedTuple):
    """(key, digest) pairs in key order, complete before `next_key` (None: the end asked for)."""

    entries: list[tuple[bytes, bytes]]
    next_key: bytes | None
    examined: int


def list_keys(
    storage: StorageEngine, partition: int, leaves: int, start: bytes, stop: bytes | None
) -> Listing:
    """The keys start <= key < stop in the leaves of the bit mask. Raises `CorruptRecordError`."""
    page = storage.scan(
        Position(partition, start),
        partition + 1,
        limit=KEYS_EXAMINED_MAX,
        bytes_max=LISTING_BYTES_MAX,
    )
    entries = [
        (entry.key, entry.record.digest)
        for entry in page.entries
        if (stop is None or entry.key < stop) and leaves >> leaf_of(entry.key) & 1
    ]
    next_key = None if page.next is None else page.next.key
    if next_key is not None and stop is not None and next_key >= stop:
        next_key = None
    return Listing(entries, next_key, len(page.entries))


def list_sparse(
    storage: StorageEngine, partitions: Sequence[int], keys_max: int
) -> tuple[dict[int, list[tuple[bytes, bytes]]], list[int]]:
    """All (key, digest) pairs of several partitions, as far as `keys_max` goes.

    Returns them by partition, and the partitions that were too full, or damaged.
    """
    listed: dict[int, list[tuple[bytes, bytes]]] = {}
    unlisted: list[int] = []
    left = keys_max
    for partition in partitions:
        try:
            page = storage.scan(
                Position(partition, b""), partition + 1, limit=left + 1, bytes_max=LISTING_BYTES_MAX
            )
        except CorruptRecordError:
            unlisted.append(partition)
            continue
        if page.next is not None or len(page.entries) > left:
            unlisted.append(partition)
            continue
        left -= len(page.entries)
        listed[partition] = [(entry.key, entry.record.digest) for entry in page.entries]
    return listed, unlisted


def readable(storage: StorageEngine, partition: int, key: bytes) -> Record | None:
    """The record, or None if there is none or it is damaged: a repair treats both the same."""
    try:
        return storage.get(partition, key)
    except CorruptRecordError:
        return None
