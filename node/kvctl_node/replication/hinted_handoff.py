"""Hinted handoff: keeping a write for a node that is away, and bringing it home.

A hint is an object that belongs on another node's disk: (target, key, object). It is left by a node
that stood in for the target in a sloppy quorum, and by a coordinator whose write the target did not
acknowledge. A later hint for the same target and key merges into it, so the queue is bounded by the
number of keys, not of writes (Dynamo §4.6; Cassandra and Riak differ in detail).

Delivery: when the target is reachable, a bounded window of hints is sent in key order, rate
limited, and a hint is deleted only when the target has acknowledged *that very content*. A hint
that grew meanwhile stays and is sent again. Everything is found again after a restart, since hints
are durable.

Invariants: a hint that counted toward a write quorum is never dropped undelivered (at the byte
limit a node refuses to stand in instead); any other that is dropped is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from kvctl_node.causality.recent_requests import decode_recent, encode_recent
from kvctl_node.causality.siblings import decode_object, digest_of, encode_object, merge_objects
from kvctl_node.config import LimitsConfig, TimingConfig
from kvctl_node.errors import CorruptRecordError
from kvctl_node.outbox import Outbox
from kvctl_node.ports import Hint, Instant, StorageEngine
from kvctl_node.protocol.repair_messages import (
    HandoffAck,
    HandoffPut,
)

PAGE_HINTS = 64


class InFlight(NamedTuple):
    """A hint that was sent and not yet acknowledged."""

    key: bytes
    digest: bytes
    sent_s: float


class Queue:
    """The hints for one target, as far as memory knows of them."""

    __slots__ = (
        "bytes",
        "count",
        "cursor",
        "delivered",
        "in_flight",
        "oldest_ms",
        "reported",
        "stored",
        "tokens",
    )

    def __init__(self) -> None:
        self.count = 0
        self.bytes = 0
        self.oldest_ms = 0
        self.cursor = b""
        """Key after which to go on sending; b"" begins a new pass."""
        self.in_flight: dict[int, InFlight] = {}
        self.tokens = 0.0
        self.stored = 0
        self.delivered = 0
        self.reported = (0, 0)
        """(stored, delivered) when events last told of them."""


class HintedHandoff:
    """All hints this node keeps for others."""

    def __init__(
        self,
        storage: StorageEngine,
        outbox: Outbox,
        limits: LimitsConfig,
        timing: TimingConfig,
        *,
        next_id: Callable[[], int],
    ) -> None:
        self._storage = storage
        self._outbox = outbox
        self._limits = limits
        self._timing = timing
        self._next_id = next_id
        self._queues: dict[str, Queue] = {}
        self._bytes = 0
        self._due_s = 0.0
        self._last_tick_s: float | None = None
        self._held = False
        self.dropped = 0
        """Hints given up undelivered: expired, over the limit, or damaged. None of them counted."""
        self.on_delivered: Callable[[Hint, Instant], None] | None = None
        """Told of each hint that went home."""
        for kept in storage.hints.queues():
            queue = self._queue(kept.target)
            queue.count, queue.bytes, queue.oldest_ms = kept.hints, kept.bytes, kept.oldest_ms
            self._bytes += kept.bytes

    # ------------------------------------------------------------ keeping

    @property
    def count(self) -> int:
        """Hints kept for all targets together."""
        return sum(queue.count for queue in self._queues.values())

    def has_room(self) -> bool:
        """Whether this node may still stand in for others."""
        return self._bytes < self._limits.hints_bytes_max

    def holds_anything_for(self, key: bytes) -> bool:
        """Whether some hint of the key is kept here."""
        return self.count > 0 and self._storage.hints.holds(key)

    def keep(
        self,
        target: str,
        partition: int,
        key: bytes,
        content: bytes,
        recent: bytes,
        now: Instant,
        *,
        counted: bool,
    ) -> None:
        """Keep an object for `target`, merged with what is already kept for it.

        Durable with this turn's commit. A hint that does not count is dropped at the byte limit;
        for one that does, the caller has asked `has_room` before it promised anything.
        """
        if not counted and not self.has_room():
            self._drop(target, 1, "limit")
            return
        old = self._existing(target, key)
        created_ms = now.wall_ms
        if old is not None:
            counted, created_ms = counted or old.counted, old.created_ms
            if old.content != content:
                requests = decode_recent(old.recent).union(
                    decode_recent(recent), entries_max=self._limits.recent_requests_max
                )
                merged = merge_objects(
                    decode_object(old.content), decode_object(content), requests.applied
                )
                content, recent = encode_object(merged), encode_recent(requests)
        hint = Hint(
            target, partition, key, content, digest_of(content), recent, created_ms, counted
        )
        self._storage.hints.put(hint)
        queue = self._queue(target)
        queue.stored += 1
        queue.count += old is None
        queue.oldest_ms = min(queue.oldest_ms or created_ms, created_ms)
        self._account(queue, len(content) - (0 if old is None else len(old.content)))

    def _existing(self, target: str, key: bytes) -> Hint | None:
        if not self._queue(target).count:
            return None
        try:
            return self._storage.hints.get(target, key)
        except CorruptRecordError:
            # The new hint takes its place; the write it stood for is also in this node's own copy,
            # which anti-entropy will bring to the target.
            self._drop(target, 1, "damaged")
            self._queue(target).count -= 1
            return None

    def _queue(self, target: str) -> Queue:
        queue = self._queues.get(target)
        if queue is None:
            queue = self._queues[target] = Queue()
        return queue

    def _account(self, queue: Queue, difference_bytes: int) -> None:
        queue.bytes += difference_bytes
        self._bytes += difference_bytes

    def _drop(self, target: str, count: int, reason: str) -> None:
        self.dropped += count
        self._outbox.record("hint_dropped", target=target, count=count, reason=reason)

    # ------------------------------------------------------------ bringing home

    def next_s(self) -> float | None:
        """When there is something to do, on the monotonic clock; None while nothing is kept."""
        return self._due_s if self._queues else None

    def wake(self) -> None:
        """A target may have come back: look at once."""
        self._due_s = 0.0

    def on_tick(self, reachable: set[str], now: Instant) -> None:
        """Send what may be sent to targets that are reachable; forget what expired."""
        if not self._queues or now.monotonic_s < self._due_s:
            return
        interval_s = self._timing.handoff_interval_ms / 1000
        last_s, self._last_tick_s = self._last_tick_s, now.monotonic_s
        elapsed_s = interval_s if last_s is None else now.monotonic_s - last_s
        self._due_s = now.monotonic_s + interval_s
        for target, queue in self._queues.items():
            self._forget_lost(queue, now)
            queue.tokens = min(
                queue.tokens + elapsed_s * self._limits.handoff_per_s,
                float(self._limits.handoff_per_s),
            )
            if queue.count and target in reachable:
                queue.cursor = b"" if not queue.in_flight else queue.cursor
                self._send(target, queue, now)
        self._report()
        self._queues = {
            target: queue
            for target, queue in self._queues.items()
            if queue.count or queue.in_flight
        }

    def _send(self, target: str, queue: Queue, now: Instant) -> None:
        """Fill the window from the cursor on."""
        room = self._limits.handoff_in_flight_max - len(queue.in_flight)
        room = min(room, int(queue.tokens), PAGE_HINTS)
        if room <= 0 or self._held:
            return
        sent_keys = {one.key for one in queue.in_flight.values()}
        hints = self._storage.hints.page(target, queue.cursor, room)
        for hint in hints:
            queue.cursor = hint.key
            if self._expired(hint, now):
                self._forget(queue, hint)
                self._drop(target, 1, "expired")
            elif hint.key not in sent_keys:
                message_id = self._next_id()
                queue.tokens -= 1
                queue.in_flight[message_id] = InFlight(hint.key, hint.digest, now.monotonic_s)
                deadline_ms = now.wall_ms + self._timing.replica_timeout_ms
                self._outbox.send(
                    target,
                    HandoffPut(message_id, hint.key, hint.content, hint.recent, deadline_ms),
                )

    def _expired(self, hint: Hint, now: Instant) -> bool:
        return not hint.counted and now.wall_ms - hint.created_ms > self._timing.hint_ttl_ms

    def _forget_lost(self, queue: Queue, now: Instant) -> None:
        """What was sent long ago was lost; the next pass sends it again."""
        oldest_s = now.monotonic_s - self._timing.replica_timeout_ms / 1000
        for message_id in [one for one, it in queue.in_flight.items() if it.sent_s < oldest_s]:
            del queue.in_flight[message_id]

    def on_handoff_ack(self, sender: str, message: HandoffAck, now: Instant) -> None:
        """The target has what message `id` held; the hint goes if it is still that."""
        queue = self._queue(sender)
        sent = queue.in_flight.pop(message.id, None)
        if sent is None:
            return
        try:
            hint = self._storage.hints.get(sender, sent.key)
        except CorruptRecordError:
            hint = None
        if hint is not None and hint.digest == sent.digest:
            self._forget(queue, hint)
            queue.delivered += 1
            if self.on_delivered is not None:
                self.on_delivered(hint, now)
        if len(queue.in_flight) <= self._limits.handoff_in_flight_max // 2:
            self._send(sender, queue, now)

    def on_link_lost(self, peer: str) -> None:
        """What was on its way to the peer may not have arrived; it is sent again later."""
        self._queue(peer).in_flight.clear()

    def _forget(self, queue: Queue, hint: Hint) -> None:
        self._storage.hints.delete(hint.target, hint.key)
        queue.count -= 1
        self._account(queue, -len(hint.content))
        if not queue.count:
            queue.oldest_ms = 0

    # ------------------------------------------------------------ for people

    def hold(self, held: bool) -> None:
        """Stop or resume all deliveries, until the node restarts."""
        self._held = held
        self.wake()

    def summary(self, now: Instant) -> list[dict[str, Any]]:
        """One entry per target: count, bytes, age of the oldest in ms, delivered so far, held."""
        return [
            {
                "target": target,
                "count": queue.count,
                "bytes": queue.bytes,
                "oldest_ms": now.wall_ms - queue.oldest_ms if queue.count else 0,
                "delivered": queue.delivered,
                "held": self._held,
            }
            for target, queue in sorted(self._queues.items())
            if queue.count
        ]

    def _report(self) -> None:
        """One event per target and interval, not one per hint."""
        for target, queue in self._queues.items():
            stored, delivered = queue.reported
            if queue.stored > stored:
                count = queue.stored - stored
                self._outbox.record("hint_stored", target=target, count=count, queued=queue.count)
            if queue.delivered > delivered:
                count = queue.delivered - delivered
                self._outbox.record(
                    "hint_delivered", target=target, count=count, queued=queue.count
                )
            queue.reported = (queue.stored, queue.delivered)

    def check_invariants(self) -> None:
        """Assert that the figures agree with what is stored; for tests and simulation."""
        kept = {queue.target: queue for queue in self._storage.hints.queues()}
        for target, queue in self._queues.items():
            assert queue.count == (kept[target].hints if target in kept else 0)
            assert queue.bytes == (kept[target].bytes if target in kept else 0)
        assert self._bytes == sum(queue.bytes for queue in self._queues.values())
