"""What nodes say to each other to mend what replicas missed: hints going home, Merkle comparisons,
exchanges of keys, and the forgetting of tombstones.

`messages` has the rules that all messages keep.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec


class HandoffPut(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=100):
    """A hint goes home: merge this object into your copy, durably.

    Not after the deadline: another copy of the message may have come in time, and the tombstone
    that superseded the hint be forgotten since.
    """

    id: int
    key: bytes
    content: bytes
    recent: bytes
    deadline_ms: int


class HandoffAck(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=101):
    """Stored: everything that the object of `HandoffPut` `id` held is now on this disk."""

    id: int


class MerkleState(IntEnum):
    """Whether a node can take part in a comparison."""

    READY = 0
    BUILDING = 1
    """Its tree is not complete yet: ask again in a moment."""
    REFUSED = 2
    """It takes no writes now (disk full), so it cannot be repaired."""


class MerkleQuery(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=85):
    """Which of these hashes differ from yours? (`kvctl_node.replication.merkle_pair` has the
    levels.)"""

    id: int
    level: int
    parents: tuple[int, ...]
    hashes: bytes
    """Of all children of the parents, 16 bytes each, in order."""
    deadline_ms: int


class MerkleReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=86):
    """The numbers of the children that differ. `state` is a `MerkleState`."""

    id: int
    state: int
    differing: tuple[int, ...] = ()
    proven: bool = True
    """False: the replier is itself rebuilding something the two share."""


class MerkleKeys(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=87):
    """My (key, digest) pairs in some leaves of a partition, from `start` up to `stop`.

    `stop` None: to the end of the partition. Partition -1: only these keys are meant, wherever they
    lie; then nothing else is reported. With `sparse`: all I have in these partitions.
    """

    id: int
    partition: int
    leaves: int
    """Bit i stands for leaf i."""
    start: bytes
    stop: bytes | None
    entries: tuple[tuple[bytes, bytes], ...]
    deadline_ms: int
    sparse: tuple[int, ...] = ()


class MerkleKeysReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=88):
    """Keys that differ with the replier's digests (b"": no readable copy), before `next_key`."""

    id: int
    entries: tuple[tuple[bytes, bytes], ...]
    next_key: bytes | None
    """None: everything up to the `stop` asked for was compared."""
    unlisted: tuple[int, ...] = ()
    """Those of the `sparse` partitions that were not compared: the replier has too much in them."""


class RepairKeys(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=89):
    """Merge these (key, content, recent) copies, and send back what you have more.

    Empty content: the sender has no copy and asks for one.
    """

    id: int
    copies: tuple[tuple[bytes, bytes, bytes], ...]
    deadline_ms: int


class RepairKeysReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=90):
    """The replier's copies after the merge, where they are not what it was sent."""

    id: int
    state: int
    copies: tuple[tuple[bytes, bytes, bytes], ...] = ()
    deferred: tuple[bytes, ...] = ()
    """Keys whose copies did not fit: ask for them again."""
    changed: tuple[int, ...] = ()
    """Places in the request of the keys whose copy at the replier changed."""
    unproven: tuple[int, ...] = ()
    """Places of the keys of which the replier's copy, or having none, is no evidence."""


class ReapQuestion(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=91):
    """May the tombstones (key, digest) be forgotten, as far as you are concerned?"""

    id: int
    keys: tuple[tuple[bytes, bytes], ...]
    deadline_ms: int


class ReapAnswer(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=92):
    """One answer per key: a primary holds just that tombstone, and nobody anything else."""

    id: int
    clear: tuple[bool, ...]


class ReapOrder(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=93):
    """Drop the copies that still have these digests: every member cleared them twice."""

    id: int
    keys: tuple[tuple[bytes, bytes], ...]
    deadline_ms: int


class ReapDone(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=94):
    """Whether each key's copy is gone now."""

    id: int
    dropped: tuple[bool, ...]
