"""The failure detector: who is up, suspect, or down, in this node's opinion.

    UP ────── no newer heartbeat for the window, or no direct contact ─────▶ SUSPECT
    SUSPECT ─ own stale heartbeat AND another member's fresh observation ──▶ DOWN
    DOWN ──── a newer heartbeat (the accused refutes), or no fresh observer ▶ SUSPECT
    SUSPECT ─ newer heartbeat and a direct answer ─────────────────────────▶ UP

* Evidence of life is a newer heartbeat by any path: a direct answer, or gossip through others,
  which tells its age. So a single cut link makes a member suspect, never stale, and never down.
* An **observation** is first-hand: "I have had no newer heartbeat of X, generation g, for the whole
  window". It travels in the observer's own record and under its name; whoever relays it adds
  nothing, so relayed opinions do not count twice. It is **fresh** while the observer's own
  heartbeat is, because the observer withdraws it as soon as it hears of X.
* DOWN needs two observers, this node and another. Two nodes alone never get past SUSPECT, and a
  node cut off from all others can only suspect: their observations grow stale with them.
* A node that was itself stalled has missed everybody's news. It forgives: all windows start anew,
  and it accuses nobody before a whole one has passed (Cassandra's local-pause check).

The window is fixed, `suspect_after_ms`, in clusters of up to `WINDOW_MEMBERS` members, where every
peer is asked directly each round. In larger ones news comes by gossip, in O(log M) rounds, and the
window grows in the same way; beyond `DIGEST_MEMBERS_MAX` a digest is a slice, and the window grows
with the number of slices as well (`kvctl_node.membership` has the figures).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from enum import StrEnum

from kvctl_node.membership.gossip import DIGEST_MEMBERS_MAX
from kvctl_node.membership.phi_accrual import PhiAccrual
from kvctl_node.ports import Instant

WINDOW_MEMBERS = 10
OBSERVER_PATIENCE = 2
"""An observation that made a member DOWN is kept for this many windows of its observer's silence,
so that one late heartbeat of the observer does not make the verdict flap."""


class Belief(StrEnum):
    """What a node thinks of a member."""

    UP = "up"
    SUSPECT = "suspect"
    DOWN = "down"
    LEFT = "left"


@dataclass(slots=True)
class Watch:
    """What the detector knows of one member."""

    fresh_s: float
    """When the newest heartbeat learned by any path was true."""
    phi: PhiAccrual
    generation: int = 0
    belief: Belief = Belief.SUSPECT
    stale: bool = False
    observers: tuple[str, ...] = ()
    """Others whose fresh observation agrees, as of the last judgement."""
    accuses: dict[str, int] = field(default_factory=dict)
    """What this member observes itself: name → generation."""


@dataclass(frozen=True, slots=True)
class Change:
    """A belief that changed, or a heartbeat that went stale or came back."""

    member: str
    before: Belief
    after: Belief
    became_stale: bool
    refuted: bool
    observers: tuple[str, ...]


def window_ms(suspect_after_ms: int, members: int) -> int:
    """How long a heartbeat may be missing in a cluster of so many members."""
    if members <= WINDOW_MEMBERS:
        return suspect_after_ms
    rounds = math.log2(members) / math.log2(WINDOW_MEMBERS)
    slices = max(1.0, members / DIGEST_MEMBERS_MAX)
    return int(suspect_after_ms * rounds * slices)


class FailureDetector:
    """Judges every other member. Times in seconds of the monotonic clock."""

    def __init__(self, own: str, *, suspect_after_ms: int, interval_ms: int) -> None:
        self.own = own
        self._suspect_after_ms = suspect_after_ms
        self._interval_s = interval_ms / 1000
        self.watched: dict[str, Watch] = {}
        self.left: dict[str, int] = {}
        """Members that left the ring → the generation they were last seen in."""
        self.doubted: set[str] = set()
        """Members that are not UP: those whose belief can change at any moment."""
        self.window_s = suspect_after_ms / 1000

    def set_members(self, names: Iterable[str], now: Instant) -> None:
        """Watch exactly these. A new one is suspect until it answers, with a whole window to it."""
        others = set(names) - {self.own}
        for gone in sorted(set(self.watched) - others):
            self.left[gone] = self.watched.pop(gone).generation
        for back in others & self.left.keys():
            del self.left[back]
        for name in sorted(others - set(self.watched)):
            self.watched[name] = Watch(now.monotonic_s, PhiAccrual(self._interval_s))
        self.doubted = {name for name, one in self.watched.items() if one.belief != Belief.UP}
        self.window_s = window_ms(self._suspect_after_ms, len(others) + 1) / 1000

    # ------------------------------------------------------------ evidence

    def on_news(self, member: str, generation: int, heard_s: float) -> None:
        """The member was alive at `heard_s`, as a newer heartbeat says, come by whatever path."""
        watch = self.watched.get(member)
        if watch is not None:
            watch.generation = generation
            watch.fresh_s = max(watch.fresh_s, heard_s)
            watch.phi.on_news(heard_s)

    def on_observations(self, observer: str, accused: Mapping[str, int]) -> None:
        """What the observer's own record says it misses: name → generation."""
        watch = self.watched.get(observer)
        if watch is not None:
            watch.accuses = dict(accused)

    def forgive(self, now: Instant) -> None:
        """This node was stalled: every window starts anew."""
        for watch in self.watched.values():
            watch.fresh_s = now.monotonic_s
            watch.phi.forgive(now.monotonic_s)

    # ------------------------------------------------------------ judgement

    def judge(
        self, names: Iterable[str], reachable: AbstractSet[str], now: Instant
    ) -> list[Change]:
        """Bring the beliefs about these members up to date; what changed."""
        changes = []
        for name in names:
            change = self._judge_one(name, name in reachable, now)
            if change is not None:
                changes.append(change)
        return changes

    def _judge_one(self, name: str, in_contact: bool, now: Instant) -> Change | None:
        watch = self.watched[name]
        before, was_stale = watch.belief, watch.stale
        watch.stale = now.monotonic_s - watch.fresh_s >= self.window_s
        watch.observers = self._observers(name, watch, now) if watch.stale else ()
        if watch.stale and watch.observers:
            watch.belief = Belief.DOWN
        elif watch.stale or not in_contact:
            watch.belief = Belief.SUSPECT
        else:
            watch.belief = Belief.UP
        (self.doubted.discard if watch.belief == Belief.UP else self.doubted.add)(name)
        if before == watch.belief and was_stale == watch.stale:
            return None
        return Change(
            name,
            before,
            watch.belief,
            became_stale=watch.stale and not was_stale,
            refuted=was_stale and not watch.stale,
            observers=watch.observers,
        )

    def _observers(self, accused: str, watch: Watch, now: Instant) -> tuple[str, ...]:
        """Others that miss the same generation of the accused, and are themselves heard of."""
        patience = OBSERVER_PATIENCE if watch.belief == Belief.DOWN else 1
        oldest_s = now.monotonic_s - patience * self.window_s
        return tuple(
            name
            for name, one in self.watched.items()
            if one.accuses.get(accused, -1) == watch.generation
            and one.fresh_s > oldest_s
            and name != accused
        )

    # ------------------------------------------------------------ reading

    def believed(self, member: str) -> Belief:
        """What this node thinks of a member; itself it believes up, a stranger has left."""
        if member == self.own:
            return Belief.UP
        watch = self.watched.get(member)
        return Belief.LEFT if watch is None else watch.belief

    def accused(self) -> dict[str, int]:
        """This node's own observations: name → generation of members it misses."""
        return {name: one.generation for name, one in self.watched.items() if one.stale}

    def overripe(self, now: Instant) -> list[str]:
        """Members without news for half the window: to be asked before the whole is over."""
        oldest_s = now.monotonic_s - self.window_s / 2
        return [name for name, one in self.watched.items() if one.fresh_s <= oldest_s]

    def observers_of(self, member: str) -> tuple[str, ...]:
        """Who misses the member: this node first if it does, then the others, as last judged."""
        watch = self.watched[member]
        return ((self.own,) if watch.stale else ()) + watch.observers

    def check_invariants(self) -> None:
        """Assert that DOWN rests on two observers and that the index of doubts is right."""
        for name, watch in self.watched.items():
            if watch.belief == Belief.DOWN:
                observers = self.observers_of(name)
                assert len(set(observers)) >= 2, f"{name} is down by {observers}"
                assert self.own in observers and name not in observers
                for observer in watch.observers:
                    assert self.watched[observer].accuses.get(name) == watch.generation
            assert (name in self.doubted) == (watch.belief != Belief.UP)
        assert self.own not in self.watched and self.left.keys().isdisjoint(self.watched)
