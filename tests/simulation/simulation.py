"""One run: a cluster, its clients and its nemesis, judged at every step; all from one seed.

    safety      clients work, the nemesis does what it likes, every answer and every disk is judged
    liveness    all is healed, nobody writes; within a bounded time the primaries must agree
    epilogue    one user alone: no siblings, no revived deletes, also after everything restarted

The same seed gives the same run, whoever watches: the options, the nemesis, each client and the
network have generators of their own.
"""

from __future__ import annotations

import random
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from kvctl_node.causality.siblings import decode_object
from kvctl_node.node import Node
from kvctl_node.outbox import Event
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientReply,
    PutDone,
)
from kvctl_node.protocol.messages import (
    PeerFrame,
    PeerMessage,
)
from tests.memory_storage_engine import DiskImage
from tests.simulation.clients import LATENCY_S, Client
from tests.simulation.disk_oracle import DiskOracle
from tests.simulation.epilogue import ASK_TIMEOUT_S, Epilogue
from tests.simulation.history import Outcome, Read, Write
from tests.simulation.ladder import Ladder, describe_content, describe_reply, describe_request
from tests.simulation.nemesis import Nemesis
from tests.simulation.options import Options, draw_options
from tests.simulation.oracle import Oracle
from tests.simulation.trace_oracle import TraceOracle
from tests.simulation.violation import Violation
from tests.virtual_hosts import Host, Queue, VirtualHosts

SAFETY_S_MAX = 30.0
CONVERGENCE_S_MAX = 60.0
"""Generous: many comparison rounds; what is bounded is that it ends."""
STAYS_QUIET_S = 1.0


@dataclass
class Outcomes:
    """What became of a run."""

    seed: int
    options: Options
    violation: Violation | None
    virtual_s: float
    fingerprint: int
    """Depends on everything that happened: two runs of a seed must agree in it."""
    acked: int
    unknown: int
    refused: int
    reads: int
    deeds: list[tuple[float, str]]


