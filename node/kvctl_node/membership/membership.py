"""Membership of one node: its rounds of gossip and probes, and what it concludes from the answers.

Every `gossip_interval_ms` a round: raise the own heartbeat, publish what changed in the own record,
probe the next peers, send a digest to one live peer (sometimes to an unreachable one). While
somebody owes an answer or is not UP, the node looks four times as often, so that verdicts and
second probes do not wait for the next round. An idle cluster sends one small frame to each peer a
second, and one answer.

Messages come in through the `on_<message>` handlers; what a peer's record says is handed to the
`FailureDetector`; links are judged by `PeerLiveness`. Routing needs both and looks at one set,
`PeerLiveness.reachable`: a member whose heartbeat goes stale leaves it too, until it has answered.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from kvctl_node.membership.belief_row import belief_row
from kvctl_node.membership.digest import DigestEntry, decode_digest
from kvctl_node.membership.failure_detector import Belief, Change
from kvctl_node.membership.gossip import Advance, Gossip
from kvctl_node.membership.gossip_targets import SEEDS, ProbeOrder, gossip_targets
from kvctl_node.membership.member import Member, StateKey, member_id
from kvctl_node.membership.observations import decode_accused, encode_accused
from kvctl_node.membership.own_record import OwnRecord
from kvctl_node.membership.removed_members import RemovedMembers, parse_uuids
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.messages import (
    GossipDeltas,
    GossipDigest,
    GossipReply,
    Ping,
    PingAck,
)

LOOKS_PER_ROUND = 4
"""How often per round the node looks while something is amiss."""
ASK_AROUND = 3
"""Live peers that are asked for news of a member that cannot be asked directly."""
PUSH_TARGETS_MAX = 8
"""Live peers that are told at once of a new observation; the others hear by gossip."""


PING_PAUSE_S = 0.001
"""Whoever asks is asked back, but not twice in one turn."""


class Membership:
    """Runs membership for one node."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._interval_s = state.timing.gossip_interval_ms / 1000
        self._look_s = self._interval_s / LOOKS_PER_ROUND
        self._stall_s = self._interval_s + state.timing.link_dead_after_ms / 2000
        """An own pause longer than this could by itself make an answer look overdue."""
        self.removed = RemovedMembers(state.storage)
        own = Member(member_id(state.name), generation=state.identity.generation)
        self.gossip = Gossip(own, self.removed)
        self._own = OwnRecord(state, own, self.removed)
        self._probes = ProbeOrder(state.rng)
        self._ring_members: tuple[str, ...] = ()
        self._round_s = 0.0
        self._looked_s = 0.0
        self._asked_around_s = 0.0
        self._epochs_seen: dict[str, int] = {}
        """Member → the highest actor epoch it was ever seen in."""
        self._other_rings: set[str] = set()
        self._ghosts: set[str] = set()
        """Senders with a removed disk that were reported."""

    # ------------------------------------------------------------ time

    def start(self, now: Instant) -> None:
        """Begin to watch; the first round follows with the first tick."""
        self._follow_ring(now)
        self._round_s = self._looked_s = now.monotonic_s

    def next_s(self) -> float:
        """When `on_tick` has something to do, on the monotonic clock."""
        if self._state.liveness.owed_s or self._state.detector.doubted:
            return min(self._round_s, self._looked_s + self._look_s)
        return self._round_s

    def on_tick(self, now: Instant) -> list[str]:
        """Do what is due; peers that this made unreachable."""
        state = self._state
        if now.monotonic_s - self._looked_s > self._stall_s:
            self._forgive(now)
        self._looked_s = now.monotonic_s
        lost = state.liveness.overdue(now)
        if now.monotonic_s >= self._round_s:
            self._round_s = now.monotonic_s + self._interval_s
            self._round(now)
        lost += self._judge(state.detector.watched, now)
        self._probe_the_silent(now)
        return lost

    def _forgive(self, now: Instant) -> None:
        """This node was stalled itself, and accuses nobody before it has caught up."""
        stalled_ms = int((now.monotonic_s - self._looked_s) * 1000)
        self._state.outbox.record("was_stalled", stalled_ms=stalled_ms)
        self._state.liveness.forgive(now)
        self._state.detector.forgive(now)

    def _round(self, now: Instant) -> None:
        self._follow_ring(now)
        self._own.refresh(now)
        self._state.replica.shared.nobody_keeps_hints = self._nobody_keeps_hints()
        self.gossip.own.beat(now.monotonic_s)
        for peer in self._probes.take():
            self._probe(peer, now, pause_s=self._look_s)
        liveness = self._state.liveness
        live = [peer for peer in liveness.peers if peer in liveness.reachable]
        unreachable = [peer for peer in liveness.peers if peer not in liveness.reachable]
        for target in gossip_targets(live, unreachable, liveness.peers[:SEEDS], self._state.rng):
            self.send_digest(target)

    def _nobody_keeps_hints(self) -> bool:
        """Whether all members answer, and said last that they keep no hint."""
        if self._state.handoff.count:
            return False
        for peer in self._state.liveness.peers:
            member = self.gossip.members.get(member_id(peer))
            if (
                member is None
                or peer not in self._state.liveness.reachable
                or StateKey.KEEPS_HINTS not in member.values
                or member.number(StateKey.KEEPS_HINTS)
            ):
                return False
        return True

    def _follow_ring(self, now: Instant) -> None:
        """Watch the members of the ring in force; a removed one's disk is refused for good."""
        members = self._state.map.members
        if members is self._ring_members:
            return
        for name in self._ring_members:
            if name not in members and name != self._state.name:
                self._remove(name)
        self._ring_members = members
        peers = [name for name in members if name != self._state.name]
        self._state.liveness.set_peers(peers)
        self._state.clock.keep_only(tuple(peers))
        self._state.detector.set_members(peers, now)
        self._probes.set_peers(peers)

    def _remove(self, name: str) -> None:
        gone = self.gossip.members.get(member_id(name))
        if gone is not None:
            self.refuse({gone.storage_uuid})
        self._state.outbox.record("member_left", member=name)

    def refuse(self, uuids: set[str]) -> None:
        """Have nothing more to do with these disks, for good, and let everybody know by gossip."""
        new = self.removed.add(uuids)
        if self._state.identity.storage_uuid in new:
            self._state.outbox.record("removed_from_cluster")
        ghosts = [one for one in self.gossip.members.values() if one.storage_uuid in new]
        for ghost in ghosts:
            if ghost is not self.gossip.own:
                self.gossip.forget(ghost.id)

    # ------------------------------------------------------------ links and probes

    def on_link(self, peer: str, now: Instant) -> None:
        """A link opened: ask at once, and compare what both know."""
        if peer in self._state.detector.watched:
            self._probe(peer, now, pause_s=0.0)
            self.send_digest(peer)

    def on_lost(self, peer: str, now: Instant) -> None:
        """A link was lost: without contact a member is suspect at once."""
        if peer in self._state.detector.watched:
            self._judge([peer], now)

    def on_unproven(self, peer: str, now: Instant) -> None:
        """Heard from a peer that counts as unreachable: ask it directly."""
        self._probe(peer, now, pause_s=self._look_s / 5)

    def _probe(self, peer: str, now: Instant, *, pause_s: float) -> None:
        state, own = self._state, self.gossip.own
        if state.liveness.wants_probe(peer, now, pause_s=pause_s):
            sequence = state.next_id()
            state.liveness.on_probe(peer, sequence, now)
            state.clock.on_ping(peer, sequence, now)
            uuid = state.identity.storage_uuid
            state.outbox.send(peer, Ping(sequence, own.generation, own.heartbeat, uuid))

    def _probe_the_silent(self, now: Instant) -> None:
        """Ask again whoever owes an answer, and about whoever has been silent for long.

        What SWIM does with indirect probes is done by gossip here: a member that cannot be asked is
        asked about, before anybody accuses it.
        """
        state, reachable = self._state, self._state.liveness.reachable
        silent = state.detector.overripe(now)
        for peer, since_s in list(state.liveness.owed_s.items()):
            is_recent = now.monotonic_s - since_s < self._interval_s
            self._probe(peer, now, pause_s=self._look_s if is_recent else self._interval_s)
        for peer in silent:
            self._probe(peer, now, pause_s=self._interval_s)
        is_time = now.monotonic_s - self._asked_around_s >= self._interval_s / 2
        watched = state.detector.watched
        if is_time and any(one not in reachable and not watched[one].stale for one in silent):
            self._asked_around_s = now.monotonic_s
            live = [peer for peer in state.liveness.peers if peer in reachable]
            for peer in state.rng.sample(live, min(len(live), ASK_AROUND)):
                self.send_digest(peer)

    def on_ping(self, sender: str, message: Ping, now: Instant) -> None:
        """Answer, with a heartbeat nobody has seen yet."""
        if self._is_ghost(sender, message.storage_uuid):
            return
        own = self.gossip.own
        own.beat(now.monotonic_s)
        uuid = self._state.identity.storage_uuid
        self._state.outbox.send(
            sender,
            PingAck(
                message.sequence,
                own.generation,
                own.heartbeat,
                uuid,
                self._state.clock.own_wall_ms,
            ),
        )
        self._hear(sender, message.generation, message.heartbeat, now)
        if sender not in self._state.liveness.reachable:
            # Its link to us may have come up just now, and what it answered before be lost.
            self._probe(sender, now, pause_s=PING_PAUSE_S)

    def on_ping_ack(self, sender: str, message: PingAck, now: Instant) -> bool:
        """A direct answer: the only thing that makes a peer reachable. True if it just did."""
        state = self._state
        if self._is_ghost(sender, message.storage_uuid) or sender not in state.detector.watched:
            return False
        if state.clock.on_answer(sender, message.sequence, message.wall_ms, now):
            state.outbox.record("clock_corrected", by_ms=state.clock.correction_ms)
        self._hear(sender, message.generation, message.heartbeat, now)
        if sender in state.detector.doubted:
            self._judge([sender], now)
        if state.detector.watched[sender].stale:
            # Not news: a late answer, or a new life whose record has been asked for just now.
            return False
        came_back = state.liveness.on_answer(sender, message.sequence, now)
        if came_back:
            self.send_digest(sender)
        if sender in state.detector.doubted:
            self._judge([sender], now)
        return came_back

    def _hear(self, sender: str, generation: int, heartbeat: int, now: Instant) -> None:
        """A heartbeat straight from its owner. One of another generation needs a whole record."""
        member = self.gossip.members.get(member_id(sender))
        if member is None or member.generation != generation:
            self.send_digest(sender)
        elif member.hear(heartbeat, now.monotonic_s):
            self._state.detector.on_news(sender, generation, now.monotonic_s)

    def _is_ghost(self, sender: str, uuid: str) -> bool:
        if uuid not in self.removed:
            return False
        if sender not in self._ghosts:
            self._ghosts.add(sender)
            self._state.outbox.record("removed_member_refused", peer=sender, storage_uuid=uuid)
        return True

    # ------------------------------------------------------------ gossip

    def send_digest(self, peer: str) -> None:
        """Begin an exchange with a peer."""
        identifier = member_id(peer)
        entries, complete = self.gossip.digest(identifier, self._state.rng)
        theirs = self.gossip.members.get(identifier) or Member(identifier)
        self._state.outbox.send(
            peer,
            GossipDigest(
                entries,
                complete,
                theirs.generation,
                self._epochs_seen.get(peer, 0),
                theirs.storage_uuid,
            ),
        )

    def on_gossip_digest(self, sender: str, message: GossipDigest, now: Instant) -> None:
        """Compare, answer, and learn what the sender remembers of this node."""
        entries = decode_digest(message.entries)
        self._own.learn_past(sender, message, _entry_of(self.gossip.own.id, entries))
        reply = self.gossip.on_digest(
            entries, complete=message.complete, now_s=now.monotonic_s, rng=self._state.rng
        )
        if reply.deltas or reply.wanted:
            self._state.outbox.send(sender, reply)

    def on_gossip_reply(self, sender: str, message: GossipReply, now: Instant) -> None:
        """Take what this node lacked, and give what the other lacks."""
        self._take(message.deltas, now)
        deltas = self.gossip.on_wanted(message.wanted, now.monotonic_s, self._state.rng)
        if deltas is not None:
            self._state.outbox.send(sender, deltas)

    def on_gossip_deltas(self, sender: str, message: GossipDeltas, now: Instant) -> None:
        """The last step of an exchange, or news pushed out of turn."""
        self._take(message.deltas, now)

    def _take(self, deltas: Iterable[Any], now: Instant) -> None:
        for advance in self.gossip.on_deltas(deltas, now.monotonic_s):
            member = advance.member
            name = member.name
            self._state.detector.on_news(name, member.generation, member.heard_s)
            if advance.has_new_state:
                self._read_record(name, advance)
        self._judge(self._state.detector.doubted, now)

    def _read_record(self, name: str, advance: Advance) -> None:
        """Draw the conclusions from a record that changed."""
        state, member = self._state, advance.member
        if advance.uuid_before and advance.uuid_before != member.storage_uuid:
            state.outbox.record(
                "member_new_disk", member=name, before=advance.uuid_before, now=member.storage_uuid
            )
        epoch = member.number(StateKey.ACTOR_EPOCH)
        self._epochs_seen[name] = max(self._epochs_seen.get(name, 0), epoch)
        accused = decode_accused(member.data(StateKey.ACCUSED))
        members = self.gossip.members
        known = {members[one].name: at for one, at in accused.items() if one in members}
        state.detector.on_observations(name, known)
        self.refuse(parse_uuids(member.text(StateKey.REMOVED)))
        self._compare_rings(name, member)

    def _compare_rings(self, name: str, member: Member) -> None:
        """The same epoch must mean the same ring."""
        ring = self._state.map
        theirs = member.data(StateKey.RING_HASH)
        differs = member.number(StateKey.RING_EPOCH) == ring.epoch and theirs != ring.hash
        if differs and name not in self._other_rings:
            self._other_rings.add(name)
            self._state.outbox.record(
                "ring_differs",
                peer=name,
                epoch=ring.epoch,
                ours=ring.hash.hex(),
                theirs=theirs.hex(),
            )
        elif not differs:
            self._other_rings.discard(name)

    # ------------------------------------------------------------ judgement

    def _judge(self, names: Iterable[str], now: Instant) -> list[str]:
        """Let the detector conclude, tell people and peers; who became unreachable by it."""
        state = self._state
        changes = state.detector.judge(sorted(names), state.liveness.reachable, now)
        lost = []
        for change in changes:
            if change.became_stale and state.liveness.distrust(change.member):
                lost.append(change.member)
            self._tell(change)
        if changes:
            self._publish_observations(now)
        return lost

    def _publish_observations(self, now: Instant) -> None:
        """Put the own observations into the own record, and push them if they changed."""
        own, state = self.gossip.own, self._state
        accused = {member_id(name): at for name, at in state.detector.accused().items()}
        version = own.version
        if not own.set(StateKey.ACCUSED, encode_accused(accused)):
            return
        news = self.gossip.own_news(version, now.monotonic_s)
        live = [peer for peer in state.liveness.peers if peer in state.liveness.reachable]
        for peer in state.rng.sample(live, min(len(live), PUSH_TARGETS_MAX)):
            state.outbox.send(peer, news)

    def _tell(self, change: Change) -> None:
        """One event for each turn of opinion."""
        record, name = self._state.outbox.record, change.member
        generation = self._state.detector.watched[name].generation
        if change.refuted:
            record("member_refuted", member=name, member_generation=generation)
        if change.after == change.before:
            return
        if change.after == Belief.DOWN:
            observers = [self._state.name, *change.observers]
            record("member_down", member=name, member_generation=generation, observers=observers)
        elif change.after == Belief.UP:
            record("member_alive", member=name, member_generation=generation)
        elif not change.refuted:
            record(
                "member_suspected",
                member=name,
                member_generation=generation,
                because=self._why_suspect(change),
            )

    def _why_suspect(self, change: Change) -> str:
        if change.before == Belief.DOWN:
            return "no other fresh observer is left"
        watch = self._state.detector.watched[change.member]
        return "no newer heartbeat by any path" if watch.stale else "no direct contact"

    def row(self, now: Instant) -> dict[str, Any]:
        """What this node thinks of each member: one row of the belief matrix."""
        return belief_row(self._state, self.gossip, now)

    def check_invariants(self) -> None:
        """Assert what must hold between turns."""
        self.gossip.check_invariants()
        self._state.detector.check_invariants()
        self._state.liveness.check_invariants()
        for name in self._state.liveness.reachable:
            assert not self._state.detector.watched[name].stale


def _entry_of(member: int, entries: Iterable[DigestEntry]) -> DigestEntry | None:
    """The entry of one member, None if it is not listed."""
    return next((entry for entry in entries if entry.member == member), None)
