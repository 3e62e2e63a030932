"""Asking nodes directly: one request to each of several nodes, all at once.

An administrator's question is for *this* node, not for the cluster: no routing, no retry, no
quorum. All sockets are polled together and each has until the same deadline, so a node that hangs
costs the timeout once and delays nobody. No answer is an answer: None.

A connection is made with ZMQ_IMMEDIATE, so a request is handed over only once the node is there to
take it; nothing queues up for a node that is down and surprises it later.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import zmq

from kvctl_node.config import ClusterConfig, NodeSpec
from kvctl_node.errors import ConfigError, ProtocolError
from kvctl_node.protocol.client_messages import (
    ClientReply,
    ClientRequest,
    ClientStatus,
    StatusDone,
)
from kvctl_node.protocol.codec import decode_each_reply, encode_requests
from kvctl_node.runtime.open_files import allow_open_files, client_files
from kvctl_node.runtime.security import CLIENT_KEY_NAME, key_path, load_key, load_public_key

_RECONNECT_MS = 20
"""A node that starts is met soon after it begins to listen."""


class AdminConnections:
    """Open connections to some nodes of one cluster; a context manager, used by one thread."""

    def __init__(self, nodes: Iterable[NodeSpec], keys: Path) -> None:
        """Connects lazily, so nodes may be down; one whose public key is unreadable never answers.

        Raises `ConfigError` if the clients' own key is unusable, `OpenFilesError`.
        """
        specs = list(nodes)
        allow_open_files(client_files(len(specs)), "this command")
        own = load_key(key_path(keys, CLIENT_KEY_NAME))
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.setsockopt(zmq.MAX_SOCKETS, 1 << 14)
        self._sockets: dict[str, zmq.Socket[bytes]] = {}
        self._last_id = 0
        for spec in specs:
            try:
                server = load_public_key(key_path(keys, spec.name)).public
            except ConfigError:
                continue  # one damaged file must not keep us from the other nodes
            socket = self._context.socket(zmq.DEALER)
            socket.setsockopt(zmq.LINGER, 0)
            socket.setsockopt(zmq.IMMEDIATE, 1)
            socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
            socket.setsockopt_string(zmq.CURVE_SERVERKEY, server)
            socket.setsockopt_string(zmq.CURVE_PUBLICKEY, own.public)
            socket.setsockopt_string(zmq.CURVE_SECRETKEY, own.secret)
            socket.connect(spec.client_endpoint)
            self._sockets[spec.name] = socket

    def __enter__(self) -> AdminConnections:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections; requests under way are abandoned."""
        for socket in self._sockets.values():
            socket.close(linger=0)
        self._context.term()

    def ask(
        self, requests: Mapping[str, ClientRequest], *, timeout_s: float
    ) -> dict[str, ClientReply | None]:
        """Send each named node its request and collect the answers until the timeout.

        The requests' ids are replaced, so that a late answer to an earlier question is known as
        such. Returns, for every name asked, the reply, or None if none came in time.
        """
        deadline_s = time.monotonic() + timeout_s
        replies: dict[str, ClientReply | None] = dict.fromkeys(requests)
        waiting: dict[zmq.Socket[bytes], str] = {}
        frames: dict[str, bytes] = {}
        self._last_id += 1
        poller = zmq.Poller()
        for name, request in requests.items():
            socket = self._sockets.get(name)
            if socket is None:
                continue
            frames[name] = encode_requests([msgspec.structs.replace(request, id=self._last_id)])
            waiting[socket] = name
            poller.register(socket, zmq.POLLIN | zmq.POLLOUT)
        while waiting and (left_s := deadline_s - time.monotonic()) > 0:
            for socket, flags in poller.poll(max(1, round(left_s * 1000))):
                name = waiting[socket]
                if flags & zmq.POLLOUT and name in frames:
                    if _send(socket, frames[name]):
                        del frames[name]
                        poller.modify(socket, zmq.POLLIN)
                elif flags & zmq.POLLIN:
                    reply = _receive(socket, self._last_id)
                    if reply is not None:
                        replies[name] = reply
                        poller.unregister(socket)
                        del waiting[socket]
        return replies

    def ask_status(self, names: Iterable[str], *, timeout_s: float) -> dict[str, dict[str, Any]]:
        """The snapshots of those nodes that answered in time."""
        replies = self.ask({name: ClientStatus(0) for name in names}, timeout_s=timeout_s)
        return {
            name: reply.snapshot for name, reply in replies.items() if isinstance(reply, StatusDone)
        }


def _send(socket: zmq.Socket[bytes], frame: bytes) -> bool:
    try:
        socket.send(frame, zmq.NOBLOCK)
    except zmq.Again:
        return False  # the connection went away since the poll
    return True


def _receive(socket: zmq.Socket[bytes], expected_id: int) -> ClientReply | None:
    """The answer to the request of that id, if it is among what has arrived."""
    while True:
        try:
            parts = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return None
        try:
            replies = decode_each_reply(parts[-1])
        except ProtocolError:
            continue  # whatever this node speaks, it is no answer
        for reply in replies:
            if reply.id == expected_id:
                return reply


def query_all(
    config: ClusterConfig,
    keys: Path,
    request: ClientRequest,
    timeout_s: float,
    *,
    names: Iterable[str] | None = None,
) -> dict[str, ClientReply | None]:
    """Send the same request to every node (or those named) and collect the answers.

    `keys` is the cluster's key directory. A node that does not answer within `timeout_s` seconds,
    because it is down, paused or slow, is None in the result. Raises `ConfigError`
    for an unknown name, or if the clients' key is unusable.
    """
    wanted = [spec.name for spec in config.nodes] if names is None else list(names)
    specs = [config.node(name) for name in wanted]
    with AdminConnections(specs, keys) as connections:
        return connections.ask(dict.fromkeys(wanted, request), timeout_s=timeout_s)
