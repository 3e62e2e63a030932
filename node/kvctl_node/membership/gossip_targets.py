"""Whom to gossip with in a round, and whom to probe.

Gossip: one live peer at random; sometimes an unreachable one, more often the more there are (the
rule of Cassandra's gossiper), and that for ever, or the two sides of a split would never find each
other again; and a seed when nobody is live.

Probes go round-robin through a shuffled order, as in SWIM: every peer is asked within a bounded
number of rounds, not merely with some probability. [Das, Gupta, Motivala, "SWIM", DSN 2002, §4.3]
"""

from __future__ import annotations

import random
from collections.abc import Sequence

PROBES_PER_ROUND = 9
"""In clusters of up to ten members everybody asks everybody, every round."""
SEEDS = 3
"""The first members of the configuration are the seeds."""


def gossip_targets(
    live: Sequence[str], unreachable: Sequence[str], seeds: Sequence[str], rng: random.Random
) -> list[str]:
    """One to three distinct names; none only if there is nobody else."""
    targets: list[str] = []
    if live:
        targets.append(rng.choice(live))
    if unreachable and rng.random() < len(unreachable) / (len(live) + 1):
        targets.append(rng.choice(unreachable))
    if not live and seeds:
        seed = rng.choice(seeds)
        if seed not in targets:
            targets.append(seed)
    return targets


class ProbeOrder:
    """A shuffled circle of peers."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._peers: list[str] = []
        self._next = 0

    def set_peers(self, peers: Sequence[str]) -> None:
        """Go round these from now on."""
        self._peers = list(peers)
        self._rng.shuffle(self._peers)
        self._next = 0

    def take(self, count: int = PROBES_PER_ROUND) -> list[str]:
        """The next peers of this turn round the circle, at most `count`; a new order after each."""
        taken = self._peers[self._next : self._next + count]
        self._next += count
        if self._next >= len(self._peers):
            self.set_peers(self._peers)
        return taken
