"""The answering side of anti-entropy: it keeps no state, so any step may be lost and asked again.

Every question carries all it takes to answer it, and repairing is merging, which is idempotent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from kvctl_node.errors import CorruptRecordError, ProtocolError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.repair_messages import (
    MerkleKeys,
    MerkleKeysReply,
    MerkleQuery,
    MerkleReply,
    MerkleState,
    RepairKeys,
    RepairKeysReply,
)
from kvctl_node.replication.key_listing import KEYS_EXAMINED_MAX, list_keys, list_sparse, readable
from kvctl_node.replication.merkle_pair import MerkleLevel, PairTree
from kvctl_node.replication.merkle_tree import HASH_BYTES

REPAIR_BYTES_MAX = 1024 * 1024
"""Content in one repair message, at most, after its first copy."""


class AntiEntropyAnswers:
    """Answers the questions of other nodes' comparisons."""

    def __init__(self, state: NodeState, pair_with: Callable[[str], PairTree]) -> None:
        self._state = state
        self._pair_with = pair_with

    def handlers(self) -> dict[type, Callable[[str, Any, Instant], None]]:
        """Message type → handler."""
        return {
            MerkleQuery: self.on_merkle_query,
            MerkleKeys: self.on_merkle_keys,
            RepairKeys: self.on_repair_keys,
        }

    def _is_stale(self, deadline_ms: int, now: Instant) -> bool:
        return deadline_ms + self._state.timing.clock_skew_ms < now.wall_ms

    def on_merkle_query(self, sender: str, message: MerkleQuery, now: Instant) -> None:
        """Say which hashes differ from the asker's. Raises `ProtocolError`."""
        if self._is_stale(message.deadline_ms, now):
            return
        pair = self._pair_with(sender)
        if not pair.ready:
            self._state.outbox.send(sender, MerkleReply(message.id, MerkleState.BUILDING))
            return
        try:
            level = MerkleLevel(message.level)
        except ValueError as error:
            raise ProtocolError(f"{message.level} is no level of a Merkle tree.") from error
        children = pair.children(level, message.parents)
        if len(message.hashes) != HASH_BYTES * len(children):
            raise ProtocolError("the hashes do not fit the tree of this pair.")
        differing = pair.differing(level, message.parents, message.hashes)
        if level is MerkleLevel.PARTITION:
            # What this node cannot read it repairs as the asker, key by key.
            differing = [one for one in differing if one not in pair.damaged]
        replica = self._state.replica
        proven = replica.unproven.isdisjoint(pair.partitions) and not replica.doubted
        self._state.outbox.send(
            sender, MerkleReply(message.id, MerkleState.READY, tuple(differing), proven)
        )

    def on_merkle_keys(self, sender: str, message: MerkleKeys, now: Instant) -> None:
        """Say which keys differ: those listed, and those of the range the asker does not have."""
        if self._is_stale(message.deadline_ms, now):
            return
        unlisted: Sequence[int] = ()
        if message.sparse:
            differing, unlisted = self._differing_in_sparse(message, self._pair_with(sender))
            next_key = None
        elif message.partition < 0:
            differing, next_key = self._differing_of(message.entries), None
        elif message.partition in self._pair_with(sender).partitions:
            differing, next_key = self._differing_in_range(message)
        else:
            raise ProtocolError(f"partition {message.partition} is not shared with {sender}.")
        self._state.outbox.send(
            sender, MerkleKeysReply(message.id, tuple(differing), next_key, tuple(unlisted))
        )

    def _differing_in_sparse(
        self, message: MerkleKeys, pair: PairTree
    ) -> tuple[list[tuple[bytes, bytes]], list[int]]:
        if not set(message.sparse).issubset(pair.partitions):
            raise ProtocolError("a partition that is not shared cannot be compared.")
        listed, unlisted = list_sparse(self._state.storage, message.sparse, KEYS_EXAMINED_MAX)
        theirs: dict[int, dict[bytes, bytes]] = {}
        for key, digest in message.entries:
            theirs.setdefault(self._state.map.partition_of(key), {})[key] = digest
        differing = []
        for partition, entries in listed.items():
            unseen = theirs.pop(partition, {})
            differing += [one for one in entries if unseen.pop(one[0], b"") != one[1]]
            differing += [(key, b"") for key in unseen]
        return differing, unlisted

    def _differing_of(self, entries: tuple[tuple[bytes, bytes], ...]) -> list[tuple[bytes, bytes]]:
        state, differing = self._state, []
        for key, theirs in entries:
            record = readable(state.storage, state.map.partition_of(key), key)
            ours = b"" if record is None else record.digest
            if ours != theirs:
                differing.append((key, ours))
        return differing

    def _differing_in_range(
        self, message: MerkleKeys
    ) -> tuple[list[tuple[bytes, bytes]], bytes | None]:
        try:
            listing = list_keys(
                self._state.storage,
                message.partition,
                message.leaves,
                message.start,
                message.stop,
            )
        except CorruptRecordError:
            return self._differing_of(message.entries), None
        theirs = dict(message.entries)
        differing = []
        for key, digest in listing.entries:
            if theirs.pop(key, b"") != digest:
                differing.append((key, digest))
        end = listing.next_key
        differing += [(key, b"") for key in theirs if end is None or key < end]
        return differing, end

    def on_repair_keys(self, sender: str, message: RepairKeys, now: Instant) -> None:
        """Merge what came, durably with this turn, and answer with what the asker lacks."""
        if self._is_stale(message.deadline_ms, now):
            return
        state = self._state
        if not state.storage.accepts_writes():
            state.outbox.send(sender, RepairKeysReply(message.id, MerkleState.REFUSED))
            return
        copies: list[tuple[bytes, bytes, bytes]] = []
        deferred, changed, unproven = [], [], []
        size_bytes = 0
        for place, (key, content, recent) in enumerate(message.copies):
            partition = state.map.partition_of(key)
            if state.name not in state.map.owners[partition]:
                unproven.append(place)
                continue
            before = readable(state.storage, partition, key)
            record = before
            if content:
                record = state.replica.apply(partition, key, content, recent, b"")
                if before is None or before.digest != record.digest:
                    changed.append(place)
            if not state.replica.vouches_for(partition, key):
                unproven.append(place)
            if record is None or record.content == content:
                continue
            size_bytes += len(record.content)
            if copies and size_bytes > REPAIR_BYTES_MAX:
                deferred.append(key)
            else:
                copies.append((key, record.content, record.recent))
        state.outbox.send(
            sender,
            RepairKeysReply(
                message.id,
                MerkleState.READY,
                tuple(copies),
                tuple(deferred),
                tuple(changed),
                tuple(unproven),
            ),
        )
