"""A node that does what a test tells it to, on a real socket: CURVE, ROUTER, the real codec.

All scripted nodes of a test share one store, so together they answer like a cluster would. A test
replaces `on_request` to refuse, to stay silent, or to close the connection instead.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import zmq

from kvctl.client.client import Client
from kvctl_node.causality.causal_context import EMPTY_CONTEXT
from kvctl_node.causality.context_token import decode_token
from kvctl_node.causality.siblings import (
    EMPTY_OBJECT,
    StoredObject,
    encode_context,
    encode_object,
    put_version,
)
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig, TimingConfig
from kvctl_node.protocol.client_messages import (
    ClientDescribe,
    ClientGet,
    ClientPut,
    ClientReply,
    ClientRequest,
    ClientScan,
    ClientSetQuorum,
    ClientStatus,
    Description,
    Failed,
    GetDone,
    PutDone,
    PutKind,
    QuorumSet,
    ReplyMessage,
    ScanDone,
    StatusDone,
)
from kvctl_node.protocol.codec import decode_requests, encode_replies
from kvctl_node.ring.claim import claim
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.server import Server
from kvctl_node.runtime.security import create_keys, key_path, load_key

_Request = TypeVar("_Request")

CLUSTER_ID = "c1"
PARTITIONS = 64
NAMES = ["n1", "n2", "n3"]
DEADLINE_S = 10.0


def wait_until(condition: Callable[[], bool], what: str) -> None:
    """Poll a condition of another thread until it holds."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain until {what}"
        time.sleep(0.001)


class Silence(Exception):
    """Raised by a script: do not answer this request."""


class Hangup(Exception):
    """Raised by a script: close the connection instead of answering."""


class SharedStore:
    """What all scripted nodes of a test store: applies every request identity once."""

    def __init__(self, names: list[str]) -> None:
        self.objects: dict[bytes, StoredObject] = {}
        self.applied: dict[tuple[int, int], bytes] = {}
        self.ring: PartitionMap = claim(
            [Server(name, 1.0, "") for name in names], partitions=PARTITIONS, n=min(3, len(names))
        )
        self.endpoints: dict[str, str] = {}

    def answer(self, node: str, request: ClientRequest) -> ClientReply:
        """The answer of a healthy cluster."""
        if isinstance(request, ClientPut):
            return self.put(node, request)
        if isinstance(request, ClientGet):
            stored = self.objects.get(request.key)
            content = b"" if stored is None else encode_object(stored)
            return GetDone(request.id, content, node, (node,))
        if isinstance(request, ClientScan):
            return self.page(request)
        if isinstance(request, ClientDescribe):
            members = len(self.endpoints)
            return Description(
                request.id,
                CLUSTER_ID,
                "test",
                self.ring.to_document(),
                (min(3, members), 2, 2, "sloppy"),
                dict(self.endpoints),
            )
        if isinstance(request, ClientStatus):
            return StatusDone(request.id, {"name": node})
        assert isinstance(request, ClientSetQuorum)
        return QuorumSet(request.id)

    def put(self, node: str, request: ClientPut) -> PutDone:
        """Apply a put, unless its request id was applied before."""
        identity = (request.client, request.sequence)
        context = self.applied.get(identity)
        if context is None:
            stored = self.objects.get(request.key, EMPTY_OBJECT)
            seen = EMPTY_CONTEXT
            if request.kind == PutKind.OVERWRITE:
                seen = stored.context
            elif request.kind == PutKind.CONTEXT:
                seen = decode_token(request.context, cluster_id=CLUSTER_ID, key=request.key)
            after, dot = put_version(
                stored, request.value, actor=f"{node}#1", seen=seen, stamp_ms=1, request=identity
            )
            self.objects[request.key] = after
            context = encode_context(seen.with_dot(dot.actor, dot.counter, 1))
            self.applied[identity] = context
        siblings = len(self.objects[request.key].siblings)
        return PutDone(request.id, context, siblings, node, (node,))

    def page(self, request: ClientScan) -> ScanDone:
        """Pages in (partition, key) order; one empty page at the start of every scan."""
        if (request.partition, request.key) == (0, b""):
            return ScanDone(request.id, (), 0, b"\x00")
        order = sorted((self.ring.partition_of(key), key) for key in self.objects)
        rest = [
            (partition, key)
            for partition, key in order
            if (partition, key) >= (request.partition, request.key)
            and key.startswith(request.prefix)
        ]
        page, after = rest[: request.limit], rest[request.limit :]
        entries = tuple((key, encode_object(self.objects[key])) for _, key in page)
        if request.keys_only:
            entries = tuple((key, b"") for key, _ in entries)
        following = after[0] if after else (-1, b"")
        return ScanDone(request.id, entries, *following)


