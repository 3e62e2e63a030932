"""The doorman: decides, for every new connection, whether its CURVE key is on the allow-list.

libzmq asks over ZAP, the ZeroMQ Authentication Protocol (RFC 27): during each handshake it sends a
request to `inproc://zeromq.zap.01` in the same context and goes on when the reply says 200. The
socket behind that address is polled by the node's own loop; no thread is needed, and a handshake
simply waits until the turn is over.

Two domains, two lists: sockets of the domain `peer` let in the keys of nodes, sockets of the domain
`client` let in the one key clients share. A node's key opens no client socket and the client's key
no peer socket, so the program under test cannot pose as a replica.

The reply names the owner of the key as the connection's User-Id, and libzmq attaches it to every
message that arrives over that connection: the transport holds peers to it.

An unknown key may belong to a node that was added a moment ago, so it makes the doorman read the
key directory again, though at most once a second: strangers cannot keep the node busy with it.

A refusal is final for the connection that asked (ZAP status 400 makes libzmq's client end give up);
whoever has reason to hope dials again, as `peer_link` does.
"""

from __future__ import annotations

import logging
from pathlib import Path

import zmq

from kvctl_node.ports import Clock
from kvctl_node.runtime.security import CLIENT_KEY_NAME, read_public_keys

PEER_DOMAIN = b"peer"
CLIENT_DOMAIN = b"client"
ZAP_ENDPOINT = "inproc://zeromq.zap.01"
ZAP_VERSION = b"1.0"
REREAD_INTERVAL_S = 1.0
HANDSHAKES_PER_TURN_MAX = 64
_PUBLIC_KEY_BYTES = 32

logger = logging.getLogger(__name__)


class Authenticator:
    """Answers ZAP requests from the keys in one directory. Bind it before any other socket."""

    def __init__(self, context: zmq.Context[zmq.Socket[bytes]], keys_dir: Path, clock: Clock):
        self.accepted = 0
        """Handshakes let in."""
        self.refused = 0
        """Handshakes turned away."""
        self._keys_dir = keys_dir
        self._clock = clock
        self._owners: dict[bytes, str] = {}
        self._read_at_s = 0.0
        self.socket: zmq.Socket[bytes] = context.socket(zmq.REP)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.bind(ZAP_ENDPOINT)
        self._read_keys()

    def answer_waiting(self) -> bool:
        """Answer the handshakes that wait, up to a bound per turn; False if some may be left."""
        for _ in range(HANDSHAKES_PER_TURN_MAX):
            try:
                request = self.socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return True
            self.socket.send_multipart(self._reply(request))
        return False

    def close(self) -> None:
        """Release the socket; CURVE handshakes in this context fail from now on."""
        self.socket.close(linger=0)

    def _reply(self, request: list[bytes]) -> list[bytes]:
        """One ZAP reply: version, request id, status code, status text, user id, metadata."""
        request_id = request[1] if len(request) > 1 else b""
        owner = self._admitted(request)
        if owner is None:
            self.refused += 1
            logger.warning("refused a connection: its key is not on the allow-list")
            return [ZAP_VERSION, request_id, b"400", b"unknown key", b"", b""]
        self.accepted += 1
        return [ZAP_VERSION, request_id, b"200", b"OK", owner.encode("ascii"), b""]

    def _admitted(self, request: list[bytes]) -> str | None:
        """The owner of the key that knocks, if the domain is open to it."""
        if len(request) != 7:
            return None
        version, _, domain, _, _, mechanism, key = request
        if version != ZAP_VERSION or mechanism != b"CURVE" or len(key) != _PUBLIC_KEY_BYTES:
            return None
        owner = self._owner_of(key)
        if owner is None or domain not in (PEER_DOMAIN, CLIENT_DOMAIN):
            return None
        return owner if (owner == CLIENT_KEY_NAME) == (domain == CLIENT_DOMAIN) else None

    def _owner_of(self, key: bytes) -> str | None:
        """Look a key up, in the directory too if it was not read within the last second."""
        owner = self._owners.get(key)
        if owner is None and self._clock.now().monotonic_s >= self._read_at_s + REREAD_INTERVAL_S:
            self._read_keys()
            owner = self._owners.get(key)
        return owner

    def _read_keys(self) -> None:
        self._read_at_s = self._clock.now().monotonic_s
        self._owners, unreadable = read_public_keys(self._keys_dir)
        for error in unreadable:
            logger.warning("left a key file out of the allow-list: %s", error.message)
