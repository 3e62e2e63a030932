"""Gossip: how members' records spread, by comparing digests in pairs (anti-entropy).

    A                                   B
    │ GossipDigest (what I know)        │
    ├──────────────────────────────────▶│
    │      GossipReply (what you lack,  │
    │◀──────────────────────────────────┤
    │                   what I lack)    │
    │ GossipDeltas (what you wanted)    │
    ├──────────────────────────────────▶│

After the three messages both know the newer of each record, so a change reaches all of M members in
O(log M) rounds (Demers et al., "Epidemic Algorithms for Replicated Database Maintenance", PODC
1987; the three-message form is Apache Cassandra's). Everything is idempotent and may be lost,
repeated or reordered.

Bounds: a digest lists at most `DIGEST_MEMBERS_MAX` members, 5 KiB, and beyond that a slice: records
that changed lately (`news`), and a random choice of the others. The deltas of one message stop at
about `DELTAS_BYTES_MAX`. What did not fit comes in a later round.

`Gossip` is pure; time is handed in only to keep the age of heartbeats. Who is alive is none of its
business: it says whose record advanced, and the failure detector concludes.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from kvctl_node.membership.digest import DigestEntry, decode_digest, encode_digest, encode_entries
from kvctl_node.membership.member import Member, check_delta
from kvctl_node.membership.news import Before, News
from kvctl_node.membership.removed_members import RemovedMembers
from kvctl_node.protocol.messages import (
    GossipDeltas,
    GossipReply,
    MemberDelta,
)

DIGEST_MEMBERS_MAX = 256
NEWS_MAX = DIGEST_MEMBERS_MAX // 8
"""Of a slice, and of an answer to one, at most so many records are news; the rest keeps heartbeats
young."""
DELTAS_BYTES_MAX = 32 * 1024
_DELTA_OVERHEAD_BYTES = 24
MEMBERS_MAX = 4096
"""Records kept at most: a bound on what a confused peer can make this node remember."""


class Advance(NamedTuple):
    """A record that moved forward: what it was, and what it is now."""

    member: Member
    generation_before: int
    version_before: int
    uuid_before: str

    @property
    def has_new_state(self) -> bool:
        """Whether any of its values may have changed."""
        now = (self.member.generation, self.member.version)
        return now > (self.generation_before, self.version_before)


class Gossip:
    """The records one node has: its own, which it alone writes, and copies of all others."""

    def __init__(self, own: Member, removed: RemovedMembers) -> None:
        self.own = own
        self.removed = removed
        self.members: dict[int, Member] = {own.id: own}
        self.refused_ghosts = 0
        """Deltas about disks that were removed from the cluster for good."""
        self._news = News()

    # ------------------------------------------------------------ a round

    def digest(self, receiver: int, rng: random.Random) -> tuple[bytes, bool]:
        """The entries for a digest, and whether they are everybody.

        A slice always has the sender and the receiver, whose entry tells it what is known of it,
        and what changed lately.
        """
        if len(self.members) <= DIGEST_MEMBERS_MAX:
            return encode_digest(self.members.values()), True
        listed = dict.fromkeys(one for one in (self.own.id, receiver) if one in self.members)
        listed.update(dict.fromkeys(one for one, _ in self._news.take(NEWS_MAX, listed)))
        others = [one for one in self.members if one not in listed]
        listed.update(dict.fromkeys(rng.sample(others, DIGEST_MEMBERS_MAX - len(listed))))
        return encode_digest(self.members[one] for one in listed), False

    def on_digest(
        self, entries: Sequence[DigestEntry], *, complete: bool, now_s: float, rng: random.Random
    ) -> GossipReply:
        """What the sender of the digest lacks, and what it could tell.

        A slice does not say what its sender knows of the members that it leaves out. What changed
        lately is told unasked: the change alone, which fits if the sender knows what was before.
        """
        ahead: list[MemberDelta] = []
        wanted: list[DigestEntry] = []
        for entry in entries:
            self._compare(entry, ahead, wanted, now_s)
        listed = {entry.member for entry in entries}
        if not complete:
            for one, before in self._news.take(NEWS_MAX, listed):
                ahead.append(self.members[one].delta_since(*before, now_s))
        else:
            unlisted = (one for one in self.members.values() if one.id not in listed)
            ahead.extend(one.delta_since(0, 0, now_s) for one in unlisted if one.generation)
        return GossipReply(_within_bounds(ahead, rng), encode_entries(wanted[:DIGEST_MEMBERS_MAX]))

    def _compare(
        self,
        theirs: DigestEntry,
        ahead: list[MemberDelta],
        wanted: list[DigestEntry],
        now_s: float,
    ) -> None:
        """One member: is the sender of the entry behind, ahead, or both?"""
        if theirs.member == self.own.id:
            mine: Member | None = self.own
        else:
            mine = self.members.get(theirs.member)
        if mine is None:
            if theirs.generation:
                wanted.append(DigestEntry(theirs.member, 0, 0, 0))
            return
        known = (mine.generation, mine.version)
        given = (theirs.generation, theirs.version)
        same = mine.generation == theirs.generation
        if known > given or (same and mine.heartbeat > theirs.heartbeat):
            ahead.append(mine.delta_since(theirs.generation, theirs.version, now_s))
        if mine is not self.own and (given > known or (same and theirs.heartbeat > mine.heartbeat)):
            wanted.append(DigestEntry(mine.id, mine.generation, mine.heartbeat, mine.version))

    def on_wanted(self, data: bytes, now_s: float, rng: random.Random) -> GossipDeltas | None:
        """What the other asked for, None if nothing is newer here. Raises `ProtocolError`."""
        ahead: list[MemberDelta] = []
        for entry in decode_digest(data):
            self._compare(entry, ahead, [], now_s)
        return GossipDeltas(_within_bounds(ahead, rng)) if ahead else None

    def on_deltas(self, deltas: Iterable[MemberDelta], now_s: float) -> list[Advance]:
        """Take over what is newer; the records that advanced. Raises `ProtocolError`.

        Nobody but this node knows its own record better: what is said of it is left alone.
        """
        advances: list[Advance] = []
        for delta in deltas:
            check_delta(delta)
            if delta.member == self.own.id or self._is_ghost(delta):
                continue
            member = self.members.get(delta.member)
            if member is None:
                if delta.since or len(self.members) >= MEMBERS_MAX:
                    continue
                member = self.members[delta.member] = Member(delta.member)
            advance = Advance(member, member.generation, member.version, member.storage_uuid)
            if member.apply(delta, now_s):
                advances.append(advance)
                if advance.has_new_state and len(self.members) > DIGEST_MEMBERS_MAX:
                    before = Before(advance.generation_before, advance.version_before)
                    self._news.note(member.id, before, len(self.members))
        return advances

    def _is_ghost(self, delta: MemberDelta) -> bool:
        """A delta that would bring back a removed disk. [scylladb/scylladb#14991]"""
        told = Member(delta.member, values=delta.values).storage_uuid
        if told in self.removed:
            self.refused_ghosts += 1
            return True
        return False

    # ------------------------------------------------------------ news out of turn

    def own_news(self, since_version: int, now_s: float) -> GossipDeltas:
        """The own record from a version on, to be pushed without waiting for a round."""
        own = self.own
        own.beat(now_s)
        return GossipDeltas((own.delta_since(own.generation, since_version, now_s),))

    def forget(self, member: int) -> None:
        """Drop the record of a removed member."""
        assert member != self.own.id
        self.members.pop(member, None)
        self._news.forget(member)

    def check_invariants(self) -> None:
        """Assert that records are sound and no removed disk is among the copies."""
        self._news.check_invariants(self.members)
        for identifier, member in self.members.items():
            assert member.id == identifier
            member.check_invariants()
            assert member is self.own or member.storage_uuid not in self.removed


def _within_bounds(deltas: list[MemberDelta], rng: random.Random) -> tuple[MemberDelta, ...]:
    """As many as fit one message, in random order when some have to wait."""
    if sum(map(_size, deltas)) <= DELTAS_BYTES_MAX:
        return tuple(deltas)
    rng.shuffle(deltas)
    taken: list[MemberDelta] = []
    room = DELTAS_BYTES_MAX
    for delta in deltas:
        room -= _size(delta)
        if room < 0 and taken:
            break
        taken.append(delta)
    return tuple(taken)


def _size(delta: MemberDelta) -> int:
    """About how many bytes a delta takes on the wire."""
    values = (value for _, value in delta.values.values())
    return _DELTA_OVERHEAD_BYTES + sum(
        4 + (len(value) if isinstance(value, bytes) else 4) for value in values
    )
