"""The cluster's clock: the wall clock that most members agree on.

Deadlines and stamps travel as wall-clock instants, so nodes have to agree about them to within
`timing.clock_skew_ms`. A node whose own clock is a day off would have its every message dropped as
late, or obey requests that were given up long ago. So each node measures how far the clocks of its
peers are from its own, and follows the majority:

    offset of a peer   = its clock in the answer to a ping - the middle of sending and receiving,
                         right to half the round trip (Cristian 1989; NTP does the same)
    cluster clock      = own clock + the median of all offsets, the own one (0) included;
                         of two that differ, the one ahead

Everybody measures the others' own clocks, never the corrected ones, so corrections do not feed on
each other. Offsets that are within half of the skew bound are left alone: clocks that are kept in
order are not touched. A peer counts as reachable only once it has answered a ping, so that its
clock is known before it is chosen for anything.

A step of the own clock is compensated until the next answers tell what the others' did.
"""

from __future__ import annotations

from kvctl_node.ports import Instant


class ClusterClock:
    """Translates readings of the own clock into the cluster's."""

    __slots__ = (
        "_difference_ms",
        "_offsets_ms",
        "_sent",
        "_tolerance_ms",
        "_wall_ms",
        "correction_ms",
    )

    def __init__(self, *, skew_ms: int) -> None:
        """`skew_ms`: how far apart clocks may be without harm."""
        self._tolerance_ms = max(1, skew_ms // 2)
        self._offsets_ms: dict[str, int] = {}
        self._sent: dict[str, tuple[int, float]] = {}
        """Peer → (sequence, monotonic seconds) of the last ping."""
        self._difference_ms: float | None = None
        """Own wall clock minus monotonic clock, at the last reading."""
        self._wall_ms = 0
        """The last reading of the own clock, uncorrected."""
        self.correction_ms = 0
        """What is added to the own clock."""

    def read(self, now: Instant) -> Instant:
        """A reading of the own clock, as the cluster's. HOT PATH."""
        difference_ms = now.wall_ms - now.monotonic_s * 1000
        before_ms = self._difference_ms
        if before_ms is not None and abs(difference_ms - before_ms) > self._tolerance_ms:
            self.correction_ms += round(before_ms - difference_ms)
        self._difference_ms = difference_ms
        self._wall_ms = now.wall_ms
        if not self.correction_ms:
            return now
        return Instant(now.monotonic_s, now.wall_ms + self.correction_ms)

    @property
    def own_wall_ms(self) -> int:
        """The own clock, uncorrected, as peers are told."""
        return self._wall_ms

    def on_ping(self, peer: str, sequence: int, now: Instant) -> None:
        """A ping is being sent."""
        self._sent[peer] = (sequence, now.monotonic_s)

    def on_answer(self, peer: str, sequence: int, their_wall_ms: int, now: Instant) -> bool:
        """A ping was answered; True if the correction changed by it."""
        sent = self._sent.get(peer)
        if sent is None or sent[0] != sequence:
            return False
        half_trip_ms = (now.monotonic_s - sent[1]) * 500
        if half_trip_ms > self._tolerance_ms and peer in self._offsets_ms:
            return False  # the one known is better than that
        self._offsets_ms[peer] = round(their_wall_ms - (self._wall_ms - half_trip_ms))
        return self._follow()

    def keep_only(self, peers: tuple[str, ...]) -> None:
        """Forget members that left."""
        for gone in self._offsets_ms.keys() - set(peers):
            del self._offsets_ms[gone]

    def _follow(self) -> bool:
        offsets_ms = sorted([0, *self._offsets_ms.values()])
        median_ms = offsets_ms[len(offsets_ms) // 2]
        if abs(median_ms) <= self._tolerance_ms:
            median_ms = 0
        if abs(median_ms - self.correction_ms) <= (self._tolerance_ms if median_ms else 0):
            return False
        self.correction_ms = median_ms
        return True
