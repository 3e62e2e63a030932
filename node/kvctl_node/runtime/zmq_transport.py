"""A node's sockets: what arrives becomes messages, what the outbox holds becomes frames.

    client ROUTER   bound      requests in, replies out; never subject to injected faults
    peer ROUTER     bound      frames of other nodes in; nothing is ever sent through it
    DEALER per peer connected  frames out (`peer_link`)
    event PUB       bound      events out

Invariants:

* nothing blocks: a frame that cannot be queued at once is dropped and counted;
* at most one frame per destination and turn, unless it would get too large, then several;
* at most a bounded number of frames and bytes is taken in per turn;
* a peer frame counts only if the name in it is the owner of the CURVE key it came under;
* injected faults (`link_faults`) act on peer messages only, and without one they cost one look;
* bytes that are not a frame are counted by reason, logged sparingly and dropped.
"""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import zmq

from kvctl_node.config import ClusterConfig, NodeSpec
from kvctl_node.errors import StoreError
from kvctl_node.outbox import Outbox
from kvctl_node.ports import Clock, Instant
from kvctl_node.protocol.client_messages import (
    ClientRequest,
    ReplyMessage,
)
from kvctl_node.protocol.codec import (
    MalformedFrameError,
    decode_peer_frame,
    decode_requests,
    encode_peer_frame,
    encode_replies,
)
from kvctl_node.protocol.messages import (
    PeerFrame,
    PeerMessage,
)
from kvctl_node.runtime.authenticator import CLIENT_DOMAIN, PEER_DOMAIN, Authenticator
from kvctl_node.runtime.curve_sockets import bind, link_socket, server_socket
from kvctl_node.runtime.frame_splitting import split_into_frames
from kvctl_node.runtime.link_delays import HeldFrame, LinkDelays
from kvctl_node.runtime.link_faults import LinkFaults
from kvctl_node.runtime.peer_link import PeerLink
from kvctl_node.runtime.readiness import Readiness
from kvctl_node.runtime.security import key_path, load_key, load_public_key
from kvctl_node.runtime.traffic_counters import TrafficCounters

FRAMES_PER_TURN_MAX = 512
"""Per socket. Bounds how long a turn, and with it the oldest answer, can take."""
BYTES_PER_TURN_MAX = 32 * 1024 * 1024
"""Per socket. Bounds the memory of a turn when frames are large."""
REPLACE_INTERVAL_S = 1.0
"""How often broken links are replaced at most."""
LINK_SILENCE_FACTOR = 3
"""TCP may go unacknowledged this many times longer than the core tolerates silence."""

# Plain integers: combining two members of an enum costs as much as receiving a frame.
_NOBLOCK, _POLLIN, _EVENTS = int(zmq.NOBLOCK), int(zmq.POLLIN), int(zmq.EVENTS)
_MORE = int(zmq.SNDMORE) | _NOBLOCK

logger = logging.getLogger(__name__)

_Taken = TypeVar("_Taken")


