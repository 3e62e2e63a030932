"""One encrypted socket to one node, and what is known of it.

       open()             handshake done             no answer in time
    IDLE ───▶ CONNECTING ───────────────▶ READY ◀──────────────────────▶ (silent)
      ▲            │ refused, bad key       │ closed          any answer
      │            ▼                        ▼
      └──────── BROKEN ◀────────────────────┘

The socket's monitor tells at once what a timeout would tell late: a refused connection, a failed
CURVE handshake, a closed peer. So ZeroMQ's own reconnecting is switched off: a broken socket is
closed, and a new one is opened when somebody wants to ask this node again. And with ZMQ_IMMEDIATE
nothing is queued for a peer that is not there: a request leaves `unsent` when a completed
connection took it, and not before, which is what makes "nothing was sent" a fact.

All requests queued in one pass travel in one frame: `flush` sends what there is.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING

import zmq

from kvctl_node.protocol.codec import MESSAGES_PER_FRAME_MAX, encode_requests
from kvctl_node.runtime.security import CLIENT_KEY_NAME, key_path, load_key, load_public_key

if TYPE_CHECKING:
    from kvctl.client.request import Pending

_CLOSED_EVENTS = (
    zmq.EVENT_CLOSED
    | zmq.EVENT_DISCONNECTED
    | zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_HANDSHAKE_FAILED = (
    zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL
    | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL
    | zmq.EVENT_HANDSHAKE_FAILED_AUTH
)
_EVENT = struct.Struct("=HI")
GATHER_FROM = 16
"""With fewer requests under way at a node, the next one does not wait for company."""
_MESSAGE_OVERHEAD_BYTES = 128
"""More than a request takes besides its key, value and context."""


class ConnectionState(IntEnum):
    """How far a connection is."""

    IDLE = 0
    CONNECTING = 1
    READY = 2
    BROKEN = 3


class Credentials:
    """The keys of a cluster directory, read when first needed and then remembered."""

    def __init__(self, keys_dir: Path) -> None:
        self._keys_dir = keys_dir
        self._public_keys: dict[str, bytes] = {}
        self._own: tuple[bytes, bytes] | None = None

    def public_key(self, node: str) -> bytes:
        """A node's public key, as Z85. Raises `ConfigError`."""
        known = self._public_keys.get(node)
        if known is None:
            known = load_public_key(key_path(self._keys_dir, node)).public.encode("ascii")
            self._public_keys[node] = known
        return known

    def own_pair(self) -> tuple[bytes, bytes]:
        """The clients' (public, secret) key, as Z85. Raises `ConfigError`."""
        if self._own is None:
            key = load_key(key_path(self._keys_dir, CLIENT_KEY_NAME))
            self._own = key.public.encode("ascii"), key.secret.encode("ascii")
        return self._own


