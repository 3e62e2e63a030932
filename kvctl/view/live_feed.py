"""The live feed: asks every node about itself at a steady pace, and listens to what they tell.

One coroutine per node asks, so a node that hangs delays nobody; each question has a deadline of its
own and carries everything there is to ask in one frame. A node without an answer is looked up among
the processes, in a thread, because that means files and `/proc`. Events come by subscription; a gap
in a node's numbers makes the next question follow at once, for what was missed is in its snapshot,
and so does word of a node that its peers have lost or found. `pace` says how often to ask.

Nothing here changes anything in the cluster: the feed attaches, and when it goes, only its sockets
go. All of them are opened and closed inside `run`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import zmq
import zmq.asyncio

from kvctl.cluster.directory import ClusterDirectory, cluster_directory
from kvctl.view.event_sequence import Place, missed_before
from kvctl.view.feed import Clock, FeedError, FeedKind, Sink
from kvctl.view.observation import (
    ClusterSeen,
    DeclaredNode,
    NodeAnswered,
    NodeEvent,
    NodeSilent,
    ProcessWord,
)
from kvctl.view.pace import LINK_EVENTS, SOONEST_MS, Pace
from kvctl_node.config import ClusterConfig, NodeSpec
from kvctl_node.documents import UNREADABLE
from kvctl_node.errors import ProtocolError, StoreError
from kvctl_node.protocol.client_messages import (
    AdminDone,
    ClientAdmin,
    ClientDescribe,
    ClientReply,
    ClientStatus,
    Description,
    StatusDone,
)
from kvctl_node.protocol.codec import decode_each_reply, encode_requests
from kvctl_node.ring.claim import claim
from kvctl_node.ring.server import Server
from kvctl_node.runtime.open_files import allow_open_files, client_files
from kvctl_node.runtime.security import CLIENT_KEY_NAME, key_path, load_key, load_public_key

LOOK_INTERVAL_S = 1.0
"""How often to look whether the cluster has other nodes."""
DEADLINE_S = 0.7
"""A node that has not answered by then counts as silent."""
_TICK_S = 0.001
"""A timer may be so much early by the clock it was set by."""
_QUESTIONS = 8
"""Ids reserved for one round of questions; a late answer to an earlier round is known by its id."""
_ENVELOPE = frozenset(("at", "node", "generation", "seq", "kind", "clock"))

ProcessLookup = Callable[[str], ProcessWord]
"""What the operating system says of a node; called in a thread."""


class LiveFeed:
    """Observes one cluster of this machine's user."""

    def __init__(
        self, name: str, *, clock: Clock, look_up: ProcessLookup, home: Path | None = None
    ) -> None:
        """Nothing is opened before `run`."""
        self._directory: ClusterDirectory = cluster_directory(name, home)
        self._clock = clock
        self._look_up = look_up
        self._seen: ClusterSeen | None = None
        self._pace = Pace(clock())
        self._places: dict[str, Place] = {}
        self._wake: dict[str, asyncio.Event] = {}
        self._operations: dict[str, int] = {}
        """Node → the number of the last operation it told of."""

    @property
    def kind(self) -> FeedKind:
        """LIVE."""
        return FeedKind.LIVE

    async def run(self, sink: Sink) -> None:
        """Observe until cancelled. Raises `FeedError` when there is no such cluster (any more)."""
        context = zmq.asyncio.Context()
        try:
            config = self._load()
            while True:
                self._tell_cluster(sink, self._from_config(config))
                config = await self._observe(config, context, sink)
        finally:
            context.destroy(linger=0)

    async def _observe(
        self, config: ClusterConfig, context: zmq.asyncio.Context, sink: Sink
    ) -> ClusterConfig:
        """Observe these nodes until the cluster has others; the configuration with them."""
        # Two connections with each node.
        allow_open_files(client_files(2 * len(config.nodes)), "the dashboard")
        keys = {spec.name: self._curve(spec) for spec in config.nodes}
        self._wake = {spec.name: asyncio.Event() for spec in config.nodes}
        watching = asyncio.ensure_future(self._until_other_nodes(config))
        tasks: list[asyncio.Future[Any]] = [watching]
        for spec in config.nodes:
            for observing in (self._ask_for_ever, self._listen):
                tasks.append(asyncio.ensure_future(observing(spec, keys[spec.name], context, sink)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()
            return watching.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _until_other_nodes(self, config: ClusterConfig) -> ClusterConfig:
        """The configuration, once other nodes are in it. Raises `FeedError` if it is gone."""
        changed_ns = 0
        while True:
            try:
                modified_ns = self._directory.config_path.stat().st_mtime_ns
            except OSError as error:
                raise FeedError(f"the cluster {config.name} is gone.") from error
            if modified_ns != changed_ns:
                changed_ns = modified_ns
                latest = self._load()
                if latest.nodes != config.nodes:
                    return latest
            await asyncio.sleep(LOOK_INTERVAL_S)

    def _load(self) -> ClusterConfig:
        try:
            return self._directory.load()
        except StoreError as error:
            raise FeedError(error.message, error.hint) from error

    def _curve(self, spec: NodeSpec) -> dict[int, str]:
        """The socket options with which to connect to a node."""
        keys = self._directory.keys
        try:
            own = load_key(key_path(keys, CLIENT_KEY_NAME))
            server = load_public_key(key_path(keys, spec.name)).public
        except StoreError as error:
            raise FeedError(error.message, error.hint) from error
        return {
            zmq.CURVE_PUBLICKEY: own.public,
            zmq.CURVE_SECRETKEY: own.secret,
            zmq.CURVE_SERVERKEY: server,
        }

    # ------------------------------------------------------------ the cluster as a whole

    def _from_config(self, config: ClusterConfig) -> ClusterSeen:
        """What is known before any node has answered."""
        servers = [Server(spec.name, spec.capacity, spec.zone) for spec in config.nodes]
        ring = claim(servers, partitions=config.partitions, n=config.quorum.n)
        quorum = config.quorum
        return ClusterSeen(
            self._clock(),
            config.name,
            tuple(
                DeclaredNode(spec.name, spec.zone, spec.capacity, spec.client_endpoint)
                for spec in config.nodes
            ),
            ring.to_document(),
            quorum.n,
            quorum.r,
            quorum.w,
            quorum.mode,
        )

    def _tell_cluster(self, sink: Sink, seen: ClusterSeen) -> None:
        if (
            self._seen is None
            or msgspec.structs.replace(seen, at_ms=self._seen.at_ms) != self._seen
        ):
            self._seen = seen
            sink.observe(seen)

    def _on_description(self, sink: Sink, said: Description) -> None:
        assert self._seen is not None
        n, r, w, mode = said.quorum
        changed = msgspec.structs.replace(
            self._seen, at_ms=self._clock(), ring=said.ring, n=n, r=r, w=w, mode=mode
        )
        self._tell_cluster(sink, changed)

    # ------------------------------------------------------------ asking

    async def _ask_for_ever(
        self,
        spec: NodeSpec,
        curve: Mapping[int, str],
        context: zmq.asyncio.Context,
        sink: Sink,
    ) -> None:
        loop, wake = asyncio.get_running_loop(), self._wake[spec.name]
        socket = _connected(context, zmq.DEALER, spec.client_endpoint, curve)
        described_hash = ""
        first_id = 0
        try:
            while True:
                began_s = loop.time()
                first_id += _QUESTIONS
                replies = await self._ask(socket, first_id, spec.name, describe=not described_hash)
                snapshot = _snapshot_in(replies)
                if snapshot is None:
                    word = await asyncio.to_thread(self._look_up, spec.name)
                    sink.observe(NodeSilent(self._clock(), spec.name, word))
                else:
                    for reply in replies.values():
                        if isinstance(reply, Description):
                            self._on_description(sink, reply)
                            described_hash = str(snapshot.get("ring_hash", ""))
                    if snapshot.get("ring_hash") != described_hash:
                        described_hash = ""  # the ring changed: ask for it next time
                    now_ms, rtt_ms = self._clock(), (loop.time() - began_s) * 1000
                    answer = _answer(now_ms, spec.name, rtt_ms, snapshot, replies)
                    self._pace.on_answer(answer, now_ms)
                    sink.observe(answer)
                await _pause(wake, self._pace.until_next_round_s(self._clock()))
        finally:
            socket.close(linger=0)

    async def _ask(
        self, socket: zmq.asyncio.Socket, first_id: int, node: str, *, describe: bool
    ) -> dict[int, ClientReply]:
        """One frame of questions, and the answers by their place among the questions.

        The one for operations is what keeps the node tracing them.
        """
        known = {"after": self._operations.get(node, 0)}
        questions: list[Any] = [
            ClientStatus(first_id),
            ClientAdmin(first_id + 1, "hints"),
            ClientAdmin(first_id + 2, "repair_status"),
            ClientAdmin(first_id + 3, "faults"),
            ClientAdmin(first_id + 4, "operations", known),
        ]
        if describe:
            questions.append(ClientDescribe(first_id + 5))
        replies: dict[int, ClientReply] = {}
        try:
            async with asyncio.timeout(DEADLINE_S):
                # Without a connection this waits: nothing queues up for a node that is not there.
                await socket.send(encode_requests(questions))
                while len(replies) < len(questions):
                    parts = await socket.recv_multipart()
                    for reply in _decoded(parts[-1]):
                        if first_id <= reply.id < first_id + len(questions):
                            replies[reply.id - first_id] = reply
        except TimeoutError:
            pass  # what has come so far is what there is
        told = replies.get(4)
        if isinstance(told, AdminDone):
            self._operations[node] = int(told.result.get("last", 0))
        return replies

    # ------------------------------------------------------------ listening

    async def _listen(
        self,
        spec: NodeSpec,
        curve: Mapping[int, str],
        context: zmq.asyncio.Context,
        sink: Sink,
    ) -> None:
        socket = _connected(context, zmq.SUB, spec.event_endpoint, curve)
        socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            while True:
                parts = await socket.recv_multipart()
                event = decode_event(parts[-1])
                if event is None or event.node != spec.name:
                    continue
                self._take_note(event)
                sink.observe(event)
        finally:
            socket.close(linger=0)

    def _take_note(self, event: NodeEvent) -> None:
        """Remember how far its node has come, and wake the questions it is a reason for."""
        if self._pace.on_event(event, self._clock()):
            for wake in self._wake.values():
                wake.set()
        place = Place(event.generation, event.seq)
        if missed_before(self._places.get(event.node), place):
            self._wake[event.node].set()
        self._places[event.node] = place
        peer = event.fields.get("peer")
        if event.kind in LINK_EVENTS and isinstance(peer, str) and peer in self._wake:
            self._wake[peer].set()


def _connected(
    context: zmq.asyncio.Context, kind: int, endpoint: str, curve: Mapping[int, str]
) -> zmq.asyncio.Socket:
    socket = context.socket(kind)
    socket.setsockopt(zmq.LINGER, 0)
    socket.setsockopt(zmq.IMMEDIATE, 1)
    socket.setsockopt(zmq.RECONNECT_IVL, 100)
    socket.setsockopt(zmq.RECONNECT_IVL_MAX, 1000)
    for option, value in curve.items():
        socket.setsockopt_string(option, value)
    socket.connect(endpoint)
    return socket


def _decoded(frame: bytes) -> list[ClientReply]:
    try:
        return decode_each_reply(frame)
    except ProtocolError:
        return []  # whatever speaks there, it is no node of this version


def _snapshot_in(replies: Mapping[int, ClientReply]) -> dict[str, Any] | None:
    status = replies.get(0)
    return status.snapshot if isinstance(status, StatusDone) else None


def _answer(
    at_ms: int,
    node: str,
    rtt_ms: float,
    snapshot: dict[str, Any],
    replies: Mapping[int, ClientReply],
) -> NodeAnswered:
    def rows(place: int, name: str) -> tuple[dict[str, Any], ...]:
        reply = replies.get(place)
        return tuple(reply.result.get(name, ())) if isinstance(reply, AdminDone) else ()

    return NodeAnswered(
        at_ms,
        node,
        round(rtt_ms, 3),
        snapshot,
        rows(1, "queues"),
        rows(2, "pairs"),
        rows(3, "faults"),
        rows(4, "operations"),
    )


def decode_event(line: bytes) -> NodeEvent | None:
    """An event as a node publishes it (`kvctl_node.runtime.event_log`); None if it is not one."""
    try:
        said = msgspec.json.decode(line, type=dict[str, Any])
        fields = {name: value for name, value in said.items() if name not in _ENVELOPE}
        return NodeEvent(
            int(said["at"]),
            str(said["node"]),
            int(said["generation"]),
            int(said["seq"]),
            str(said["kind"]),
            fields,
            _counts(said.get("clock")),
        )
    except (*UNREADABLE, KeyError, ValueError, TypeError):
        return None


def _counts(clock: object) -> dict[str, int]:
    """A trace clock as it came, without whatever is no count of a node."""
    if not isinstance(clock, dict):
        return {}
    return {
        name: count
        for name, count in clock.items()
        if isinstance(name, str) and isinstance(count, int) and count > 0
    }


async def _pause(wake: asyncio.Event, seconds: float) -> None:
    """Until it is time, or something was missed; never so short that a node is flooded."""
    loop = asyncio.get_running_loop()
    due = loop.call_later(seconds, wake.set)
    try:
        await wake.wait()
        if loop.time() < due.when() - _TICK_S:
            await asyncio.sleep(SOONEST_MS / 1000)
    finally:
        due.cancel()
    wake.clear()
