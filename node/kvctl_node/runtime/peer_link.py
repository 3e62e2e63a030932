"""One directed link: this node's connection to one peer, and whether it stands.

Peer traffic is one-way per connection: what n1 says to n2 goes over n1's DEALER into n2's ROUTER,
and n2's answers over n2's own DEALER. So a link that is cut in one direction only is just that.

A socket monitor tells when the link comes up (the CURVE handshake succeeded, so the peer is who it
should be and accepted us) and when it goes down (the connection closed). A closed connection is the
fastest news of a dead process there is; silence is judged by the core, by unanswered probes.

libzmq reconnects by itself with one exception: when the other end answered, but not with the
handshake it should (another program holds that port, or our key is refused), it gives up for good.
The trace of that is a closed connection that neither came up nor failed in transit. Such a link is
`broken`, and whoever owns it has to replace it.
"""

from __future__ import annotations

import logging
import struct

import zmq

_UP = int(zmq.EVENT_HANDSHAKE_SUCCEEDED)
_DOWN = int(zmq.EVENT_DISCONNECTED)
_INTERRUPTED = int(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL)
_MONITOR_EVENT = struct.Struct("=Hi")
"""First part of a monitor message: event number and its value, in native byte order."""

logger = logging.getLogger(__name__)


class PeerLink:
    """Owns a connected DEALER and its monitor."""

    def __init__(self, peer: str, socket: zmq.Socket[bytes], endpoint: str) -> None:
        self.peer = peer
        self.socket = socket
        self.connected = False
        self.broken = False
        """True once libzmq has given up on this connection."""
        self._interrupted = False
        """The connection was lost during the handshake: libzmq tries again."""
        self.connections = 0
        """How often the link came up."""
        # The monitor is attached first, so that no event of the connection is missed.
        self.monitor: zmq.Socket[bytes] = socket.get_monitor_socket(_UP | _DOWN | _INTERRUPTED)
        self.monitor.setsockopt(zmq.LINGER, 0)
        socket.connect(endpoint)

    def receive_changes(self) -> list[bool]:
        """Whether the link came up (True) or went down (False), in order, since the last call."""
        changes: list[bool] = []
        while True:
            try:
                head, _endpoint = self.monitor.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return changes
            event, _value = _MONITOR_EVENT.unpack(head)
            if event == _INTERRUPTED:
                self._interrupted = True
            elif event == _UP:
                self.connected = True
                self.broken = False
                self.connections += 1
                changes.append(True)
            elif self.connected:
                self.connected = False
                changes.append(False)
            elif self._interrupted:
                self._interrupted = False
            else:
                self.broken = True
                logger.warning("the handshake with %s failed", self.peer)

    def close(self) -> None:
        """Close both sockets; frames already queued may linger for a moment."""
        self.socket.disable_monitor()
        self.monitor.close(linger=0)
        self.socket.close()
