"""How gossip scales: `python -m tests.simulation.gossip_scaling [MEMBERS ...]`.

Clusters of the real gossip classes, without storage or requests, on a virtual clock. Every second
each member does what a node's round does: raise its heartbeat, probe the next peers, and compare
digests with one live peer. Messages are encoded as on the wire, and their bytes counted at the
sender, with the frame around them, the largest trace clock included, but without ZeroMQ's and TCP's
headers.

Reported for each size: rounds until everybody knows of one change, its median and worst over
several changes; bytes a member sends per second; how old the heartbeats are that members know of
each other, over all pairs (this is what the detector's window has to be longer than); the window.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass

from kvctl_node.causality.trace_clock import TraceClock
from kvctl_node.config import TimingConfig
from kvctl_node.membership.digest import decode_digest
from kvctl_node.membership.failure_detector import window_ms
from kvctl_node.membership.gossip import Gossip
from kvctl_node.membership.gossip_targets import ProbeOrder
from kvctl_node.membership.member import Member, StateKey, member_id
from kvctl_node.membership.removed_members import RemovedMembers
from kvctl_node.protocol.codec import encode_peer_frame
from kvctl_node.protocol.messages import (
    GossipDigest,
    PeerFrame,
    PeerMessage,
    Ping,
    PingAck,
)
from tests.memory_storage_engine import MemoryStorageEngine

SIZES = (10, 100, 1000)
WARM_UP_ROUNDS = 12
CHANGES = 5
ROUNDS_MAX = 60
UUID = "0" * 32
WALL_MS = 1_700_000_000_000


@dataclass(frozen=True)
class Scaling:
    """One row of the table."""

    members: int
    rounds_median: float
    rounds_worst: int
    bytes_per_s: float
    age_median_s: float
    age_99_s: float
    age_worst_s: float
    window_s: float


class Crowd:
    """Members that gossip. Times in seconds; a round takes one."""

    def __init__(self, members: int, seed: int) -> None:
        self._rng = random.Random(seed)
        self.now_s = 0.0
        self.sent_bytes = 0
        self._clock = _trace_clock(members)
        self.names = [f"n{index}" for index in range(1, members + 1)]
        self.gossips = {name: self._gossip(name) for name in self.names}
        self._orders = {name: ProbeOrder(self._rng) for name in self.names}
        whole = [one.own.delta_since(0, 0, 0.0) for one in self.gossips.values()]
        for name, gossip in self.gossips.items():
            gossip.on_deltas(whole, 0.0)
            self._orders[name].set_peers([other for other in self.names if other != name])

    def _gossip(self, name: str) -> Gossip:
        own = Member(member_id(name), generation=1)
        own.set_text(StateKey.NAME, name)
        return Gossip(own, RemovedMembers(MemoryStorageEngine()))

    def round(self) -> None:
        """Everybody's round, in random order, spread over one second."""
        start_s = self.now_s
        for at, name in enumerate(self._rng.sample(self.names, len(self.names))):
            self.now_s = start_s + at / len(self.names)
            self._round_of(name)
        self.now_s = start_s + 1

    def _round_of(self, name: str) -> None:
        gossip = self.gossips[name]
        gossip.own.beat(self.now_s)
        probed = self._orders[name].take()
        target = self._rng.choice([one for one in self.names if one != name])
        for peer in {*probed, target}:
            self._talk(name, peer, probe=peer in probed, compare=peer == target)

    def _talk(self, name: str, peer: str, *, probe: bool, compare: bool) -> None:
        """What one frame to a peer leads to: its frame back, and perhaps a third."""
        left, right, now_s = self.gossips[name], self.gossips[peer], self.now_s
        asks: list[PeerMessage] = []
        answers: list[PeerMessage] = []
        if probe:
            right.own.beat(now_s)
            asks.append(Ping(1 << 40, left.own.generation, left.own.heartbeat, UUID))
            answers.append(
                PingAck(1 << 40, right.own.generation, right.own.heartbeat, UUID, WALL_MS)
            )
            left.members[right.own.id].hear(right.own.heartbeat, now_s)
            right.members[left.own.id].hear(left.own.heartbeat, now_s)
        if not compare:
            self._send(name, asks)
            self._send(peer, answers)
            return
        entries, complete = left.digest(right.own.id, self._rng)
        asks.append(GossipDigest(entries, complete, 1, 1, UUID))
        self._send(name, asks)
        reply = right.on_digest(
            decode_digest(entries), complete=complete, now_s=now_s, rng=self._rng
        )
        answers.append(reply)
        self._send(peer, answers)
        left.on_deltas(reply.deltas, now_s)
        deltas = left.on_wanted(reply.wanted, now_s, self._rng)
        if deltas is not None:
            self._send(name, [deltas])
            right.on_deltas(deltas.deltas, now_s)

    def _send(self, sender: str, messages: list[PeerMessage]) -> None:
        self.sent_bytes += len(encode_peer_frame(PeerFrame(sender, 1, messages, self._clock)))

    def rounds_until_known(self) -> int:
        """Change something at one member; rounds until all have it."""
        changed = self.gossips[self._rng.choice(self.names)].own
        changed.set(StateKey.LOAD, changed.number(StateKey.LOAD) + 1)
        for rounds in range(1, ROUNDS_MAX + 1):
            self.round()
            if all(
                one.members[changed.id].version == changed.version for one in self.gossips.values()
            ):
                return rounds
        raise AssertionError(f"a change did not reach everybody in {ROUNDS_MAX} rounds")

    def ages_s(self) -> list[float]:
        """How old the heartbeats are that members know of each other, over all pairs, sorted."""
        return sorted(
            self.now_s - member.heard_s
            for gossip in self.gossips.values()
            for member in gossip.members.values()
            if member is not gossip.own
        )


