"""What a turn wants sent: filled by the protocol core, flushed by the runtime after the commit.

Nothing leaves a node while it is being decided. All messages of one turn to one destination travel
in one frame, and only once everything the turn stored is durable ("persist, then send").
"""

from __future__ import annotations

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

    __slots__ = ("_acks", "_sames", "events", "to_clients", "to_peers", "trace")

    def __init__(self, trace: TraceClock | None = None) -> None:
        self.trace = trace or TraceClock()
        """Counts the events; every peer frame carries it."""
        self._acks: dict[str, list[int]] = {}
        """Peer → the ids of the last `ReplicaPutAck` to it, which still takes more."""
        self._sames: dict[str, list[int]] = {}
        """Peer → the ids of the last `ReplicaSame` to it."""
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

    def send_put_ack(self, peer: str, message_id: int) -> None:
        """Acknowledge a `ReplicaPut`, together with the others of this turn."""
        ids = self._acks.get(peer)
        if ids is None or len(ids) == IDS_PER_MESSAGE_MAX:
            ids = self._acks[peer] = []
            self.send(peer, ReplicaPutAck(ids))
        ids.append(message_id)

    def send_same(self, peer: str, message_id: int) -> None:
        """Answer a `ReplicaGet` with "the same", together with the others of this turn."""
        ids = self._sames.get(peer)
        if ids is None or len(ids) == IDS_PER_MESSAGE_MAX:
            ids = self._sames[peer] = []
            self.send(peer, ReplicaSame(ids))
        ids.append(message_id)

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
        self._acks = {}
        self._sames = {}
        self.to_peers = {}
        self.to_clients = {}
        self.events = []
