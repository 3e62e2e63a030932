"""Making a node's sockets: every one with CURVE, bounded queues and a bounded frame size.

The limits are libzmq's own, so they hold before a byte reaches Python: a frame that announces more
than `frame_bytes_max` closes its connection, and a queue that is full refuses the next frame.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import zmq

from kvctl_node.errors import ConfigError, StoreError
from kvctl_node.runtime.security import CurveKey

if TYPE_CHECKING:
    from kvctl_node.config import LimitsConfig

LINGER_MS = 250
"""How long a closing socket may go on delivering what was already sent."""
RECONNECT_FIRST_MS = 100
RECONNECT_MAX_MS = 1000
CURVE_OVERHEAD_BYTES = 33
"""What a CURVE MESSAGE command adds to a frame (RFC 26): name, nonce, box, flags."""
_LOOPBACK_BACKLOG = 1024


class PortTakenError(StoreError):
    """Somebody else listens on a port this node was given."""

    kind = "port_taken"


def server_socket(
    context: zmq.Context[zmq.Socket[bytes]],
    kind: int,
    *,
    own: CurveKey,
    domain: bytes,
    limits: LimitsConfig,
) -> zmq.Socket[bytes]:
    """A socket to be bound: clients prove their key to the authenticator of `domain`."""
    socket = _bounded_socket(context, kind, limits)
    socket.setsockopt(zmq.BACKLOG, _LOOPBACK_BACKLOG)
    socket.setsockopt(zmq.ZAP_DOMAIN, domain)
    socket.setsockopt(zmq.CURVE_SERVER, 1)
    socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret.encode("ascii"))
    return socket


def link_socket(
    context: zmq.Context[zmq.Socket[bytes]],
    *,
    own: CurveKey,
    server: CurveKey,
    limits: LimitsConfig,
    silence_max_ms: int,
) -> zmq.Socket[bytes]:
    """A DEALER to be connected to one peer, whose public key is known.

    ZMQ_IMMEDIATE: nothing queues towards a peer that is not there, a send fails instead. Unsent
    data that stays unacknowledged for `silence_max_ms` breaks the connection (TCP user timeout),
    so that a host that vanished is not waited for as long as TCP would.
    """
    socket = _bounded_socket(context, zmq.DEALER, limits)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, RECONNECT_FIRST_MS)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, RECONNECT_MAX_MS)
    socket.setsockopt(zmq.TCP_MAXRT, silence_max_ms)
    socket.setsockopt(zmq.CURVE_SERVERKEY, server.public.encode("ascii"))
    socket.setsockopt(zmq.CURVE_PUBLICKEY, own.public.encode("ascii"))
    socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret.encode("ascii"))
    return socket


def bind(socket: zmq.Socket[bytes], endpoint: str, node: str) -> None:
    """Listen. Raises `PortTakenError`, or `ConfigError` if the address cannot be used at all."""
    port = endpoint.rpartition(":")[2]
    if port == "0":
        raise ConfigError(
            f"{node} has no port in the cluster's configuration.",
            hint="ports are chosen when the cluster is brought up.",
        )
    try:
        socket.bind(endpoint)
    except zmq.ZMQError as error:
        if error.errno == zmq.EADDRINUSE:
            raise PortTakenError(
                f"port {port} of {node} is taken by another process.",
                hint="stop that process, or let the cluster choose other ports.",
            ) from error
        raise ConfigError(f"{node} cannot listen on {endpoint}: {error.strerror}.") from error


def _bounded_socket(
    context: zmq.Context[zmq.Socket[bytes]], kind: int, limits: LimitsConfig
) -> zmq.Socket[bytes]:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, LINGER_MS)
    socket.setsockopt(zmq.SNDHWM, limits.frames_queued_max)
    socket.setsockopt(zmq.RCVHWM, limits.frames_queued_max)
    socket.setsockopt(zmq.MAXMSGSIZE, limits.frame_bytes_max + CURVE_OVERHEAD_BYTES)
    return socket
