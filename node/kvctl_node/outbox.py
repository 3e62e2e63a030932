"""What a turn wants sent: filled by the protocol core, flushed by the runtime after the commit.

Nothing leaves a node while it is being decided. All messages of one turn to one destination travel
in one frame, and only once everything the turn stored is durable ("persist, then send").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kvctl_node.causality.trace_clock import TraceClock
from kvctl_node.protocol.client_messages import (
    ReplyMessage,
)
from kvctl_node.protocol.messages import (
    PeerMessage,
)


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something worth telling people: one line of `kvctl events`, one fact for the dashboard."""

    kind: str
    fields: dict[str, Any]
    clock: dict[str, int] = {}
    """{node: events that came before or are this one} (`kvctl_node.causality.trace_clock`)."""


class Outbox:
    """Messages by destination, in the order they were added, and events."""

    __slots__ = ("events", "to_clients", "to_peers", "trace")

    def __init__(self, trace: TraceClock | None = None) -> None:
        self.trace = trace or TraceClock()
        """Counts the events; every peer frame carries it."""
        self.to_peers: dict[str, list[PeerMessage]] = {}
        self.to_clients: dict[bytes, list[ReplyMessage]] = {}
        self.events: list[Event] = []

    def send(self, peer: str, message: PeerMessage) -> None:
        """Queue a message for another node."""
        queue = self.to_peers.get(peer)
        if queue is None:
            self.to_peers[peer] = [message]
        else:
            queue.append(message)

    def send_to_all(self, peers: Iterable[str], message: PeerMessage) -> None:
        """Queue one message for several nodes."""
        queues = self.to_peers
        for peer in peers:
            queue = queues.get(peer)
            if queue is None:
                queues[peer] = [message]
            else:
                queue.append(message)

    def reply(self, client: bytes, message: ReplyMessage) -> None:
        """Queue an answer for a client, known by its socket identity."""
        queue = self.to_clients.get(client)
        if queue is None:
            self.to_clients[client] = [message]
        else:
            queue.append(message)

    def reply_all(self, client: bytes, messages: list[ReplyMessage]) -> None:
        """Queue answers for one client, if there are any."""
        if messages:
            self.to_clients.setdefault(client, []).extend(messages)

    def record(self, kind: str, **fields: Any) -> None:
        """Queue an event; the runtime adds time, node and sequence number."""
        self.events.append(Event(kind, fields, self.trace.advance()))

    def clear(self) -> None:
        """Forget everything: it was flushed, or must never be sent."""
        self.to_peers = {}
        self.to_clients = {}
        self.events = []
