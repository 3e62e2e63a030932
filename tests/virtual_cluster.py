"""A whole cluster of real `Node` objects in one process, on a virtual clock and network.

Messages pass through the real codec and arrive after a delay drawn from the seed. Every delivery is
a turn: handle, commit, send, in the order the runtime keeps. A link can be cut in one direction, a
node can be killed (losing what it had not committed) and restarted on the same storage, or paused.
The same seed gives the same run.

This is the cluster of the scenarios: a quiet world, in which a test breaks one thing at a time.
`tests.simulation` breaks everything at once on the same machines.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from itertools import count

from kvctl_node.config import (
    ClusterConfig,
    LimitsConfig,
    NodeSpec,
    QuorumConfig,
    RepairConfig,
    TimingConfig,
)
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientReply,
    ClientScan,
    PutKind,
)
from kvctl_node.protocol.messages import (
    PeerMessage,
)
from tests.virtual_hosts import VirtualHosts


class VirtualCluster(VirtualHosts):
    """Nodes n1..nN under virtual time. Times are seconds since the start of the run."""

    def __init__(
        self,
        nodes: int = 3,
        *,
        n: int | None = None,
        r: int = 2,
        w: int = 2,
        mode: str = "strict",
        seed: int = 0,
        limits: LimitsConfig | None = None,
        timing: TimingConfig | None = None,
        repair: RepairConfig | None = None,
        partitions: int = 64,
        latency_s: tuple[float, float] = (0.0005, 0.002),
    ) -> None:
        config = ClusterConfig(
            nodes=tuple(NodeSpec(f"n{index}") for index in range(1, nodes + 1)),
            quorum=QuorumConfig(n or min(3, nodes), r, w, mode),
            partitions=partitions,
            cluster_id="virtual",
            limits=limits or LimitsConfig(),
            timing=timing or TimingConfig(),
            repair=repair or RepairConfig(),
        )
        super().__init__(config, random.Random(seed), latency_s=latency_s)
        self.replies: dict[int, ClientReply] = {}
        self._ids = count(1)
        for name in self.hosts:
            self.start(name)
        self.run_for(0.1)

    # ------------------------------------------------------------ time

    @property
    def time_s(self) -> float:
        """Seconds since the start of the run."""
        return self.time.time_s

    @property
    def now(self) -> Instant:
        """The virtual instant, the same for all nodes."""
        return self.now_of(self.hosts["n1"])

    def run_for(self, seconds: float) -> None:
        """Let virtual time pass."""
        self.time.run_until(lambda: False, seconds)

    def run_until(self, condition: Callable[[], bool], seconds: float = 30.0) -> bool:
        """Run until the condition holds; False when `seconds` of virtual time went by first."""
        return self.time.run_until(condition, seconds)

    # ------------------------------------------------------------ links

    @property
    def cut(self) -> set[tuple[str, str]]:
        """Directed links on which every message is lost; the connection itself stays up."""
        return self.network.cut

    @property
    def lost(self) -> int:
        """Messages lost so far."""
        return self.network.lost

    @property
    def latency_s(self) -> tuple[float, float]:
        """Bounds of the delay of a frame."""
        return self.network.latency_s

    @latency_s.setter
    def latency_s(self, bounds_s: tuple[float, float]) -> None:
        self.network.latency_s = bounds_s

    @property
    def tap(self) -> Callable[[str, str, PeerMessage], bool] | None:
        """Sees every message (sender, receiver, message); False loses it."""
        return self.network.tap

    @tap.setter
    def tap(self, tap: Callable[[str, str, PeerMessage], bool] | None) -> None:
        self.network.tap = tap

    def isolate(self, group: Iterable[str]) -> None:
        """Cut all links between the group and the rest, both ways."""
        inside = set(group)
        for left in self.hosts:
            for right in self.hosts:
                if (left in inside) != (right in inside):
                    self.network.cut.add((left, right))

    def heal(self) -> None:
        """Lift all cuts."""
        self.network.cut.clear()

    # ------------------------------------------------------------ clients

    def on_reply(self, name: str, reply: ClientReply) -> None:
        self.replies[reply.id] = reply

    def answer(self, request_id: int, seconds: float = 10.0) -> ClientReply:
        """Wait for the answer to a request."""
        assert self.run_until(lambda: request_id in self.replies, seconds), "no answer"
        return self.replies[request_id]

    def put_request(
        self,
        key: str,
        value: str | None,
        *,
        kind: PutKind = PutKind.OVERWRITE,
        context: bytes = b"",
        w: int = 0,
        client: int = 1,
        sequence: int | None = None,
        attempt: int = 0,
        timeout_s: float = 5.0,
    ) -> ClientPut:
        """A put of this very moment."""
        number = next(self._ids)
        return ClientPut(
            id=number,
            key=key.encode(),
            value=None if value is None else value.encode(),
            kind=kind,
            deadline_ms=self.now.wall_ms + int(timeout_s * 1000),
            client=client,
            sequence=number if sequence is None else sequence,
            started_ms=self.now.wall_ms,
            attempt=attempt,
            context=context,
            w=w,
        )

    def put(self, via: str, key: str, value: str | None, **options: object) -> ClientReply:
        """Put and wait for the answer."""
        request = self.put_request(key, value, **options)  # type: ignore[arg-type]
        self.send(via, request)
        return self.answer(request.id)

    def get(self, via: str, key: str, *, r: int = 0, repair: int = 0) -> ClientReply:
        """Get and wait for the answer."""
        number = next(self._ids)
        deadline_ms = self.now.wall_ms + 5000
        self.send(via, ClientGet(number, key.encode(), deadline_ms, r=r, repair=repair))
        return self.answer(number)

    def scan(self, via: str, *, limit: int = 64, prefix: str = "", r: int = 0) -> ClientReply:
        """One page from the start."""
        number = next(self._ids)
        deadline_ms = self.now.wall_ms + 5000
        self.send(via, ClientScan(number, 0, b"", prefix.encode(), limit, deadline_ms, r=r))
        return self.answer(number)

    def copies(self, key: str) -> dict[str, bytes | None]:
        """What every primary's disk holds of a key, running or not."""
        encoded = key.encode()
        state = self.node(self.running()[0]).state
        partition = state.map.partition_of(encoded)
        found: dict[str, bytes | None] = {}
        for name in state.map.owners_of(partition):
            record = self.hosts[name].storage.get(partition, encoded)
            found[name] = None if record is None else record.content
        return found
