"""Virtual machines that run real `Node` objects: disk, process, clocks, and the turn.

A turn is what the runtime's loop does: handle everything that waits (links, then peers' frames,
then clients' requests), `tick`, commit, and only then send. A machine can be made to die between
any two of these steps, to stop handling anything for a while (SIGSTOP), or to be slow, so that a
turn takes time and the next finds a queue. Its disk outlives its process; it may be full, fail,
flip bits, be wiped, or be put back to an older state.

Every machine's clocks may run off from the others' by a constant within the stated bound.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

from kvctl_node.config import ClusterConfig
from kvctl_node.errors import StorageError
from kvctl_node.identity import IS_COPY, open_identity
from kvctl_node.node import Node
from kvctl_node.outbox import Event
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientReply,
    ClientRequest,
)
from kvctl_node.protocol.codec import (
    decode_each_reply,
    decode_requests,
    encode_replies,
    encode_requests,
)
from kvctl_node.protocol.messages import (
    PeerFrame,
)
from tests.memory_storage_engine import DiskImage, MemoryStorageEngine
from tests.virtual_network import VirtualNetwork
from tests.virtual_time import VirtualTime

WALL_START_MS = 1_700_000_000_000
CLIENT = b"client"
Handling = Callable[[Node], None]


class DeathStep(Enum):
    """Where in its next turn that stores something a process dies."""

    BEFORE_COMMIT = "before its commit"
    """All was handled, nothing is stored: also what a torn write of the log amounts to."""
    COMMIT_FAILS = "in its commit"
    """The disk refused the commit; the process ends itself and sends nothing."""
    BEFORE_SEND = "before sending"
    """All is stored, nobody is told."""
    AMID_SENDING = "amid sending"
    """All is stored, some are told."""


class Queue(Enum):
    """What waits for a turn, in the order in which a turn takes it."""

    LINKS = 0
    FRAMES = 1
    REQUESTS = 2


@dataclass
class Host:
    """A machine. Everything but `node` and what waits in `inbox` outlives the process."""

    name: str
    storage: MemoryStorageEngine
    node: Node | None = None
    paused: bool = False
    inbox: list[tuple[int, Handling]] = field(default_factory=list)
    """What arrived and was not handled yet: (`Queue` number, what to do)."""
    turn_s: float = 0.0
    """How long a turn takes; meanwhile what arrives has to wait."""
    busy_until_s: float = 0.0
    wanted: bool = False
    """Something fell due while it was busy."""
    dies_at: DeathStep | None = None
    wall_ahead_ms: int = 0
    monotonic_ahead_s: float = 0.0
    boots: int = 0
    lives: int = 0
    known_generation: int = 0
    """What kvctl's registry remembers of this name, from the last time it looked."""
    known_actor_epoch: int = 0
    disk_is_copy: bool = False
    """The disk was put back to an older state since the last start."""


