"""What a turn wants sent: filled by the protocol core, flushed by the runtime after the commit.

Nothing leaves a node while it is being decided. All messages of one turn to one destination travel
in one frame, and only once everything the turn stored is durable ("persist, then send").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from node.causality.trace_clock import TraceClock
from node.protocol.client_messages import (
    ClientReply,
)
from node.protocol.messages import (
    PeerMessage,
    ReplicaPutAck,
    ReplicaSame,
)

IDS_PER_MESSAGE_MAX = 4096
"""Answers that say nothing but yes share a message, up to so many."""


class Event(msgspec.Struct, frozen=True, gc=False):
    """Something worth telling people: one line of `kvctl events`, one fact for the dashboard."""

    kind: str
    fields: dict[str, Any]
    clock: dict[str, int] = {}
    """{node: events that came before or are this one} (`node.causality.trace_clock`)."""


class Outbox:
    """Messages by destination, in the order they were added, and events."""

    __slots__ = ("_ids", "events", "to_clients", "to_peers", "trace")

    def __init__(self, trace: TraceClock | None = None) -> None:
        self.trace = trace or TraceClock()
        """Counts the events; every peer frame carries it."""
        self._ids: dict[tuple[type, str], list[int]] = {}
        """(kind, peer) → the ids in the last message of that kind to it, which may take more."""
        self.to_peers: dict[str, list[PeerMessage]] = {}
        self.to_clients: dict[bytes, list[ClientReply]] = {}
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

    def send_put_acks(self, peer: str, message_ids: list[int]) -> None:
        """Acknowledge `ReplicaPut`s, together with the others of this turn."""
        self._send_ids(ReplicaPutAck, peer, message_ids)

    def send_sames(self, peer: str, message_ids: list[int]) -> None:
        """Answer `ReplicaGet`s with "the same", together with the others of this turn."""
        self._send_ids(ReplicaSame, peer, message_ids)

    def _send_ids(self, kind: type[ReplicaPutAck | ReplicaSame], peer: str, ids: list[int]) -> None:
        last = self._ids.get((kind, peer))
        if last is not None and len(last) + len(ids) <= IDS_PER_MESSAGE_MAX:
            last += ids
            return
        for start in range(0, len(ids), IDS_PER_MESSAGE_MAX):
            self._ids[kind, peer] = part = ids[start : start + IDS_PER_MESSAGE_MAX]
            self.send(peer, kind(part))

    def reply(self, client: bytes, message: ClientReply) -> None:
        """Queue an answer for a client, known by its socket identity."""
        queue = self.to_clients.get(client)
        if queue is None:
            self.to_clients[client] = [message]
        else:
            queue.append(message)

    def record(self, kind: str, **fields: Any) -> None:
        """Queue an event; the runtime adds time, node and sequence number."""
        self.events.append(Event(kind, fields, self.trace.advance()))

    def clear(self) -> None:
        """Forget everything: it was flushed, or must never be sent."""
        self._ids = {}
        self.to_peers = {}
        self.to_clients = {}
        self.events = []