class ScriptedNode:
    """One node; its thread runs from `start` to `stop`."""

    def __init__(self, name: str, store: SharedStore, keys_dir: Path) -> None:
        self.name = name
        self.store = store
        self.frames: list[list[ClientRequest]] = []
        """Every frame received, in order."""
        self.frames_done = 0
        """How many frames have been received and their answers sent."""
        self.on_request: Callable[[ClientRequest], ClientReply] = self.answer
        self.pack: Callable[[list[ClientReply]], list[ReplyMessage]] = list
        """The replies of a frame as they are sent."""
        self.port = 0
        self._key = load_key(key_path(keys_dir, name))
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    def answer(self, request: ClientRequest) -> ClientReply:
        """What a healthy node says."""
        return self.store.answer(self.name, request)

    @property
    def requests(self) -> list[ClientRequest]:
        """Every request received, in order, without the client's questions for the map."""
        flat = [request for frame in list(self.frames) for request in frame]
        return [request for request in flat if not isinstance(request, ClientDescribe)]

    def start(self, secret: str | None = None) -> None:
        """Bind (the same port as before, if there was one) and serve."""
        self._stopping.clear()
        bound = threading.Event()
        self._thread = threading.Thread(
            target=self._serve, args=(bound, secret or self._key.secret), daemon=True
        )
        self._thread.start()
        assert bound.wait(DEADLINE_S)
        self.store.endpoints[self.name] = f"tcp://127.0.0.1:{self.port}"

    def stop(self) -> None:
        """Close the socket and end the thread; as abrupt for clients as a kill."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join(DEADLINE_S)
            assert not self._thread.is_alive()
            self._thread = None

    def _serve(self, bound: threading.Event, secret: str) -> None:
        context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        try:
            while not self._stopping.is_set():
                socket = context.socket(zmq.ROUTER)
                socket.linger = 0
                socket.curve_server = True
                socket.curve_secretkey = secret.encode()
                self._bind(socket)
                bound.set()
                try:
                    while not self._stopping.is_set():
                        if socket.poll(5):
                            self._turn(socket)
                except Hangup:
                    pass
                finally:
                    socket.close(0)
        finally:
            context.term()

    def _bind(self, socket: zmq.Socket[bytes]) -> None:
        """Bind; a port is not free again at the very moment its socket is closed."""
        deadline = time.monotonic() + DEADLINE_S
        while True:
            try:
                if self.port:
                    socket.bind(f"tcp://127.0.0.1:{self.port}")
                else:
                    self.port = socket.bind_to_random_port("tcp://127.0.0.1")
                return
            except zmq.ZMQError:
                assert time.monotonic() < deadline
                time.sleep(0.001)

    def _turn(self, socket: zmq.Socket[bytes]) -> None:
        client, data = socket.recv_multipart()
        requests = decode_requests(data)
        self.frames.append(requests)
        replies: list[ClientReply] = []
        for request in requests:
            with contextlib.suppress(Silence):
                replies.append(self.on_request(request))
        if replies:
            socket.send_multipart([client, encode_replies(self.pack(replies))])
        self.frames_done += 1

    def refuse(self, kind: int, message: str = "refused.", hint: str = "try later.") -> None:
        """From now on answer every put and get with this failure."""

        def on_request(request: ClientRequest) -> ClientReply:
            if isinstance(request, ClientPut | ClientGet):
                return Failed(request.id, kind, message, hint)
            return self.answer(request)

        self.on_request = on_request

    def fall_silent(self, *, applying: bool = False) -> None:
        """From now on answer no put and no get, whether or not it applies them."""

        def on_request(request: ClientRequest) -> ClientReply:
            if isinstance(request, ClientPut | ClientGet):
                if applying:
                    self.answer(request)
                raise Silence
            return self.answer(request)

        self.on_request = on_request

    def hang_up(self, *, applying: bool = False) -> None:
        """At the next put or get close the connection; afterwards serve as before."""

        def on_request(request: ClientRequest) -> ClientReply:
            if isinstance(request, ClientPut | ClientGet):
                self.on_request = self.answer
                if applying:
                    self.answer(request)
                raise Hangup
            return self.answer(request)

        self.on_request = on_request


class ScriptedCluster:
    """Three scripted nodes with one store, and clients of them."""

    def __init__(self, directory: Path) -> None:
        self.keys_dir = directory / "keys"
        create_keys(self.keys_dir, NAMES)
        self.store = SharedStore(NAMES)
        self.nodes = {name: ScriptedNode(name, self.store, self.keys_dir) for name in NAMES}
        self._clients: list[Client] = []

    def start(self) -> None:
        """Start all nodes."""
        for node in self.nodes.values():
            node.start()

    def client(self, timeout_s: float = 5.0, *, clock_skew_ms: int = 0) -> Client:
        """A new client of all nodes, closed by `stop`."""
        specs = tuple(
            NodeSpec(name, client_port=node.port or 1) for name, node in self.nodes.items()
        )
        config = ClusterConfig(
            specs,
            QuorumConfig(n=3, r=2, w=2),
            partitions=PARTITIONS,
            cluster_id=CLUSTER_ID,
            name="test",
            timing=TimingConfig(clock_skew_ms=clock_skew_ms),
        )
        client = Client(config, self.keys_dir, timeout_s=timeout_s)
        self._clients.append(client)
        return client

    def owners_of(self, key: bytes) -> list[ScriptedNode]:
        """The nodes that own a key, primary first."""
        ring = self.store.ring
        return [self.nodes[name] for name in ring.owners_of(ring.partition_of(key))]

    def received(self, kind: type[_Request]) -> list[_Request]:
        """The requests of a kind that came to any node."""
        every = [one for node in self.nodes.values() for one in node.requests]
        return [one for one in every if isinstance(one, kind)]

    def stop(self) -> None:
        """Close the clients, stop the nodes."""
        for client in self._clients:
            client.close()
        for node in self.nodes.values():
            node.stop()