class VirtualHosts:
    """All machines of a cluster, and the turns of their nodes."""

    def __init__(
        self,
        config: ClusterConfig,
        rng: random.Random,
        *,
        latency_s: tuple[float, float],
        link_notice_s: float = 0.0,
    ) -> None:
        self.config = config
        self.rng = rng
        self.link_notice_s = link_notice_s
        """How long until the others notice that a connection was opened or closed."""
        self.time = VirtualTime()
        self.network = VirtualNetwork(self.time, rng, self._arrive, latency_s=latency_s)
        self.events: list[tuple[str, str, dict[str, object]]] = []
        self.hosts = {spec.name: Host(spec.name, MemoryStorageEngine()) for spec in config.nodes}
        self._wakeups: dict[str, float] = {}

    # ------------------------------------------------------------ what a run may listen to

    def on_reply(self, name: str, reply: ClientReply) -> None:
        """A node sent an answer to a client."""

    def on_event(self, name: str, event: Event) -> None:
        """A node told of something."""
        self.events.append((name, event.kind, event.fields))

    def on_death(self, name: str, why: str) -> None:
        """A process ended."""

    # ------------------------------------------------------------ clocks

    def now_of(self, host: Host) -> Instant:
        """The time as this machine has it."""
        time_s = self.time.time_s
        return Instant(
            time_s + host.monotonic_ahead_s,
            WALL_START_MS + int(time_s * 1000) + host.wall_ahead_ms,
        )

    # ------------------------------------------------------------ life and death

    def node(self, name: str) -> Node:
        """The running node of that name."""
        node = self.hosts[name].node
        assert node is not None, f"{name} is not running"
        return node

    def running(self) -> list[str]:
        """The names of all nodes that have a process, paused ones included."""
        return [name for name, host in self.hosts.items() if host.node is not None]

    def start(self, name: str) -> None:
        """Start a process on the host's disk and connect it with everybody."""
        host = self.hosts[name]
        assert host.node is None, f"{name} is running"
        host.lives += 1
        identity = open_identity(
            host.storage,
            cluster_id=self.config.cluster_id,
            name=name,
            durability="os",
            boot_id=f"boot{host.boots}",
            fresh_uuid=f"{self.rng.getrandbits(128):032x}",
            known_generation=host.known_generation,
            known_actor_epoch=host.known_actor_epoch,
            disk_doubt=IS_COPY if host.disk_is_copy else "",
            nonce=f"{self.rng.getrandbits(64):016x}",
            pid=host.lives,
        )
        host.disk_is_copy = False
        host.known_generation = identity.generation
        host.known_actor_epoch = max(host.known_actor_epoch, identity.actor_epoch)
        host.node = Node(self.config, identity, host.storage, random.Random(self.rng.random()))
        self._turn(host, [lambda node: node.start(self.now_of(host))])
        for other in self.running():
            if other != name:
                self._notice_link(name, other, True)
                self._notice_link(other, name, True)

    def kill(self, name: str, why: str = "killed") -> None:
        """kill -9: what was not committed is gone, and every connection closes at once."""
        host = self.hosts[name]
        assert host.node is not None, f"{name} is not running"
        host.node.outbox.clear()
        host.node = None
        host.paused = False
        host.dies_at = None
        host.busy_until_s = 0.0
        host.inbox.clear()
        host.storage.crash()
        self.on_death(name, why)
        for other in self.running():
            self._notice_link(other, name, False)

    def pause(self, name: str) -> None:
        """SIGSTOP: nothing is handled, connections stay open, messages queue up."""
        self.hosts[name].paused = True

    def resume(self, name: str) -> None:
        """SIGCONT: one turn handles all that queued up."""
        host = self.hosts[name]
        host.paused = False
        self._take_turn(host)

    def wipe(self, name: str) -> None:
        """Replace the disk of a machine whose process is down by an empty one."""
        assert self.hosts[name].node is None
        self.hosts[name].storage.restore(DiskImage())
        self.hosts[name].disk_is_copy = False

    def restore(self, name: str, image: DiskImage) -> None:
        """Put the disk of a machine whose process is down back to an older state."""
        assert self.hosts[name].node is None
        self.hosts[name].storage.restore(image)
        self.hosts[name].disk_is_copy = True

    def _notice_link(self, name: str, peer: str, connected: bool) -> None:
        host = self.hosts[name]
        life = host.lives

        def notice() -> None:
            if host.lives == life:
                self._enqueue(
                    name,
                    Queue.LINKS,
                    lambda node: node.on_link(peer, connected, self.now_of(host)),
                )

        if self.link_notice_s:
            self.time.after(self.link_notice_s, notice)
        else:
            notice()

    # ------------------------------------------------------------ turns

    def _arrive(self, receiver: str, frame: PeerFrame) -> None:
        host = self.hosts[receiver]
        self._enqueue(
            receiver, Queue.FRAMES, lambda node: node.on_peer_frame(frame, self.now_of(host))
        )

    def send(self, via: str, *requests: ClientRequest) -> None:
        """Hand a client's frame to a node, now; a node without process loses it."""
        arrived = decode_requests(encode_requests(list(requests)))
        host = self.hosts[via]
        self._enqueue(
            via,
            Queue.REQUESTS,
            lambda node: node.on_client_requests(CLIENT, arrived, self.now_of(host)),
        )

    def _enqueue(self, name: str, queue: Queue, handling: Handling) -> None:
        host = self.hosts[name]
        if host.node is not None:
            host.inbox.append((queue.value, handling))
            self._take_turn(host)

    def _take_turn(self, host: Host) -> None:
        """Handle what waits, unless the machine is paused or busy."""
        if host.paused or host.node is None:
            return
        now_s = self.time.time_s
        if now_s < host.busy_until_s:
            host.wanted = True
            return
        host.wanted = False
        if host.turn_s:
            host.busy_until_s = now_s + host.turn_s
            self.time.at(host.busy_until_s, lambda: self._take_turn(host) if host.wanted else None)
        waiting = sorted(host.inbox, key=lambda one: one[0])
        host.inbox.clear()
        self._turn(host, [handling for _, handling in waiting])

    def _turn(self, host: Host, handlings: list[Handling]) -> None:
        """One turn of a node: handle, persist, then send."""
        node = host.node
        assert node is not None
        for handling in handlings:
            handling(node)
        node.tick(self.now_of(host))
        node.check_invariants()
        death = host.dies_at if host.storage.stores else None
        if death is DeathStep.BEFORE_COMMIT:
            self.kill(host.name, f"died {death.value}")
            return
        host.storage.fail_next_commit |= death is DeathStep.COMMIT_FAILS
        try:
            self._complete(host, node, death)
        except StorageError as error:
            self.kill(host.name, f"ended: {error.message}")
            return
        if death is not None:
            self.kill(host.name, f"died {death.value}")
        else:
            self._plan_wakeup(host, node)

    def _complete(self, host: Host, node: Node, death: DeathStep | None) -> None:
        """Persist, then send."""
        host.storage.commit()
        if death is DeathStep.AMID_SENDING:
            told = self.rng.randrange(1 + len(node.outbox.to_peers) + len(node.outbox.to_clients))
            self._flush(host, node, told)
        elif death is None:
            self._flush(host, node)

    def _flush(self, host: Host, node: Node, told_max: int | None = None) -> None:
        """Send; at most to so many destinations, where the process dies amid sending."""
        outbox = node.outbox
        peers = list(outbox.to_peers.items())[:told_max]
        clients = list(outbox.to_clients.values())
        if told_max is not None:
            clients = clients[: told_max - len(peers)]
        for receiver, messages in peers:
            self.network.send(
                host.name, receiver, node.ring_epoch, messages, outbox.trace.encoded()
            )
        for replies in clients:
            for reply in decode_each_reply(encode_replies(replies)):
                self.on_reply(host.name, reply)
        for event in outbox.events:
            self.on_event(host.name, event)
        outbox.clear()

    def _plan_wakeup(self, host: Host, node: Node) -> None:
        wait_s = max(node.next_wakeup_s(self.now_of(host)), 0.001)
        at_s = self.time.time_s + wait_s
        planned_s = self._wakeups.get(host.name)
        if planned_s is not None and self.time.time_s < planned_s <= at_s:
            return
        self._wakeups[host.name] = at_s
        self.time.at(at_s, lambda: self._take_turn(host))