class ZmqTransport:
    """All sockets of one node. One thread uses it; `close` releases everything."""

    def __init__(
        self,
        config: ClusterConfig,
        name: str,
        keys_dir: Path,
        clock: Clock,
        faults: LinkFaults | None = None,
    ) -> None:
        """Bind and connect. Raises `ConfigError` (keys, addresses) or `PortTakenError`."""
        self.name = name
        self.faults = faults or LinkFaults(name, random.Random())
        """What happens to peer messages on purpose; nothing until a fault is set."""
        self._delays = LinkDelays()
        self.peer_traffic = TrafficCounters()
        self.client_traffic = TrafficCounters()
        self.handshakes_failed = 0
        """Links replaced because the other end did not speak as it should."""
        self._config = config
        self._limits = config.limits
        self._clock = clock
        self._replaced_at_s = 0.0
        self._keys_dir = keys_dir
        self._own_key = load_key(key_path(keys_dir, name))
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._readiness = Readiness()
        self._peers_wait = self._clients_wait = False
        """Whether there may be frames of peers or of clients, as of the last `poll`."""
        self._ready: set[int] = set()
        """Every descriptor that was readable then: sockets', monitors', and those watched."""
        self._links: dict[str, PeerLink] = {}
        self._monitors: dict[int, PeerLink] = {}
        """The links by their monitors' descriptors."""
        self._some_broken = False
        """Whether a link waits to be replaced."""
        self._trace, self._ring_epoch = b"", 0
        """The trace clock and the ring's epoch as of this turn, for its frames."""
        self._framed: list[PeerMessage] = []
        """The last messages of this turn that made one frame, and that frame."""
        self._frames: list[tuple[list[PeerMessage], bytes]] = []
        try:
            # First of all: without it libzmq would let in any key.
            self._authenticator = Authenticator(self._context, keys_dir, clock)
            self._doorbell = self._readiness.add_socket(self._authenticator.socket)
            self._bind_all(config.node(name))
            for spec in config.nodes:
                if spec.name != name:
                    self.connect_peer(spec)
        except (StoreError, zmq.ZMQError):
            self._context.destroy(linger=0)
            raise

    def _bind_all(self, own: NodeSpec) -> None:
        """Listen on the node's three ports."""
        self._peers = self._server(zmq.ROUTER, PEER_DOMAIN)
        self._clients = self._server(zmq.ROUTER, CLIENT_DOMAIN)
        self._events = self._server(zmq.PUB, CLIENT_DOMAIN)
        # Mandatory: a reply that cannot be queued is an error to count, not silently gone.
        self._clients.setsockopt(zmq.ROUTER_MANDATORY, 1)
        bind(self._peers, own.peer_endpoint, self.name)
        bind(self._clients, own.client_endpoint, self.name)
        bind(self._events, own.event_endpoint, self.name)
        self._peers_descriptor = self._readiness.add_socket(self._peers)
        self._clients_descriptor = self._readiness.add_socket(self._clients)

    def _server(self, kind: int, domain: bytes) -> zmq.Socket[bytes]:
        return server_socket(
            self._context, kind, own=self._own_key, domain=domain, limits=self._limits
        )

    def connect_peer(self, spec: NodeSpec) -> None:
        """Begin to keep a link to a peer. Raises `ConfigError` if its public key is missing."""
        socket = link_socket(
            self._context,
            own=self._own_key,
            server=load_public_key(key_path(self._keys_dir, spec.name)),
            limits=self._limits,
            silence_max_ms=LINK_SILENCE_FACTOR * self._config.timing.link_dead_after_ms,
        )
        link = PeerLink(spec.name, socket, spec.peer_endpoint)
        self._links[spec.name] = link
        self._monitors[self._readiness.add_socket(link.monitor)] = link

    # ------------------------------------------------------------ in

    def watch(self, descriptor: int) -> None:
        """Let `poll` also return when this file descriptor becomes readable."""
        self._readiness.add(descriptor)

    def unwatch(self, descriptor: int) -> None:
        """Undo `watch`."""
        self._readiness.remove(descriptor)

    def stop_accepting(self) -> None:
        """Leave clients' requests in their queue from now on; replies still go out."""
        self._readiness.remove(self._clients_descriptor)

    def poll(self, timeout_ms: int) -> bool:
        """Wait for anything to do, at most `timeout_ms`; handshakes are answered right here.

        False if the time passed and nothing came.
        """
        ready = self._ready = self._readiness.wait(timeout_ms)
        self._peers_wait = self._peers_descriptor in ready
        self._clients_wait = self._clients_descriptor in ready
        if self._doorbell in ready and not self._authenticator.answer_waiting():
            self._readiness.ask_again(self._doorbell)
        return bool(ready)

    def receive_link_changes(self) -> list[tuple[str, bool]]:
        """Links that came up (True) or went down (False), as (peer, connected), in order.

        Broken links are replaced here, a second after the last time.
        """
        changes: list[tuple[str, bool]] = []
        if not self._ready.isdisjoint(self._monitors):
            for descriptor, link in self._monitors.items():
                if descriptor in self._ready:
                    changes += [(link.peer, connected) for connected in link.receive_changes()]
            self._some_broken = any(link.broken for link in self._links.values())
        if self._some_broken:
            self._replace_broken_links()
        return changes

    def _replace_broken_links(self) -> None:
        now_s = self._clock.now().monotonic_s
        if now_s < self._replaced_at_s + REPLACE_INTERVAL_S:
            return
        self._replaced_at_s = now_s
        for descriptor, link in list(self._monitors.items()):
            if link.broken:
                self.handshakes_failed += 1
                self._readiness.remove(descriptor)
                del self._monitors[descriptor]
                link.close()
                self.connect_peer(self._config.node(link.peer))
        self._some_broken = False

    def receive_peer_frames(self) -> list[PeerFrame]:
        """The frames of other nodes that were waiting at the last `poll`."""
        frames: list[PeerFrame] = []
        if self._peers_wait:
            self._drain(
                self._peers_descriptor,
                self._peers,
                self.peer_traffic,
                self._accept_peer_frame,
                frames,
            )
            if self.faults.active:
                frames = self._let_through(frames)
        return frames

    def _let_through(self, frames: list[PeerFrame]) -> list[PeerFrame]:
        """The frames that came over links which are not cut."""
        passed = []
        for frame in frames:
            if self.faults.refuses(frame.sender, len(frame.messages)):
                self.peer_traffic.dropped["link_fault"] += len(frame.messages)
            else:
                passed.append(frame)
        return passed

    def receive_client_requests(self) -> list[tuple[bytes, list[ClientRequest]]]:
        """(client identity, requests) per frame that was waiting at the last `poll`."""
        batches: list[tuple[bytes, list[ClientRequest]]] = []
        if self._clients_wait:
            self._drain(
                self._clients_descriptor,
                self._clients,
                self.client_traffic,
                self._accept_requests,
                batches,
            )
        return batches

    def _drain(
        self,
        descriptor: int,
        socket: zmq.Socket[bytes],
        traffic: TrafficCounters,
        accept: Callable[[bytes, zmq.Frame], _Taken],
        taken: list[_Taken],
    ) -> None:
        """Take in what waits at a ROUTER, within the bounds of a turn; keep what is well formed."""
        receive = socket.recv
        stop_at = traffic.bytes_in + BYTES_PER_TURN_MAX
        for _ in range(FRAMES_PER_TURN_MAX):
            try:
                identity = receive(_NOBLOCK)
            except zmq.Again:
                return  # its descriptor was readable for another reason
            frame = receive(_NOBLOCK, copy=False)
            try:
                if frame.more:
                    raise self._multipart(socket)
                taken.append(accept(identity, frame))
            except MalformedFrameError as error:
                traffic.malformed[error.reason] += 1
                logger.warning("dropped a frame (%s): %s", error.reason, error.message)
            # Asking is cheaper than being refused: an exception takes as long as two frames.
            if not int(socket.get(_EVENTS)) & _POLLIN:
                return
            if traffic.bytes_in >= stop_at:
                break
        self._readiness.ask_again(descriptor)

    def _multipart(self, socket: zmq.Socket[bytes]) -> MalformedFrameError:
        """Skip the parts we did not ask for, so that the next read begins a message."""
        while socket.getsockopt(zmq.RCVMORE):
            socket.recv(zmq.NOBLOCK)
        return MalformedFrameError("multipart", "a message of more than one part.")

    def _accept_peer_frame(self, _identity: bytes, part: zmq.Frame) -> PeerFrame:
        """Decode a frame and hold its sender to the key it came under."""
        data = part.bytes
        frame = decode_peer_frame(data, self._limits.frame_bytes_max)
        owner = part.get("User-Id")
        if frame.sender != owner:
            raise MalformedFrameError(
                "impostor", f"a frame in the name of {frame.sender!r} came from {owner}."
            )
        self.peer_traffic.received(len(frame.messages), len(data))
        return frame

    def _accept_requests(
        self, identity: bytes, part: zmq.Frame
    ) -> tuple[bytes, list[ClientRequest]]:
        """Decode a client's frame."""
        data = part.bytes
        requests = decode_requests(data, self._limits.frame_bytes_max)
        self.client_traffic.received(len(requests), len(data))
        return identity, requests

    # ------------------------------------------------------------ out

    def send(self, outbox: Outbox, ring_epoch: int) -> None:
        """Hand every message of a turn to its socket. Whoever calls has committed before."""
        self._trace, self._ring_epoch = outbox.trace.encoded(), ring_epoch
        for peer, messages in outbox.to_peers.items():
            self._send_to_peer(peer, messages)
        self._framed, self._frames = [], []
        for client, replies in outbox.to_clients.items():
            self._send_to_client(client, replies)
            self._readiness.ask_again(self._clients_descriptor)

    def _send_to_peer(self, peer: str, messages: list[PeerMessage]) -> None:
        link = self._links.get(peer)
        traffic = self.peer_traffic
        if link is None or not link.connected:
            traffic.dropped["peer_unreachable"] += len(messages)
            return
        if self.faults.active:
            messages = self._past_faults(peer, messages)
        if messages:
            for part, data in self._peer_frames(messages):
                self._hand_over(link, data, len(part))

    def _peer_frames(self, messages: list[PeerMessage]) -> list[tuple[list[PeerMessage], bytes]]:
        """The frames of these messages. What a turn sends to several peers is encoded once."""
        if messages == self._framed:
            return self._frames
        bytes_max = self._limits.frame_bytes_max
        frames = split_into_frames(messages, self._encode_peer_frame, bytes_max, self.peer_traffic)
        if frames and frames[0][0] is messages:
            self._framed, self._frames = messages, frames
        return frames

    def _encode_peer_frame(self, messages: list[PeerMessage]) -> bytes:
        return encode_peer_frame(PeerFrame(self.name, self._ring_epoch, messages, self._trace))

    def _hand_over(self, link: PeerLink, data: bytes, messages: int) -> None:
        try:
            link.socket.send(data, _NOBLOCK)
        except zmq.Again:
            self.peer_traffic.dropped["peer_queue_full"] += messages
        else:
            self.peer_traffic.sent(messages, len(data))

    def _past_faults(self, peer: str, messages: list[PeerMessage]) -> list[PeerMessage]:
        """What injected faults leave to be sent now; what they delay is kept for later."""
        departures = self.faults.outgoing(peer, messages)
        if departures is None:
            return messages
        dropped = self.peer_traffic.dropped
        if departures.lost:
            dropped["link_fault"] += departures.lost
        if departures.delayed:
            now_s = self._clock.now().monotonic_s
            for wait_ms, waiting in departures.delayed.items():
                for part, data in self._peer_frames(waiting):
                    frame = HeldFrame(peer, data, len(part))
                    if not self._delays.hold(frame, now_s + wait_ms / 1000):
                        dropped["delay_queue_full"] += len(part)
        return departures.at_once

    def on_tick(self, now: Instant) -> None:
        """Send what injected delays kept back until now.

        It was decided in earlier turns, whose commits are done.
        """
        for held in self._delays.take_due(now.monotonic_s):
            link = self._links.get(held.peer)
            if link is None or not link.connected:
                self.peer_traffic.dropped["peer_unreachable"] += held.messages
            elif self.faults.stops(held.peer, held.messages):
                self.peer_traffic.dropped["link_fault"] += held.messages
            else:
                self._hand_over(link, held.data, held.messages)

    def next_wakeup_s(self, now: Instant) -> float | None:
        """Seconds until a delayed frame is due, None if none is."""
        next_s = self._delays.next_s()
        return None if next_s is None else next_s - now.monotonic_s

    def _send_to_client(self, client: bytes, replies: list[ReplyMessage]) -> None:
        traffic = self.client_traffic
        bytes_max = self._limits.frame_bytes_max
        for part, data in split_into_frames(replies, encode_replies, bytes_max, traffic):
            try:
                self._clients.send(client, _MORE)
                self._clients.send(data, _NOBLOCK)
            except zmq.ZMQError as error:
                traffic.dropped[_why_not_to_client(error)] += len(part)
            else:
                traffic.sent(len(part), len(data))

    def publish(self, topic: bytes, line: bytes) -> None:
        """Offer one event to subscribers; those whose queue is full miss it."""
        self._events.send(topic, _MORE)
        self._events.send(line, _NOBLOCK)

    # ------------------------------------------------------------ about

    def snapshot(self) -> dict[str, object]:
        """Counters, for status and metrics."""
        return {
            "peers": self.peer_traffic.snapshot(),
            "clients": self.client_traffic.snapshot(),
            "links": {
                link.peer: {"connected": link.connected, "connections": link.connections}
                for link in self._links.values()
            },
            "handshakes_accepted": self._authenticator.accepted,
            "handshakes_failed": self.handshakes_failed,
            "handshakes_refused": self._authenticator.refused,
            "faults": [fault.id for fault in self.faults.reports()],
            "cut_peers": self.faults.cut_peers(),
            "delayed_frames": len(self._delays),
            "delayed_bytes": self._delays.bytes,
        }

    def close(self) -> None:
        """Close every socket. Frames handed over before may take up to `LINGER_MS` to leave."""
        for link in self._links.values():
            link.close()
        for socket in (self._peers, self._clients, self._events):
            socket.close()
        self._authenticator.close()
        self._context.term()


def _why_not_to_client(error: zmq.ZMQError) -> str:
    """The word a lost reply is counted under; anything unexpected is not ours to hide."""
    if error.errno == zmq.EHOSTUNREACH:
        return "client_gone"
    if error.errno == zmq.EAGAIN:
        return "client_queue_full"
    raise error