class Connection:
    """A socket to one node, at most one at a time. Times are monotonic seconds."""

    __slots__ = (
        "_context",
        "_credentials",
        "_frame_bytes_max",
        "changed_at",
        "crowded",
        "endpoint",
        "failure",
        "monitor",
        "name",
        "probed_at",
        "silent",
        "socket",
        "state",
        "under_way",
        "unsent",
    )

    def __init__(
        self,
        name: str,
        endpoint: str,
        context: zmq.Context[zmq.Socket[bytes]],
        credentials: Credentials,
        frame_bytes_max: int,
    ) -> None:
        self.name = name
        self.endpoint = endpoint
        self.state = ConnectionState.IDLE
        self.changed_at = 0.0
        """When `state` became what it is."""
        self.silent = False
        """True after a request got no answer in time, until any answer comes."""
        self.probed_at = 0.0
        self.failure = ""
        """Why it is broken, for people."""
        self.unsent: list[Pending] = []
        """Requests that no connection has taken yet."""
        self.under_way = 0
        """How many requests were sent and not answered, about: `Router.count_under_way` sets it
        right from time to time, since not every one is answered."""
        self.crowded = False
        """Whether far more is outstanding here than elsewhere (`Router.note_crowds`)."""
        self.socket: zmq.Socket[bytes] | None = None
        self.monitor: zmq.Socket[bytes] | None = None
        self._context = context
        self._credentials = credentials
        self._frame_bytes_max = frame_bytes_max

    @property
    def healthy(self) -> bool:
        """Connected, and answering as far as is known."""
        return self.state is ConnectionState.READY and not self.silent

    @property
    def outstanding(self) -> int:
        """How many requests this node has, or is going to get, and has not answered, about."""
        return self.under_way + len(self.unsent)

    def open(self, now: float) -> None:
        """Begin to connect. Raises `ConfigError` if the keys cannot be read."""
        assert self.socket is None
        public, secret = self._credentials.own_pair()
        server = self._credentials.public_key(self.name)
        socket = self._context.socket(zmq.DEALER)
        socket.linger = 0
        socket.immediate = True
        socket.reconnect_ivl = -1
        # One frame a pass: what is in flight is bounded by the callers, in requests and bytes.
        socket.sndhwm = 0
        socket.rcvhwm = 0
        socket.curve_serverkey = server
        socket.curve_publickey = public
        socket.curve_secretkey = secret
        self.monitor = socket.get_monitor_socket(_CLOSED_EVENTS)
        socket.connect(self.endpoint)
        self.socket = socket
        self._change(ConnectionState.CONNECTING, now)

    def close(self, now: float, failure: str = "") -> None:
        """Close the socket; what was sent and not answered stays undecided."""
        if self.socket is not None and self.monitor is not None:
            self.socket.disable_monitor()
            self.monitor.close(0)
            self.socket.close(0)
        self.socket = self.monitor = None
        self.under_way = 0
        self.silent = False
        self.failure = failure
        self._change(ConnectionState.BROKEN if failure else ConnectionState.IDLE, now)

    def ready(self, now: float) -> None:
        """The handshake is done: requests can be sent."""
        self._change(ConnectionState.READY, now)

    def read_monitor(self) -> str:
        """Why the socket broke, for people, "" if it did not. The caller closes it."""
        failure = ""
        while self.monitor is not None:
            try:
                frames = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                break
            event, _ = _EVENT.unpack(frames[0])
            failure = failure or self._describe_failure(event)
        return failure

    @property
    def gathers(self) -> bool:
        """Whether what is unsent had better wait for company.

        It does while the node has more to do already than this, so that neither waits for the
        other: the more a frame brings, the less each request costs, at the node and its replicas.
        The rule is Nagle's (RFC 896), with answers for acknowledgements; few requests never wait.
        """
        return self.under_way >= GATHER_FROM and len(self.unsent) < self.under_way

    def flush(self) -> bool:
        """Send what is unsent; False when the socket takes no more for now."""
        if self.socket is None:
            return False
        while self.unsent:
            taken = self._fitting()
            frame = encode_requests([pending.request for pending in self.unsent[:taken]])
            try:
                self.socket.send(frame, zmq.NOBLOCK)
            except zmq.Again:
                return False
            self.under_way += taken
            if taken == len(self.unsent):
                self.unsent = []
            else:
                del self.unsent[:taken]
        return True

    def _fitting(self) -> int:
        """How many of the unsent requests go into one frame: at least one."""
        unsent = self.unsent
        count = min(len(unsent), MESSAGES_PER_FRAME_MAX)
        total = count * _MESSAGE_OVERHEAD_BYTES + sum([one.content_bytes for one in unsent])
        if total <= self._frame_bytes_max:
            return count
        total = 0
        for index, pending in enumerate(unsent[:count]):
            total += pending.content_bytes + _MESSAGE_OVERHEAD_BYTES
            if total > self._frame_bytes_max:
                return max(index, 1)
        return count

    def _describe_failure(self, event: int) -> str:
        if event & _HANDSHAKE_FAILED:
            return "refused the keys of this cluster"
        if self.state is ConnectionState.READY:
            return "closed the connection"
        return "refused the connection"

    def _change(self, state: ConnectionState, now: float) -> None:
        self.state = state
        self.changed_at = now