def _trace_clock(members: int) -> bytes:
    """What a member puts on each frame once everybody has told of some hundred events."""
    clock = TraceClock("n1")
    for index in range(2, members + 1):
        other = TraceClock(f"n{index}")
        for _ in range(300):
            other.advance()
        clock.merge(other.name, other.encoded())
    return clock.encoded()


def measure(members: int, *, seed: int = 1, changes: int = CHANGES) -> Scaling:
    """Run one size to its steady state and measure it."""
    crowd = Crowd(members, seed)
    for _ in range(WARM_UP_ROUNDS):
        crowd.round()
    crowd.sent_bytes, start_s = 0, crowd.now_s
    rounds: list[int] = []
    ages: list[list[float]] = []
    for _ in range(changes):
        rounds.append(crowd.rounds_until_known())
        ages.append(crowd.ages_s())
    middle = [one[len(one) // 2] for one in ages]
    late = [one[int(len(one) * 0.99)] for one in ages]
    return Scaling(
        members=members,
        rounds_median=statistics.median(rounds),
        rounds_worst=max(rounds),
        bytes_per_s=crowd.sent_bytes / (crowd.now_s - start_s) / members,
        age_median_s=statistics.median(middle),
        age_99_s=statistics.median(late),
        age_worst_s=max(one[-1] for one in ages),
        window_s=window_ms(TimingConfig().suspect_after_ms, members) / 1000,
    )


def main(arguments: Sequence[str]) -> None:
    """Print the table."""
    print("members  rounds (worst)  bytes/s sent  age median / 99 % / worst   window")
    for members in [int(one) for one in arguments] or SIZES:
        row = measure(members)
        print(
            f"{row.members:7d}  {row.rounds_median:6.0f} ({row.rounds_worst:5d})"
            f"  {row.bytes_per_s:12,.0f}"
            f"  {row.age_median_s:6.1f} s {row.age_99_s:6.1f} s {row.age_worst_s:6.1f} s"
            f"  {row.window_s:6.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main(sys.argv[1:])