class Simulation(VirtualHosts):
    """A run in progress."""

    def __init__(self, options: Options, ladder: Ladder | None = None) -> None:
        config = options.config()
        self.options = options
        self.ladder = ladder
        self.fingerprint = options.seed
        super().__init__(
            config,
            random.Random(f"{options.seed} network"),
            latency_s=options.latency_s,
            link_notice_s=0.0005,
        )
        self.network.usual = options.links
        self.traces = TraceOracle()
        self.network.witness = self._on_message
        self.oracle = Oracle(
            self._owners_of,
            n=config.quorum.n,
            r=config.quorum.r,
            truncates=options.clock_entries < 100,
            turnaround_s=(2 * config.timing.replica_timeout_ms + 4 * config.timing.clock_skew_ms)
            / 1000,
            time_s=lambda: self.time.time_s,
        )
        self.nemesis = Nemesis(self, options, random.Random(f"{options.seed} nemesis"), self)
        self._owners: dict[bytes, tuple[str, ...]] = {}
        self._ids = count(1)
        self._asked: dict[int, Client | None] = {}
        self._answers: dict[int, ClientReply] = {}
        self._gathered: dict[str, list[ClientGet | ClientPut]] = {}
        """Node → requests that will travel to it in one frame."""
        self._actions_left = options.actions_max
        self._turns = 0
        for name, host in self.hosts.items():
            disk = DiskOracle(self.oracle, name, host.storage)
            disk.hints_dropped = lambda name=name: self._hints_dropped(name)  # type: ignore[misc]
        self._skew_clocks()
        self.clients = [
            Client(
                number,
                self,
                options,
                random.Random(f"{options.seed} client {number}"),
                self._take_action,
                self._ids,
            )
            for number in range(1, options.clients + 1)
        ]

    def _skew_clocks(self) -> None:
        rng = random.Random(f"{self.options.seed} clocks")
        skew_ms = self.options.timing.clock_skew_ms // 2
        for host in self.hosts.values():
            host.monotonic_ahead_s = rng.uniform(0, 1000)
            if self.options.skewed:
                host.wall_ahead_ms = rng.randint(-skew_ms, skew_ms)

    def _hints_dropped(self, name: str) -> int:
        node = self.hosts[name].node
        return 0 if node is None else node.state.handoff.dropped

    def _owners_of(self, key: bytes) -> tuple[str, ...]:
        owners = self._owners.get(key)
        if owners is None:
            ring = self.node(self.running()[0]).state.map
            owners = self._owners[key] = ring.owners_of(ring.partition_of(key))
        return owners

    def _take_action(self) -> bool:
        self._actions_left -= 1
        return self._actions_left >= 0

    # ------------------------------------------------------------ the three acts

    def run(self) -> None:
        """Everything. Raises `Violation`."""
        for name in self.hosts:
            self.start(name)
        self._judge_rings()
        for number in range(1, self.options.keys + 1):
            self._owners_of(f"k{number}".encode())
        self.time.run_until(lambda: False, 0.1)
        self.nemesis.begin()
        for client in self.clients:
            client.begin()
        self.time.run_until(self._clients_idle, SAFETY_S_MAX)
        self._actions_left = 0
        self.nemesis.heal()
        self.time.run_until(self._clients_idle, 3 * self.options.timeout_s)
        self.converge()
        self.judge_settled()
        Epilogue(self).play()

    def _clients_idle(self) -> bool:
        return all(client.idle for client in self.clients)

    def converge(self) -> None:
        """Wait until nothing is left to be done. Raises `Violation` if that never comes.

        What was sent before the healing may still have its effect: once quiet is not enough.
        """
        end_s = self.time.time_s + CONVERGENCE_S_MAX
        while self.time.run_until(self.quiet, max(0.0, end_s - self.time.time_s)):
            self.time.run_until(lambda: False, STAYS_QUIET_S)
            if self.quiet():
                return
        key, what = self._unsettled()
        if what:
            number = 7 if key else 17
            raise Violation(number, key, f"{what}, {CONVERGENCE_S_MAX} s after all was healed.")

    def quiet(self) -> bool:
        """Whether all primaries agree and nobody keeps a hint."""
        return not self._unsettled()[1]

    def _unsettled(self) -> tuple[bytes, str]:
        """(key, what is not settled), ("", "") if everything is."""
        for name, host in self.hosts.items():
            if host.node is None:
                return b"", f"{name} is down"
            missed = set(self.hosts) - {name} - host.node.state.liveness.reachable
            if missed:
                return b"", f"{name} cannot reach {sorted(missed)}"
            if host.node.state.replica.unproven:
                return b"", f"{name} is rebuilding"
            if host.node.state.replica.doubted:
                return b"", f"{name} doubts some of its copies"
            if host.storage.stats().corrupt_sstables and self.config.quorum.n > 1:
                return b"", f"{name} keeps damaged records"
            waiting = host.storage.hints.committed()
            if waiting:
                target, key = min(waiting)
                return key, f"{name} keeps a hint for {target}"
        for key, owners in self._owners.items():
            copies = {name: self.copy_of(name, key) for name in owners}
            if len(set(copies.values())) > 1:
                texts = [f"{name} {describe_content(copy)}" for name, copy in copies.items()]
                return key, f"the primaries differ: {'; '.join(texts)}"
        return b"", ""

    def copy_of(self, name: str, key: bytes) -> bytes:
        """The content of a copy, readable or not; b"" if there is none."""
        storage = self.hosts[name].storage
        partition = self.node(self.running()[0]).state.map.partition_of(key)
        record = storage.committed(partition, key)
        return b"" if record is None else record.content

    def judge_settled(self) -> None:
        """Whether what is left of every key is what should be. Raises `Violation`."""
        for key in self.oracle.keys:
            content = self.copy_of(self._owners_of(key)[0], key)
            self.oracle.judge_settled(key, decode_object(content) if content else None)

    def _judge_rings(self) -> None:
        hashes = {self.node(name).state.map.hash for name in self.hosts}
        if len(hashes) > 1:
            raise Violation(13, b"", "nodes of one epoch have different rings.")
        ring = self.node("n1").state.map
        for partition, owners in enumerate(ring.owners):
            if len(set(owners)) != self.config.quorum.n:
                raise Violation(12, b"", f"partition {partition} is owned by {owners}.")

    # ------------------------------------------------------------ what the world tells

    def start(self, name: str) -> None:
        self.oracle.disks[name].on_start()
        self.traces.on_start(name)
        super().start(name)

    def wipe(self, name: str) -> None:
        super().wipe(name)
        self.oracle.disks[name].on_replaced()

    def restore(self, name: str, image: DiskImage) -> None:
        super().restore(name, image)
        self.oracle.disks[name].on_replaced()

    def on_destroyed(self, name: str, key: bytes | None) -> None:
        """The nemesis took something from a disk."""
        self.oracle.destroyed.add(name)
        for one in [key] if key is not None else list(self._owners):
            self.oracle.history(one).damaged = True

    def on_death(self, name: str, why: str) -> None:
        self._note(name, why)
        self.traces.on_turn_ended(name)
        for client in self.clients:
            client.on_broken(name)
        self.nemesis.on_death(name)

    def _arrive(self, receiver: str, frame: PeerFrame) -> None:
        host = self.hosts[receiver]

        def handle(node: Node) -> None:
            self.traces.judge(receiver, node.outbox.events)
            self.traces.on_frame(receiver, frame)
            node.on_peer_frame(frame, self.now_of(host))

        self._enqueue(receiver, Queue.FRAMES, handle)

    def _flush(self, host: Host, node: Node, told_max: int | None = None) -> None:
        self.traces.judge(host.name, node.outbox.events)
        self.traces.on_send(host.name, node.outbox.trace.encoded())
        super()._flush(host, node, told_max)
        self.traces.on_turn_ended(host.name)

    def on_event(self, name: str, event: Event) -> None:
        if self.ladder is not None and event.kind in _EVENTS_SHOWN:
            self._note(name, f"{event.kind} {event.fields}")

    def on_reply(self, name: str, reply: ClientReply) -> None:
        if reply.id not in self._asked:
            return
        client = self._asked[reply.id]
        self._mix(reply.id, name)
        if client is None:
            self._answers[reply.id] = reply
        else:
            self.time.after(LATENCY_S, lambda: client.on_reply(reply))

    def _on_message(
        self, sender: str, receiver: str, message: PeerMessage, arrives_s: float | None
    ) -> None:
        self._mix(type(message).__name__, sender, receiver, arrives_s)
        if self.ladder is not None:
            self.ladder.on_message(self.time.time_s, sender, receiver, message, arrives_s)

    def _mix(self, *what: object) -> None:
        """Stir something into the fingerprint, in a way that does not depend on PYTHONHASHSEED."""
        for one in what:
            for byte in repr(one).encode():
                self.fingerprint = (self.fingerprint * 1_000_003 ^ byte) & 0xFFFF_FFFF_FFFF

    def _note(self, place: str, text: str) -> None:
        if self.ladder is not None:
            self.ladder.note(self.time.time_s, place, text)

    # ------------------------------------------------------------ what clients do

    def hand_over(self, via: str, request: ClientGet | ClientPut, client: Client | None) -> None:
        """Bring a request to a node."""
        self._asked[request.id] = client
        if self.ladder is not None and request.key == self.ladder.key:
            self._note(via, f"client {describe_request(request)}")
        waiting = self._gathered.setdefault(via, [])
        waiting.append(request)
        if len(waiting) == 1:
            wait_s = self.options.gather_s if client is not None else 0.0
            self.time.after(LATENCY_S + wait_s, lambda: self.send(via, *self._gathered.pop(via)))

    def on_write_begins(self, write: Write) -> None:
        """A client is about to put."""
        self.oracle.history(write.key).writes[write.request] = write

    def on_put_done(self, write: Write, reply: PutDone) -> None:
        """A put was acknowledged."""
        if self.ladder is not None and write.key == self.ladder.key:
            self._note(reply.coordinator, f"client {write.request} {describe_reply(reply)}")
        self.oracle.judge_put_done(write, reply)

    def on_write_ended(self, write: Write) -> None:
        """A put was refused, or its fate is unknown."""
        if self.ladder is not None and write.key == self.ladder.key:
            self._note("", f"client {write}")

    def on_read(self, read: Read) -> None:
        """A get was answered."""
        if self.ladder is not None and read.key == self.ladder.key:
            content = describe_content(read.content)
            self._note("", f"client read {content} from {','.join(read.replied)} R={read.r}")
        self.oracle.judge_read(read)

    def ask(self, via: str, request: ClientGet | ClientPut) -> ClientReply | None:
        """Ask and wait, with all the rest of the world going on; None: no answer in time."""
        self.hand_over(via, request, None)
        self.time.run_until(lambda: request.id in self._answers, ASK_TIMEOUT_S)
        return self._answers.pop(request.id, None)

    def next_id(self) -> int:
        """An id for a request."""
        return next(self._ids)


