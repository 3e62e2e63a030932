"""The loop of a node: one turn after the other, each all or nothing.

    poll ─▶ drain ─▶ handle ─▶ tick ─▶ COMMIT ─▶ events ─▶ send ─▶ (housekeeping)
              peers, clients, links      │
                                         └─ fails: forget the outbox, end the process

Why a turn and not a message: a commit costs much more than a message, and so does a frame. Under
load many messages wait when a turn begins, share its commit, and leave in one frame per
destination; when idle a turn holds one message and adds nothing to its latency.

Invariant: nothing leaves the process before everything the turn stored is durable. A failed commit
leaves the storage in the state before the turn, while the core has already moved on; so the process
must not go on, and ends without a word to anybody. What it never promised, nobody relies on.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Protocol

from kvctl_node.errors import StorageError
from kvctl_node.identity import mark_clean_stop
from kvctl_node.outbox import Event, Outbox
from kvctl_node.ports import Clock, Instant, StorageEngine
from kvctl_node.protocol.client_messages import (
    ClientRequest,
)
from kvctl_node.protocol.messages import (
    PeerFrame,
)
from kvctl_node.runtime.garbage_schedule import GarbageSchedule
from kvctl_node.runtime.huge_pages import HugePages
from kvctl_node.runtime.process_stats import cpu_seconds, resident_bytes
from kvctl_node.runtime.stop_signal import StopSignal

WAIT_MAX_S = 60.0
"""A poll never waits longer, whatever the core says."""
LOOK_AFTER_S = 0.005
"""Of turns that follow each other closely not every one asks what is due, looks after the process,
or keeps house, for finding out that there is nothing to do takes as long as handling a message. So
what a turn makes due may be so much late. The core ticks in every turn: what it has to keep of what
it was told has to be durable with the turn that told it."""
DRAIN_QUIET_MS = 20
"""A stopping node is done when nothing came in for so long..."""
DRAIN_MAX_S = 0.5
"""...or, since peers may go on sending, after this time."""

logger = logging.getLogger(__name__)


class ProtocolCore(Protocol):
    """What the loop drives: the pure state machine of a node (`kvctl_node.node.Node`)."""

    @property
    def outbox(self) -> Outbox: ...
    @property
    def ring_epoch(self) -> int: ...
    def start(self, now: Instant) -> None: ...
    def on_link(self, peer: str, connected: bool, now: Instant) -> None: ...
    def on_peer_frame(self, frame: PeerFrame, now: Instant) -> None: ...
    def on_client_requests(
        self, client: bytes, requests: list[ClientRequest], now: Instant
    ) -> None: ...
    def tick(self, now: Instant) -> None: ...
    def next_wakeup_s(self, now: Instant) -> float: ...


class Transport(Protocol):
    """The sockets the loop waits on (`kvctl_node.runtime.zmq_transport.ZmqTransport`)."""

    def watch(self, descriptor: int) -> None: ...
    def unwatch(self, descriptor: int) -> None: ...
    def stop_accepting(self) -> None: ...
    def poll(self, timeout_ms: int) -> bool: ...
    def receive_link_changes(self) -> list[tuple[str, bool]]: ...
    def receive_peer_frames(self) -> list[PeerFrame]: ...
    def receive_client_requests(self) -> list[tuple[bytes, list[ClientRequest]]]: ...
    def send(self, outbox: Outbox, ring_epoch: int) -> None: ...
    def snapshot(self) -> dict[str, object]: ...


class Journal(Protocol):
    """Where events go (`kvctl_node.runtime.event_log.EventLog`)."""

    def write(self, events: list[Event], now: Instant) -> None: ...


class Timed(Protocol):
    """A part of the runtime that has something to do at times, such as injected faults."""

    def on_tick(self, now: Instant) -> None: ...
    def next_wakeup_s(self, now: Instant) -> float | None: ...


class EventLoop:
    """Drives one core with one storage engine and one transport, on the calling thread."""

    def __init__(
        self,
        core: ProtocolCore,
        storage: StorageEngine,
        transport: Transport,
        journal: Journal,
        clock: Clock,
        timed: Sequence[Timed] = (),
    ) -> None:
        """`timed` parts come first in a turn that looks after things."""
        self.turns = 0
        """Turns completed."""
        self._core = core
        self._storage = storage
        self._transport = transport
        self._journal = journal
        self._clock = clock
        self._timed = timed
        self._garbage = GarbageSchedule()
        self._huge_pages = HugePages()
        self._housekeeping_waits = False
        self._due_s = -math.inf
        """When the core or a timed part has something to do, on the monotonic clock, as they said
        when last asked."""
        self._asked_s = -math.inf
        """When they were last asked."""
        self._looks_after = True
        """Whether this turn, or the last, is one that looks after the process, too."""
        self._started = self._turn_began = clock.now()

    def run(self, stop: StopSignal) -> None:
        """Serve until `stop` is requested, then end cleanly.

        Raises `StorageError` if the storage cannot go on; nothing of that turn was sent.
        """
        self._transport.watch(stop.descriptor)
        self.start()
        self._garbage.begin()
        try:
            while not stop.requested:
                idle = not self.turn(self.wait_ms())
                if self._looks_after:
                    self._garbage.after_turn(idle=idle)
                    self._huge_pages.after_turn()
            self._transport.unwatch(stop.descriptor)
            self.finish()
        finally:
            self._garbage.end()

    def start(self) -> None:
        """Start the core; what it wants stored and sent at once is."""
        now = self._clock.now()
        try:
            self._core.start(now)
            self._complete(now)
        except StorageError:
            self._core.outbox.clear()
            raise

    def turn(self, timeout_ms: int) -> bool:
        """Wait at most `timeout_ms`, then do one turn. False if only time had passed."""
        found_work = self._transport.poll(timeout_ms)
        now = self._turn_began = self._clock.now()
        self._looks_after = now.monotonic_s >= min(self._due_s, self._asked_s + LOOK_AFTER_S)
        try:
            self._handle_all(now)
            self._complete(now)
        except StorageError:
            self._core.outbox.clear()
            raise
        self.turns += 1
        return found_work

    def finish(self) -> None:
        """Take no new requests, answer those in flight, and mark the last commit as the last.

        Whatever is in flight waits for peers; once nothing has come from them for a moment, it is
        answered or will not be.
        """
        self._transport.stop_accepting()
        self._due_s = -math.inf
        give_up_s = self._clock.now().monotonic_s + DRAIN_MAX_S
        while self.turn(DRAIN_QUIET_MS) and self._clock.now().monotonic_s < give_up_s:
            continue
        mark_clean_stop(self._storage)
        self._storage.commit()
        logger.info("stopped after %d turns", self.turns)

    def wait_ms(self) -> int:
        """How long the next poll may wait: until a timer, or not at all for housekeeping.

        After a turn that looked after nothing it is reckoned from that turn's beginning.
        """
        now = self._turn_began
        wake_s = self._asked_s + LOOK_AFTER_S
        if self._looks_after:
            now = self._clock.now()
            self._asked_s = now.monotonic_s
            wake_s = self._due_s = self._next_due_s(now)
        # Rounded up: a poll that returns just before the timer would be followed by many more.
        wait_s = min(wake_s, self._due_s) - now.monotonic_s
        return math.ceil(min(max(wait_s, 0.0), WAIT_MAX_S) * 1000)

    def _next_due_s(self, now: Instant) -> float:
        if self._housekeeping_waits:
            return now.monotonic_s
        wait_s = self._core.next_wakeup_s(now)
        for part in self._timed:
            due_s = part.next_wakeup_s(now)
            if due_s is not None:
                wait_s = min(wait_s, due_s)
        return now.monotonic_s + wait_s

    def stats(self) -> dict[str, object]:
        """What only the process knows about itself, for the node's status."""
        uptime_s = self._clock.now().monotonic_s - self._started.monotonic_s
        return {
            "uptime_s": round(uptime_s, 3),
            "cpu_s": round(cpu_seconds(), 3),
            "rss_bytes": resident_bytes(),
            "huge_page_bytes": self._huge_pages.bytes,
            "turns": self.turns,
            "transport": self._transport.snapshot(),
        }

    def _handle_all(self, now: Instant) -> None:
        """Links first: they tell whom to trust. Then answers to older requests, then new ones."""
        core, transport = self._core, self._transport
        if self._looks_after:
            for part in self._timed:
                part.on_tick(now)
        for peer, connected in transport.receive_link_changes():
            core.on_link(peer, connected, now)
        for frame in transport.receive_peer_frames():
            core.on_peer_frame(frame, now)
        for client, requests in transport.receive_client_requests():
            core.on_client_requests(client, requests, now)
        core.tick(now)

    def _complete(self, now: Instant) -> None:
        """Persist, then tell, then send, then keep house.

        Whoever has an answer finds the events that led to it.
        """
        self._storage.commit()
        outbox = self._core.outbox
        if outbox.events:
            self._journal.write(outbox.events, now)
        if outbox.to_peers or outbox.to_clients:
            self._transport.send(outbox, self._core.ring_epoch)
        outbox.clear()
        if self._looks_after:
            self._housekeeping_waits = self._storage.maintain()
