"""What the runtime's tests share: a small cluster's keys and ports, clients, and fake parts."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable
from pathlib import Path

import zmq

from kvctl_node.config import ClusterConfig, LimitsConfig, NodeSpec, QuorumConfig, TimingConfig
from kvctl_node.errors import StorageError
from kvctl_node.outbox import Event, Outbox
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientReply,
    ClientRequest,
    QuorumSet,
)
from kvctl_node.protocol.codec import decode_each_reply, encode_requests
from kvctl_node.protocol.messages import (
    PeerFrame,
)
from kvctl_node.runtime.security import CurveKey, create_keys, key_path, load_key
from kvctl_node.runtime.system_clock import SystemClock
from kvctl_node.runtime.zmq_transport import ZmqTransport

DEADLINE_S = 10.0


def free_ports(count: int) -> list[int]:
    """Ports nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def make_config(names: tuple[str, ...], limits: LimitsConfig | None = None) -> ClusterConfig:
    ports = free_ports(3 * len(names))
    specs = tuple(
        NodeSpec(
            name,
            client_port=ports[3 * place],
            peer_port=ports[3 * place + 1],
            event_port=ports[3 * place + 2],
        )
        for place, name in enumerate(names)
    )
    return ClusterConfig(
        nodes=specs,
        quorum=QuorumConfig(n=1, r=1, w=1),
        limits=limits or LimitsConfig(),
        timing=TimingConfig(),
        cluster_id="c" * 32,
        name="test",
    )


def make_keys(directory: Path, names: tuple[str, ...]) -> Path:
    keys = directory / "keys"
    create_keys(keys, names)
    return keys


def wait_until(condition: Callable[[], bool], *turns: Callable[[], object]) -> None:
    """Turn whatever has to be turned until the condition holds; fails after a deadline."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        for turn in turns:
            turn()


class Client:
    """A DEALER with a key, as kvctl connects."""

    def __init__(self, endpoint: str, server: CurveKey, own: CurveKey | None) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self.context.socket(zmq.DEALER)
        self.socket.setsockopt(zmq.LINGER, 0)
        if own is not None:
            self.socket.setsockopt(zmq.CURVE_SERVERKEY, server.public.encode())
            self.socket.setsockopt(zmq.CURVE_PUBLICKEY, own.public.encode())
            self.socket.setsockopt(zmq.CURVE_SECRETKEY, own.secret.encode())
        self.monitor = self.socket.get_monitor_socket()
        self.socket.connect(endpoint)

    def send(self, requests: list[ClientRequest]) -> None:
        self.socket.send(encode_requests(requests))

    def replies(self) -> list[ClientReply] | None:
        try:
            return decode_each_reply(self.socket.recv(zmq.NOBLOCK))
        except zmq.Again:
            return None

    def close(self) -> None:
        self.socket.disable_monitor()
        self.context.destroy(linger=0)


def client_of(config: ClusterConfig, keys: Path, node: str, key: CurveKey | None = None) -> Client:
    return Client(
        config.node(node).client_endpoint,
        load_key(key_path(keys, node)),
        key or load_key(key_path(keys, "client")),
    )


class EchoNode:
    """Answers every client request, remembers everything else."""

    ring_epoch = 7

    def __init__(self) -> None:
        self.outbox = Outbox()
        self.frames: list[PeerFrame] = []
        self.requests: list[ClientRequest] = []
        self.links: list[tuple[str, bool]] = []
        self.ticks = 0
        self.wakeup_s = 1.0

    def start(self, now: Instant) -> None:
        self.outbox.record("started")

    def on_link(self, peer: str, connected: bool, now: Instant) -> None:
        self.links.append((peer, connected))

    def on_peer_frame(self, frame: PeerFrame, now: Instant) -> None:
        self.frames.append(frame)

    def on_client_requests(
        self, client: bytes, requests: list[ClientRequest], now: Instant
    ) -> None:
        self.requests.extend(requests)
        for request in requests:
            self.outbox.reply(client, QuorumSet(request.id))

    def tick(self, now: Instant) -> None:
        self.ticks += 1

    def next_wakeup_s(self, now: Instant) -> float:
        return self.wakeup_s


class StandingClock:
    """A clock that a test moves."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def now(self) -> Instant:
        return Instant(self.at_s, 0)


class FakeStorage:
    """Records what is asked of it; `fail` makes the next commit fail."""

    def __init__(self, trace: list[str]) -> None:
        self.trace = trace
        self.fail = False
        self.housekeeping_waits = False
        self.meta: dict[str, bytes] = {}

    def commit(self) -> None:
        self.trace.append("commit")
        if self.fail:
            raise StorageError("the disk is gone.")

    def maintain(self) -> bool:
        self.trace.append("maintain")
        return self.housekeeping_waits

    def set_metadata(self, name: str, value: bytes) -> None:
        self.trace.append(f"set {name}")
        self.meta[name] = value


class Journal:
    """Notes that it was written to, and what kinds of events came."""

    def __init__(self, trace: list[str]) -> None:
        self.trace = trace
        self.kinds: list[str] = []

    def write(self, events: list[Event], now: Instant) -> None:
        self.trace.append("events")
        self.kinds.extend(event.kind for event in events)


def open_transport(config: ClusterConfig, keys: Path, name: str) -> ZmqTransport:
    return ZmqTransport(config, name, keys, SystemClock())
