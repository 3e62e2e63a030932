"""One comparison of this node with another, from the root to the keys that differ.

    ROOT ─ equal ─▶ done: one hash
      └▶ GROUP ─▶ PARTITION ─▶ LEAF ─▶ keys ─┬─ read only ──▶ counted
           └───────────┴─ few keys ──────▶   ├─ repair ─────▶ exchanged at once, both ways
                                             └─ background ─▶ pause ─▶ asked again ─▶ exchanged

One question is under way at a time. Questions carry everything needed to answer them, so one that
got lost is simply asked again; after three losses, or when the peer cannot be reached any more, the
comparison ends as `interrupted` and the next one starts from the root.

What is asked next is decided by the `anti_entropy_walk`. A comparison in the background writes down
what differs and asks for it again after a pause longer than any write is under way: what differs
only because a write has reached one side before the other has then become equal.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from kvctl_node.errors import CorruptRecordError
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
from kvctl_node.replication.anti_entropy_answers import REPAIR_BYTES_MAX
from kvctl_node.replication.anti_entropy_progress import CompareMode, CompareState, Counts, Progress
from kvctl_node.replication.anti_entropy_walk import Listed, Walk, drop_left
from kvctl_node.replication.key_listing import list_keys, list_sparse, readable
from kvctl_node.replication.merkle_pair import MerkleLevel, PairTree
from kvctl_node.replication.repair_rate import RepairRate
from kvctl_node.ring.key_hash import leaf_of

ATTEMPTS_MAX = 3
BUILDING_RETRY_S = 0.2
BUILDING_WAIT_MAX_S = 600.0
SPARSE_KEYS_PER_QUERY = 256
KEYS_PER_EXCHANGE = 64
KEYS_PER_RECHECK = 256
SUSPECTS_MAX = 20_000
"""Differing keys a background comparison writes down; it leaves the rest to the next one."""

_encode = msgspec.msgpack.Encoder().encode


@dataclass(slots=True)
class _Question:
    """The question under way."""

    message: MerkleQuery | MerkleKeys | RepairKeys
    attempts: int
    """How often it was sent."""


class Comparison:
    """A comparison this node started. Handlers and `on_tick` move it on; `finished` ends it."""

    def __init__(
        self,
        state: NodeState,
        pair: PairTree,
        rate: RepairRate,
        *,
        peer: str,
        mode: CompareMode,
        trigger: str,
        recheck_pause_ms: int,
        partition: int | None = None,
        known_damage: frozenset[int] = frozenset(),
        keys: Sequence[bytes] = (),
    ) -> None:
        """`partition` limits it to one; `known_damage` was compared key by key before.

        `keys` are exchanged whether they differ or not, and nothing else is.
        """
        self.id = state.next_id()
        self.peer = peer
        self.mode = mode
        self.trigger = trigger
        self.state = CompareState.WAITING
        self.reason = ""
        self.finished = False
        self.wake_s = 0.0
        """When `on_tick` has something to do, on the monotonic clock."""
        self.peer_proven = True
        """The peer is not rebuilding anything the two share."""
        self.damage: frozenset[int] = frozenset()
        """Partitions damaged here that this comparison goes through key by key."""
        self._node = state
        self._pair = pair
        self._rate = rate
        self._recheck_pause_s = recheck_pause_ms / 1000
        self.partition = partition
        """The only partition compared, None for all that are shared."""
        self._known_damage = known_damage
        self._level = MerkleLevel.ROOT.name.lower()
        self._counts = Counts()
        self._walk = Walk(pair, from_root=not keys)
        self._suspects: deque[bytes] = deque()
        self._keys_given = bool(keys)
        self._sent_as_of = 0
        """Which doubts there were when the copies under way were sent."""
        self._transfer: deque[tuple[bytes, bool]] = deque((key, False) for key in keys)
        """(key, whether the peer has our copy already) to be exchanged."""
        self._recheck_s: float | None = None
        self._question: _Question | None = None
        self._building_since_s: float | None = None

    @property
    def commanded(self) -> bool:
        """Whether an operator waits for it."""
        return self.trigger == "command"

    # ------------------------------------------------------------ time

    def on_tick(self, now: Instant) -> None:
        """Ask the next question, or the last one again."""
        if self.finished or now.monotonic_s < self.wake_s:
            return
        if not self._node.can_reach(self.peer):
            self.interrupt(f"{self.peer} cannot be reached")
        elif self._question is None:
            self._go_on(now)
        elif self._question.attempts >= ATTEMPTS_MAX:
            self.interrupt(f"{self.peer} does not answer")
        else:
            self._ask(self._question.message, now, self._question.attempts + 1)

    def interrupt(self, reason: str) -> None:
        """End without a result."""
        if not self.finished:
            self._finish(CompareState.INTERRUPTED, reason)

    def _go_on(self, now: Instant) -> None:
        """Ask what comes next, unless it has to wait."""
        if now.monotonic_s < self._rate.free_s:
            self.wake_s = self._rate.free_s
        elif not self._pair.ready and not self._keys_given:
            self._wait_for_tree(self._node.name, now)
        else:
            if self.state is CompareState.WAITING:
                self.state = CompareState.COMPARING
            message = self._next_question(now)
            if message is not None:
                self._ask(message, now, 1)

    def _ask(
        self, message: MerkleQuery | MerkleKeys | RepairKeys, now: Instant, attempts: int
    ) -> None:
        timeout_ms = self._node.timing.replica_timeout_ms
        message = msgspec.structs.replace(message, deadline_ms=now.wall_ms + timeout_ms)
        self._node.outbox.send(self.peer, message)
        self._counts.bytes += len(_encode(message))
        self.wake_s = now.monotonic_s + timeout_ms / 1000
        self._question = _Question(message, attempts)

    def _wait_for_tree(self, whose: str, now: Instant) -> None:
        """A tree is still being built; ask the same again in a moment."""
        self.reason = f"the tree of {whose} is being built"
        if self._building_since_s is None:
            self._building_since_s = now.monotonic_s
        if now.monotonic_s - self._building_since_s > BUILDING_WAIT_MAX_S:
            self.interrupt(self.reason)
            return
        self.wake_s = now.monotonic_s + BUILDING_RETRY_S
        if self._question is not None:
            self._question.attempts = 0

    # ------------------------------------------------------------ what to ask next

    def _next_question(self, now: Instant) -> MerkleQuery | MerkleKeys | RepairKeys | None:
        """The next message; None when waiting or at the end."""
        walk = self._walk
        if self._transfer:
            return self._exchange()
        if walk.listed:
            return self._list(walk.listed[0], now)
        if walk.sparse:
            return self._list_sparse(now)
        if walk.root:
            return self._begin()
        query = walk.next_query()
        if query is not None:
            return self._query(*query)
        if self._suspects:
            return self._ask_again(now)
        self._finish(self._verdict(), "")
        return None

    def _begin(self) -> MerkleQuery:
        self.damage = self._pair.damaged - self._known_damage
        if self.partition is not None:
            self.damage &= {self.partition}
            self._walk.root = False
            return self._query(MerkleLevel.LEAF, (self.partition,))
        return self._query(MerkleLevel.ROOT, ())

    def _query(self, level: MerkleLevel, parents: tuple[int, ...]) -> MerkleQuery:
        self._level = level.name.lower()
        return MerkleQuery(self._next_id(), level, parents, self._pair.hashes(level, parents), 0)

    def _list(self, part: Listed, now: Instant) -> MerkleKeys:
        self._level = "keys"
        entries: tuple[tuple[bytes, bytes], ...] = ()
        stop = None
        try:
            listing = list_keys(self._node.storage, *part, None)
        except CorruptRecordError:
            pass  # the peer lists what it has, and each of those keys is looked up here
        else:
            entries, stop = tuple(listing.entries), listing.next_key
            self._spend(now, keys=listing.examined)
        partition, leaves, start = part
        return MerkleKeys(self._next_id(), partition, leaves, start, stop, entries, 0)

    def _list_sparse(self, now: Instant) -> MerkleKeys:
        """All keys of as many sparse partitions as one message takes."""
        self._level = "keys"
        taken = self._walk.take_sparse()
        listed, unlisted = list_sparse(self._node.storage, taken, SPARSE_KEYS_PER_QUERY)
        self._walk.list_whole(unlisted)  # it has grown meanwhile, or is damaged
        entries = tuple(entry for part in listed.values() for entry in part)
        self._spend(now, keys=len(entries))
        if not listed:
            return self._list(self._walk.listed[0], now)
        return MerkleKeys(self._next_id(), -1, 0, b"", None, entries, 0, tuple(listed))

    def _ask_again(self, now: Instant) -> MerkleKeys | None:
        """Background: whether what differed before the pause differs still."""
        if self._recheck_s is None:
            self._recheck_s = now.monotonic_s + self._recheck_pause_s
        if now.monotonic_s < self._recheck_s:
            self.wake_s = self._recheck_s
            return None
        keys = [self._suspects[at] for at in range(min(KEYS_PER_RECHECK, len(self._suspects)))]
        entries = tuple((key, self._digest(key)) for key in keys)
        return MerkleKeys(self._next_id(), -1, 0, b"", None, entries, 0)

    def _exchange(self) -> RepairKeys:
        """A batch of our copies, bounded in keys and bytes."""
        self.state, self._level = CompareState.REPAIRING, "exchange"
        self._sent_as_of = self._node.replica.doubted.latest
        copies: list[tuple[bytes, bytes, bytes]] = []
        size_bytes = 0
        for key, sent in self._transfer:
            record = None if sent else self._record(key)
            size_bytes += 0 if record is None else len(record[0])
            if len(copies) == KEYS_PER_EXCHANGE or (copies and size_bytes > REPAIR_BYTES_MAX):
                break
            copies.append((key, b"", b"") if record is None else (key, *record))
        return RepairKeys(self._next_id(), tuple(copies), 0)

    def _next_id(self) -> int:
        return self._node.next_id()

    # ------------------------------------------------------------ answers

    def on_reply(
        self, message: MerkleReply | MerkleKeysReply | RepairKeysReply, now: Instant
    ) -> None:
        """The peer answered; anything but the answer to the question under way is ignored."""
        question = self._question
        if self.finished or question is None or message.id != question.message.id:
            return
        self._counts.bytes += len(_encode(message))
        asked = question.message
        if isinstance(message, MerkleReply) and isinstance(asked, MerkleQuery):
            if message.state != MerkleState.READY:
                self._wait_for_tree(self.peer, now)
                return
            self.peer_proven &= message.proven
            self._take_query(asked, message)
        elif isinstance(message, MerkleKeysReply) and isinstance(asked, MerkleKeys):
            self._spend(now, keys=len(message.entries))
            if asked.sparse:
                self._take_sparse(asked, message)
            elif asked.partition < 0:
                self._take_again(asked, message)
            else:
                self._take_list(asked, message)
        elif isinstance(message, RepairKeysReply) and isinstance(asked, RepairKeys):
            if message.state == MerkleState.REFUSED:
                self.interrupt(f"{self.peer} takes no writes")
                return
            self._take_exchange(asked, message, now)
            if self.finished:
                return
        else:
            return
        self._question = None
        self._building_since_s = None
        self.reason = ""
        self._go_on(now)

    def _take_query(self, asked: MerkleQuery, message: MerkleReply) -> None:
        walk, level = self._walk, MerkleLevel(asked.level)
        children = self._pair.children(level, asked.parents)
        differing = sorted(set(children).intersection(message.differing))
        if level is MerkleLevel.ROOT:
            walk.take_root(goes_on=bool(differing or self.damage))
        elif level is MerkleLevel.GROUP:
            walk.take_groups(differing, self.damage)
        elif level is MerkleLevel.PARTITION:
            known = self._known_damage & self._pair.damaged
            found = (set(differing) | self.damage.intersection(children)) - known
            walk.take_partitions(len(asked.parents), found)
        elif level is MerkleLevel.LEAF:
            drop_left(walk.partitions, len(asked.parents))
            for partition in asked.parents:
                whole = partition in self.damage
                self._counts.leaves += walk.take_leaves(partition, differing, whole=whole)

    def _take_list(self, asked: MerkleKeys, message: MerkleKeysReply) -> None:
        # The answer may reach less far than the question, where the peer has many more keys.
        ends = [end for end in (asked.stop, message.next_key) if end is not None]
        self._walk.take_listed(min(ends, default=None))
        for key, theirs in message.entries:
            if self._digest(key) != theirs:
                self._note_key(key)

    def _take_sparse(self, asked: MerkleKeys, message: MerkleKeysReply) -> None:
        refused = set(message.unlisted).intersection(asked.sparse)
        self._walk.list_whole(sorted(refused))
        leaves = set()
        for key, theirs in message.entries:
            if self._digest(key) != theirs:
                leaves.add((self._node.map.partition_of(key), leaf_of(key)))
                self._note_key(key)
        self._counts.leaves += len(leaves)

    def _note_key(self, key: bytes) -> None:
        if self.mode is CompareMode.BACKGROUND:
            if len(self._suspects) < SUSPECTS_MAX:
                self._suspects.append(key)
            return
        self._counts.keys += 1
        if self.mode is CompareMode.REPAIR:
            self._transfer.append((key, False))

    def _take_again(self, asked: MerkleKeys, message: MerkleKeysReply) -> None:
        drop_left(self._suspects, len(asked.entries))
        known = {key for key, _ in asked.entries}
        for key, theirs in message.entries:
            if key in known and self._digest(key) != theirs:
                self._counts.keys += 1
                self._transfer.append((key, False))

    def _take_exchange(self, asked: RepairKeys, message: RepairKeysReply, now: Instant) -> None:
        node = self._node
        repaired = {asked.copies[at][0] for at in message.changed if 0 <= at < len(asked.copies)}
        known = {key for key, _, _ in asked.copies}
        size_bytes = sum(len(content) for _, content, _ in (*asked.copies, *message.copies))
        self._spend(now, keys=len(known), size_bytes=size_bytes)
        if not node.storage.accepts_writes():
            self.interrupt(f"{node.name} takes no writes")
            return
        for key, content, recent in message.copies:
            if key in known and content:
                before = self._digest(key)
                partition = node.map.partition_of(key)
                if node.replica.apply(partition, key, content, recent, b"").digest != before:
                    repaired.add(key)
        self._counts.repaired += len(repaired)
        if self._keys_given:
            self._counts.keys += len(repaired)
        self._note_met(asked, message)
        drop_left(self._transfer, len(asked.copies))
        for key in message.deferred:
            if key in known:
                self._transfer.appendleft((key, True))

    def _note_met(self, asked: RepairKeys, message: RepairKeysReply) -> None:
        """Both sides have the merge of what they had of these keys."""
        doubted = self._node.replica.doubted
        if doubted:
            for place, (key, _, _) in enumerate(asked.copies):
                if key not in message.deferred:
                    whole = place not in message.unproven
                    doubted.met(key, self.peer, as_of=self._sent_as_of, whole=whole)

    def _record(self, key: bytes) -> tuple[bytes, bytes] | None:
        record = readable(self._node.storage, self._node.map.partition_of(key), key)
        return None if record is None else (record.content, record.recent)

    def _digest(self, key: bytes) -> bytes:
        record = readable(self._node.storage, self._node.map.partition_of(key), key)
        return b"" if record is None else record.digest

    def _spend(self, now: Instant, *, keys: int, size_bytes: int = 0) -> None:
        self._rate.spend(now.monotonic_s, keys=keys, size_bytes=size_bytes)

    # ------------------------------------------------------------ the end

    def _verdict(self) -> CompareState:
        if not self._counts.keys:
            return CompareState.EQUAL
        if self.mode is CompareMode.READ_ONLY:
            return CompareState.DIFFERENT
        return CompareState.REPAIRED

    def _finish(self, state: CompareState, reason: str) -> None:
        self.state, self.reason = state, reason
        self.finished = True
        self._question = None
        if state is not CompareState.INTERRUPTED:
            self._level = "done"

    @property
    def succeeded(self) -> bool:
        """Whether it ran to its end."""
        return self.finished and self.state is not CompareState.INTERRUPTED

    def progress(self, last_success_ms: int | None) -> dict[str, Any]:
        """The row that people see."""
        partitions = self._pair.partitions if self.partition is None else (self.partition,)
        return Progress(
            session=self.id,
            a=self._node.name,
            b=self.peer,
            trigger=self.trigger,
            partitions=len(partitions),
            level=self._level,
            leaves_differing=self._counts.leaves,
            keys_differing=self._counts.keys,
            keys_repaired=self._counts.repaired,
            bytes=self._counts.bytes,
            full_copy_bytes=self._pair.tree.content_bytes(partitions),
            state=self.state.value,
            finished=self.finished,
            reason=self.reason,
            last_success_ms=last_success_ms,
        )._asdict()
