"""A node's own copies: reading them, merging into them, and minting new versions.

Everything here happens inside one turn of the loop and becomes durable with the turn's commit,
before any message that speaks of it leaves the node.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from kvctl_node.causality.causal_context import CausalContext, Dot
from kvctl_node.causality.one_write import basis_of
from kvctl_node.causality.recent_requests import (
    NO_REQUESTS,
    Applied,
    RecentRequests,
    decode_recent,
    encode_recent,
    fingerprint_of,
)
from kvctl_node.causality.siblings import (
    EMPTY_OBJECT,
    Sibling,
    StoredObject,
    decode_object,
    digest_of,
    encode_object,
    end_with_their_requests,
    has_ended,
    merge_objects,
    put_version,
    replace_version,
)
from kvctl_node.causality.truncation import truncate_context
from kvctl_node.config import LimitsConfig, TimingConfig
from kvctl_node.errors import CorruptRecordError, OverloadedError, RebuildingError
from kvctl_node.identity import NodeIdentity
from kvctl_node.outbox import Outbox
from kvctl_node.ports import Record, StorageEngine
from kvctl_node.replication.doubted_copies import DoubtedCopies
from kvctl_node.replication.merkle_tree import MerkleTree
from kvctl_node.replication.shared_copies import SharedCopies

FORGET_FROM = 8
"""Shorter memories are left as they are: forgetting takes longer than keeping."""


class Minted(msgspec.Struct, frozen=True, gc=False):
    """A new version, stored locally and ready to be replicated."""

    record: Record
    dot: Dot
    base: bytes
    """Digest of the copy it was built on, b"" if there was none."""
    base_recent: int
    """Fingerprint of the requests which that copy remembered, 0 for none."""
    siblings: int
    answer: CausalContext
    """What the client may be told it has seen: what its put superseded, and the new dot."""


class Copy(NamedTuple):
    """The copy of a key, as read and decoded in this very turn."""

    record: Record | None
    stored: StoredObject


class Replica:
    """The copies this node holds."""

    def __init__(
        self,
        storage: StorageEngine,
        identity: NodeIdentity,
        limits: LimitsConfig,
        timing: TimingConfig,
        outbox: Outbox,
        merkle: MerkleTree,
    ) -> None:
        self.storage = storage
        self.merkle = merkle
        """Told of every change of a copy, in the turn that makes it."""
        self.unproven: set[int] = set()
        """Owned partitions whose missing keys prove nothing (`kvctl_node.replication.rebuild`)."""
        self.doubted = DoubtedCopies(storage)
        """Keys whose copy replaced a damaged one and proves nothing yet."""
        self._identity = identity
        self._limits = limits
        self._timing = timing
        self._outbox = outbox
        self.shared = SharedCopies()
        """What all primaries were seen to hold."""
        self.conflicted: set[bytes] = set()
        """Keys known to have more than one sibling here."""

    def read(self, partition: int, key: bytes) -> Record | None:
        """The copy, or None; raises `CorruptRecordError`, which is no evidence of absence.

        A key missing while the node is rebuilding is none either: `RebuildingError`.
        """
        try:
            record = self.storage.get(partition, key)
        except CorruptRecordError:
            if partition not in self.merkle.damaged:
                self.merkle.on_lost(partition)  # which is how anti-entropy learns of it
            raise
        if record is None and partition in self.unproven:
            raise RebuildingError("this node has not got back all of what it once held.")
        return record

    @property
    def all_evident(self) -> bool:
        """Whether every copy here, and every missing one, is evidence."""
        return not (self.unproven or self.doubted)

    def is_evidence(self, partition: int, key: bytes) -> bool:
        """Whether the copy, if there is one, tells all that this node ever acknowledged."""
        if self.unproven and partition in self.unproven:
            return False
        doubted = self.doubted
        return not (doubted.whole and key in doubted.whole) and not doubted.overflowed

    def vouches_for(self, partition: int, key: bytes) -> bool:
        """Whether what this owner holds of a key, nothing included, is evidence."""
        if not self.is_evidence(partition, key):
            return False
        try:
            self.storage.get(partition, key)
        except CorruptRecordError:
            return False
        return True

    def apply(
        self,
        partition: int,
        key: bytes,
        content: bytes,
        recent: bytes,
        base: bytes = b"",
        base_recent: int = 0,
    ) -> Record:
        """Merge another replica's object into the copy; returns the copy as it is now.

        A copy whose digest is `base` is in the very state that the coordinator's put started from,
        so the put's result is taken as it is; and so are the requests it remembers, if theirs is
        `base_recent`. Raises `ProtocolError` on bytes that are no object.
        """
        local = self._read_or_lose(partition, key)
        return self.merge_into(local, partition, key, content, recent, base, base_recent)

    def merge_into(
        self,
        local: Record | None,
        partition: int,
        key: bytes,
        content: bytes,
        recent: bytes,
        base: bytes,
        base_recent: int,
    ) -> Record:
        """`apply`, for a caller that has just read the copy: `local`."""
        if local is not None and local.content == content:
            merged, merged_content, digest = None, content, local.digest
        elif local is None or local.digest == base:
            merged, merged_content, digest = decode_object(content), content, digest_of(content)
        else:
            requests = self._union_of(local.recent, recent)
            merged = merge_objects(
                decode_object(local.content), decode_object(content), requests.applied
            )
            merged_content = encode_object(merged)
            digest = digest_of(merged_content)
        if local is None:
            decode_recent(recent)
            record = Record(merged_content, digest, recent)
        else:
            if base_recent and fingerprint_of(local.recent) == base_recent:
                decode_recent(recent)
                merged_recent = recent
            else:
                merged_recent = self._merge_recent(local.recent, recent)
            if digest == local.digest and merged_recent == local.recent:
                return local
            record = Record(merged_content, digest, merged_recent, local.my_actor)
        if merged is not None:
            self._store(partition, key, local, record, len(merged.siblings))
        else:
            self.storage.put(partition, key, record)  # other requests, of the same versions
        return record

    def mint(
        self,
        partition: int,
        key: bytes,
        value: bytes | None,
        *,
        seen: CausalContext | None,
        request: tuple[int, int],
        stamp_ms: int,
        copy: Copy | None = None,
        attempt: int = 0,
    ) -> Minted:
        """Coordinate a put on the local copy. `seen` None: everything the copy has seen.

        `copy`: the local copy, from a caller that has read it just now.

        Raises `OverloadedError` (nothing stored) if it would have too many siblings, or too large.
        """
        if copy is None:
            local = self._read_or_lose(partition, key)
            stored = EMPTY_OBJECT if local is None else decode_object(local.content)
        else:
            local, stored = copy
        if local is None:
            actor, base, base_recent = self._identity.actor, b"", 0
        else:
            actor = self._identity.actor_of(local.my_actor)
            base, base_recent = local.digest, fingerprint_of(local.recent)
        superseded = stored.context if seen is None else seen
        minted, dot = put_version(
            stored,
            value,
            actor=actor,
            seen=superseded,
            stamp_ms=stamp_ms,
            request=request,
            attempt=attempt,
        )
        if local is not None and len(minted.siblings) > 1:
            minted = end_with_their_requests(minted, decode_recent(local.recent).applied)
        if len(minted.siblings) > self._limits.siblings_max:
            raise OverloadedError(
                f"the key already has {len(stored.siblings)} siblings.",
                hint="kvctl resolve KEY shows them; settle them first.",
            )
        if len(minted.siblings) > 1:
            self._check_size(minted)
        if len(minted.context.vector) > self._limits.clock_entries:
            minted = self._truncate(key, minted, actor, base)
        applied = (stamp_ms, *request, *dot, attempt, basis_of(superseded))
        record = self._keep(partition, key, local, minted, applied, actor)
        if superseded is stored.context:
            answer = minted.context
        else:
            answer = superseded.with_dot(*dot, stamp_ms)
        return Minted(record, dot, base, base_recent, len(minted.siblings), answer)

    def _check_size(self, minted: StoredObject) -> None:
        """Raises `OverloadedError` for a record that would not fit into a frame with others."""
        size_bytes, most_bytes = len(encode_object(minted)), self._limits.record_bytes_max
        if size_bytes > most_bytes:
            raise OverloadedError(
                f"the key's {len(minted.siblings)} siblings would have {size_bytes} bytes; "
                f"the limit is {most_bytes}.",
                hint="kvctl resolve KEY shows them; settle them first.",
            )

    def _keep(
        self,
        partition: int,
        key: bytes,
        local: Record | None,
        minted: StoredObject,
        applied: Applied,
        actor: str,
    ) -> Record:
        """Store a minted object in the place of the copy `local`, and remember its request."""
        before = NO_REQUESTS if local is None else decode_recent(local.recent)
        settled = self.shared.settled_requests(key) if len(before.applied) >= FORGET_FROM else ()
        remembered = before.with_request(
            applied,
            entries_max=self._limits.recent_requests_max,
            retry_window_ms=self._timing.retry_window_ms,
            settled=settled,
        )
        forgotten = len(before.applied) + 1 - len(remembered.applied)
        if forgotten > len(settled):
            self._outbox.record(
                "requests_forgotten", key=key.decode("utf-8", "replace"), count=forgotten
            )
        content = encode_object(minted)
        record = Record(content, digest_of(content), encode_recent(remembered), actor)
        self._store(partition, key, local, record, len(minted.siblings))
        return record

    def _store(
        self, partition: int, key: bytes, local: Record | None, record: Record, siblings: int
    ) -> None:
        """Put a record in the place of the copy `local`."""
        if siblings > 1 or self.conflicted:
            self.note_siblings(key, siblings)
        self.storage.put(partition, key, record)
        self.merkle.on_change(partition, key, local, record)

    def replace(
        self,
        partition: int,
        key: bytes,
        *,
        dot: Dot,
        known: StoredObject,
        seen: CausalContext,
        request: tuple[int, int],
        stamp_ms: int,
    ) -> Minted | None:
        """Give a write of this copy, known as `dot`, a second dot that supersedes `known` as well.

        `seen`: what the client may be told it has seen so far. None if the write was superseded
        meanwhile, here or in `known`.
        """
        local = self._read_or_lose(partition, key)
        if local is None:
            return None
        stored = decode_object(local.content)
        if dot not in [one.dot for one in stored.siblings] or has_ended(known, dot):
            return None
        replaced, second = replace_version(stored, dot, known, stamp_ms=stamp_ms)
        write = next(one for one in replaced.siblings if one.dot == second)
        applied = (stamp_ms, *request, *second, write.attempt, write.basis)
        record = self._keep(partition, key, local, replaced, applied, local.my_actor)
        answer = seen.union(known.context).with_dot(*second, stamp_ms)
        base_recent = fingerprint_of(local.recent)
        return Minted(record, second, local.digest, base_recent, len(replaced.siblings), answer)

    def retract(
        self,
        partition: int,
        key: bytes,
        dot: Dot,
        known: StoredObject,
        superseded: Sequence[Sibling],
    ) -> Record | None:
        """Take back a version minted for a request that had been applied already, as `known` shows.

        It cannot be taken back, None, if it is not alive here any more, or if it superseded
        something (`superseded`) that is not known to have ended otherwise.
        """
        local = self._read_or_lose(partition, key)
        if local is None:
            return None
        stored = decode_object(local.content)
        others = tuple(one for one in stored.siblings if one.dot != dot)
        alive = {one.dot for one in known.siblings}
        if len(others) == len(stored.siblings) or any(
            one.dot in alive or not known.context.covers(*one.dot) for one in superseded
        ):
            return None
        left = merge_objects(
            StoredObject(stored.context, others, stored.overtaken),
            known,
            decode_recent(local.recent).applied,
        )
        content = encode_object(left)
        record = Record(content, digest_of(content), local.recent, local.my_actor)
        self._store(partition, key, local, record, len(left.siblings))
        return record

    def adopt(
        self, partition: int, key: bytes, merged: StoredObject, recent: RecentRequests
    ) -> Record:
        """Merge what a quorum was found to hold, so that it can be replicated from here."""
        return self.apply(partition, key, encode_object(merged), encode_recent(recent))

    def forget(self, partition: int, key: bytes) -> None:
        """Drop the copy. If it minted dots in the current epoch, a new epoch begins first."""
        record = self._read_or_lose(partition, key)
        if record is not None and record.my_actor == self._identity.actor:
            self._identity.raise_actor_epoch(self.storage)
        self.conflicted.discard(key)
        if key in self.doubted:
            self.doubted.settle([key])
        self.storage.drop(partition, key)
        self.merkle.on_change(partition, key, record, None)

    def _read_or_lose(self, partition: int, key: bytes) -> Record | None:
        """The copy; a damaged one is given up, under a new epoch, since its counters are gone.

        What takes its place is doubted, since it may be older.
        """
        try:
            return self.storage.get(partition, key)
        except CorruptRecordError as error:
            self._identity.raise_actor_epoch(self.storage)
            self.merkle.on_lost(partition)
            self.doubted.add(key)
            self._outbox.record(
                "copy_lost",
                key=key.decode("utf-8", "replace"),
                reason=error.message,
                actor_epoch=self._identity.actor_epoch,
            )
            return None

    def note_siblings(self, key: bytes, siblings: int) -> None:
        """The copy of a key has so many siblings now."""
        if siblings > 1:
            if key not in self.conflicted:
                self.conflicted.add(key)
                self._outbox.record(
                    "sibling_created", key=key.decode("utf-8", "replace"), siblings=siblings
                )
        else:
            self.conflicted.discard(key)

    def _union_of(self, ours: bytes, theirs: bytes) -> RecentRequests:
        return decode_recent(ours).union(
            decode_recent(theirs), entries_max=self._limits.recent_requests_max
        )

    def _merge_recent(self, ours: bytes, theirs: bytes) -> bytes:
        if ours == theirs or not theirs:
            return ours
        remembered = decode_recent(theirs)
        if not ours:
            return theirs
        union = remembered.union(decode_recent(ours), entries_max=self._limits.recent_requests_max)
        return theirs if union == remembered else encode_recent(union)

    def _truncate(self, key: bytes, minted: StoredObject, actor: str, base: bytes) -> StoredObject:
        shared_by_all = self.shared.is_everywhere(key, base)
        shortened, dropped = truncate_context(
            minted,
            own_actor=actor,
            entries_max=self._limits.clock_entries,
            shared_by_all=shared_by_all,
        )
        if dropped:
            self._outbox.record(
                "clock_truncated",
                key=key.decode("utf-8", "replace"),
                dropped=[f"{name}:{counter}" for name, counter, _ in dropped],
                forced=not shared_by_all,
            )
        return shortened