_EVENTS_SHOWN = frozenset(
    {
        "copy_lost",
        "clock_truncated",
        "disk_is_older",
        "hint_dropped",
        "node_started",
        "read_repaired",
        "rebuild_started",
        "rebuild_finished",
        "tombstone_reaped",
    }
)


def run_seed(
    seed: int, ladder: Ladder | None = None, tamper: Callable[[Options], Options] | None = None
) -> Outcomes:
    """One run; a broken promise, an assertion or any other error of a node is its outcome."""
    options = draw_options(seed)
    if tamper is not None:
        options = tamper(options)
    simulation = Simulation(options, ladder)
    violation: Violation | None = None
    try:
        simulation.run()
    except Violation as broken:
        violation = broken
    except Exception as error:  # noqa: BLE001
        # The top of a run: whatever a node raises is a finding, not the end of the search.
        text = "".join(traceback.format_exception(error)[-6:])
        violation = Violation(0, b"", f"{type(error).__name__}: {error}\n{text}")
    writes = [
        write for history in simulation.oracle.keys.values() for write in history.writes.values()
    ]
    outcomes = [write.outcome for write in writes]
    return Outcomes(
        seed=seed,
        options=options,
        violation=violation,
        virtual_s=simulation.time.time_s,
        fingerprint=simulation.fingerprint,
        acked=outcomes.count(Outcome.ACKED),
        unknown=outcomes.count(Outcome.UNKNOWN),
        refused=outcomes.count(Outcome.REFUSED),
        reads=sum(len(history.reads) for history in simulation.oracle.keys.values()),
        deeds=simulation.nemesis.told,
    )


def explain(outcomes: Outcomes) -> str:
    """A failed run again, with a diagram of what happened to the key concerned."""
    violation = outcomes.violation
    assert violation is not None
    ladder = Ladder(violation.key)
    again = run_seed(outcomes.seed, ladder)
    for time_s, what in outcomes.deeds:
        ladder.note(time_s, "", what)
    parts = [
        f"seed {outcomes.seed}: {violation}",
        f"options\n{outcomes.options}",
        ladder.draw(outcomes.options.names),
    ]
    if again.fingerprint != outcomes.fingerprint:
        parts.append("the second run went another way: the simulation is not deterministic.")
    return "\n\n".join(parts)
