"""What a client that lives longer than one request does beside requests: know where things are.

It keeps the partition map, so that requests go straight to an owner of their key; connects again to
nodes that came back; and asks silent ones for a sign of life. None of it is needed for an answer:
without a map any node will do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from kvctl.client.client_clock import monotonic
from kvctl.client.connection import Connection, ConnectionState
from kvctl.client.request import Pending
from kvctl.client.routing import RECONNECT_AFTER_S
from kvctl_node.errors import ProtocolError
from kvctl_node.protocol.client_messages import ClientDescribe, Description

if TYPE_CHECKING:
    from kvctl.client.request_loop import RequestLoop

MAP_REFRESH_S = 5.0
MAP_AFTER_FAILURE_S = 0.25
PROBE_INTERVAL_S = 1.0
"""How often a node that fell silent is asked for a sign of life."""


class Upkeep:
    """The upkeep of one request loop; nothing happens before `begin`. Times are monotonic."""

    def __init__(self, loop: RequestLoop) -> None:
        self._loop = loop
        self._map_due_at = 0.0
        self._map_request: Pending | None = None
        """The latest; None as long as the client is not a long-lived one."""

    def begin(self) -> None:
        """From now on keep a map. Idempotent; does not block."""
        if self._map_request is None:
            self._request_map(monotonic())

    def await_map(self) -> None:
        """Block until the map came or could not be had."""
        while self._map_request is not None and not self._map_request.done:
            self._loop.turn()

    def on_broken(self, now: float) -> None:
        """A connection broke: where its node is may have changed."""
        self._map_due_at = min(self._map_due_at, now + MAP_AFTER_FAILURE_S)

    def on_sweep(self, now: float) -> None:
        """Reconnect, look whether silent nodes are back, and keep the map fresh."""
        if self._map_request is None:
            return
        for connection in self._loop.router.connections.values():
            if connection.state is ConnectionState.BROKEN:
                if now - connection.changed_at >= RECONNECT_AFTER_S:
                    self._loop.open(connection, now)
            elif connection.silent and now - connection.probed_at >= PROBE_INTERVAL_S:
                self._probe(connection, now)
        if now >= self._map_due_at and self._map_request.done:
            self._request_map(now)

    def _probe(self, connection: Connection, now: float) -> None:
        connection.probed_at = now
        self._describe(now, via=connection.name)

    def _request_map(self, now: float) -> None:
        self._map_due_at = now + MAP_REFRESH_S
        self._map_request = self._describe(now, via=None)

    def _describe(self, now: float, via: str | None) -> Pending:
        ends = now + PROBE_INTERVAL_S
        request = ClientDescribe(self._loop.next_id())
        pending = Pending(self._loop, request, b"", now, ends, attempt_ends=ends, via=via)
        pending.on_done = self._on_description
        self._loop.submit(pending)
        return pending

    def _on_description(self, pending: Pending) -> None:
        """Use the map, if it came."""
        reply = pending.reply
        if not isinstance(reply, Description):
            return
        # The ring is code a one-shot request never needs.
        from kvctl.client.cluster_map import map_from_description

        try:
            known = map_from_description(reply)
        except ProtocolError:
            return  # a node that cannot describe the ring can still serve requests
        connections = self._loop.router.connections
        for name, endpoint in known.clients.items():
            connection = connections.get(name)
            if connection is None:
                self._loop.add_connection(name, endpoint)
            elif connection.socket is None:
                connection.endpoint = endpoint
        for name in [name for name in connections if name not in known.clients]:
            if connections[name].socket is None:
                del connections[name]
        self._loop.router.set_map(known)
