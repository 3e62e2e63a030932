"""The next assignment from the last one, with as few moves as it takes.

Every replica that moves is data copied over the network, so whoever may keep a replica keeps it:

1. **Repair** each partition by itself: owners that left or that break a zone bound go, and the
   servers furthest below their quota fill the gaps. Every partition is now valid.
2. **Move** single replicas from servers above quota to servers below it, in pseudo-random order of
   partitions, so that what a joiner takes over lies all around the circle.
3. **Chain**: where no single move is left but quotas are not met, replicas move along a cheapest
   chain of servers, each giving up one partition and taking another. The assignments with given
   quotas are the flows of a network (server → server's zone in a partition → partition), and a
   chain is an augmenting path in it, so one exists as long as a quota is not met.

A step is free if nothing more is copied for it: the giver had only just gained the partition, or
the receiver owned it before. Steps 2 and 3 run with free steps first, which corrects hasty choices
of the repair, and then with all. Both keep every partition valid throughout.

With equal servers and room to choose, a join costs exactly the replicas the joiner is due, and a
leave exactly those the leaver had. Zones, and N close to the number of servers, may force a few
more.

Source: augmenting paths after L. R. Ford and D. R. Fulkerson, "Maximal Flow Through a Network",
Canadian Journal of Mathematics 8, 1956.
"""

from __future__ import annotations

import struct
from collections import deque
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import mmh3

from kvctl_node.ring.quota import Entitlements


def rebalance(previous: Sequence[Sequence[str]], due: Entitlements, *, n: int) -> list[list[int]]:
    """Owners per partition, by server number, meeting every quota; kept owners keep their order."""
    return _Assignment(previous, due, n).settle()


class _Step(NamedTuple):
    """A step of a chain, seen from the server that gives up the partition."""

    receiver: int
    partition: int


class _Assignment:
    """Owners per partition while they change, with the surplus of each server over its quota."""

    def __init__(self, previous: Sequence[Sequence[str]], due: Entitlements, n: int) -> None:
        self._due = due
        self._n = n
        number = {name: index for index, name in enumerate(due.names)}
        self._rows = [[number[name] for name in row if name in number] for row in previous]
        self._before = [frozenset(row) for row in self._rows]
        self._surplus = [-quota for quota in due.quotas]
        for row in self._rows:
            for server in row:
                self._surplus[server] += 1
        self._by_hash = sorted(
            range(len(previous)),
            key=lambda partition: mmh3.mmh3_x64_128_digest(struct.pack(">Q", partition)),
        )

    def settle(self) -> list[list[int]]:
        """Run the steps, free moves first: nothing is paid for that could be had for less."""
        for partition in self._by_hash:
            self._drop_misplaced(self._rows[partition])
        for partition in self._by_hash:
            self._fill(self._rows[partition])
        for cost_max in (0, 1):
            for partition in self._by_hash:
                self._move_surplus(partition, cost_max)
            for taker in range(len(self._surplus)):
                while self._surplus[taker] < 0 and self._shift_along_chain(taker, cost_max):
                    pass
        assert not any(self._surplus), "the quotas admit an assignment, so chains lead to it"
        return self._rows

    # ------------------------------------------------------------ step 1: repair

    def _drop_misplaced(self, row: list[int]) -> None:
        """Remove owners until what is left can be completed to a valid partition."""
        while True:
            crowded = self._droppable(row)
            if not crowded:
                return
            victim = max(crowded, key=lambda server: (self._surplus[server], row.index(server)))
            row.remove(victim)
            self._surplus[victim] -= 1

    def _droppable(self, row: Sequence[int]) -> list[int]:
        """Owners of which one has to go: their zone holds too many, or another lacks its due."""
        counts = self._zone_counts(row)
        bounds = self._due.bounds
        above = [server for server in row if counts[self._zone(server)] > self._high(server)]
        if above:
            return above
        lacking = sum(max(0, bound.low - counts[zone]) for zone, bound in enumerate(bounds))
        if len(row) + lacking <= self._n:
            return []
        return [server for server in row if counts[self._zone(server)] > self._low(server)]

    def _fill(self, row: list[int]) -> None:
        """Add the servers furthest below quota until the partition is complete."""
        while len(row) < self._n:
            counts = self._zone_counts(row)
            bounds = self._due.bounds
            lacking = sum(max(0, bound.low - counts[zone]) for zone, bound in enumerate(bounds))
            only_lacking = len(row) + lacking == self._n
            candidates = [
                server
                for server in range(len(self._due.names))
                if server not in row
                and counts[self._zone(server)]
                < (self._low(server) if only_lacking else self._high(server))
            ]
            chosen = min(candidates, key=self._surplus.__getitem__)
            row.append(chosen)
            self._surplus[chosen] += 1

    # ------------------------------------------------------------ step 2: single moves

    def _move_surplus(self, partition: int, cost_max: int) -> None:
        """Replace owners above quota by servers below it, for as long as this partition allows."""
        row = self._rows[partition]
        while True:
            if all(self._surplus[server] <= 0 for server in row):
                return
            # The largest need first, met by the largest surplus.
            pairs = [
                (-self._surplus[giver], self._surplus[taker], giver, taker)
                for taker in range(len(self._surplus))
                if self._surplus[taker] < 0 and taker not in row
                for giver in row
                if self._surplus[giver] > 0
                and self._cost(partition, giver, taker) <= cost_max
                and self._may_replace(row, giver, taker)
            ]
            if not pairs:
                return
            _, _, giver, taker = min(pairs)
            self._replace(partition, giver, taker)
            self._surplus[giver] -= 1
            self._surplus[taker] += 1

    def _cost(self, partition: int, giver: int, taker: int) -> int:
        """Replicas copied in addition if `taker` replaces `giver`: none if it swaps one gain for
        another or takes back what was its own."""
        before = self._before[partition]
        return 0 if taker in before or giver not in before else 1

    def _may_replace(self, row: Sequence[int], giver: int, taker: int) -> bool:
        """Whether zones stay within their bounds."""
        old, new = self._zone(giver), self._zone(taker)
        if old == new:
            return True
        counts = self._zone_counts(row)
        return counts[old] > self._low(giver) and counts[new] < self._high(taker)

    # ------------------------------------------------------------ step 3: chains

    def _shift_along_chain(self, taker: int, cost_max: int) -> bool:
        """Shift one replica's worth of load to `taker` from a server above quota, if a chain leads
        there whose steps cost at most `cost_max` each."""
        step_of: dict[int, _Step] = {}
        giver = self._search(taker, cost_max, step_of)
        if giver is None:
            return False
        self._surplus[giver] -= 1
        self._surplus[taker] += 1
        while giver != taker:
            step = step_of[giver]
            self._replace(step.partition, giver, step.receiver)
            giver = step.receiver
        return True

    def _search(self, taker: int, cost_max: int, step_of: dict[int, _Step]) -> int | None:
        """The server above quota that is cheapest to reach from `taker`; fills in the steps.

        Steps cost 0 or 1: breadth first, with a double-ended queue that free steps enter in front.
        """
        zones_seen: dict[tuple[int, int], None] = {}
        partitions_seen = bytearray(len(self._rows))
        settled = bytearray(len(self._surplus))
        cost_of = {taker: 0}
        queue = deque([taker])
        while queue:
            receiver = queue.popleft()
            if settled[receiver]:
                continue
            settled[receiver] = 1
            if self._surplus[receiver] > 0:
                return receiver
            for partition in self._by_hash:
                if receiver in self._rows[partition]:
                    continue
                for giver in self._givers(receiver, partition, zones_seen, partitions_seen):
                    cost = self._cost(partition, giver, receiver)
                    total = cost_of[receiver] + cost
                    if cost > cost_max or settled[giver] or total >= cost_of.get(giver, total + 1):
                        continue
                    cost_of[giver] = total
                    step_of[giver] = _Step(receiver, partition)
                    if cost:
                        queue.append(giver)
                    else:
                        queue.appendleft(giver)
        return None

    def _givers(
        self,
        receiver: int,
        partition: int,
        zones_seen: dict[tuple[int, int], None],
        partitions_seen: bytearray,
    ) -> Iterator[int]:
        """Owners of the partition that may hand it to `receiver`, each zone offered once.

        A zone of a partition, and the partition, are nodes of the flow network. A path may pass
        each of them once; that is what keeps the steps of a chain compatible with each other.
        """
        row = self._rows[partition]
        zone = self._zone(receiver)
        if (zone, partition) in zones_seen:
            return
        zones_seen[zone, partition] = None
        yield from [server for server in row if self._zone(server) == zone]
        counts = self._zone_counts(row)
        if counts[zone] >= self._high(receiver) or partitions_seen[partition]:
            return
        partitions_seen[partition] = 1
        for server in row:
            other = self._zone(server)
            if counts[other] > self._low(server) and (other, partition) not in zones_seen:
                zones_seen[other, partition] = None
                yield from [resident for resident in row if self._zone(resident) == other]

    # ------------------------------------------------------------ the assignment

    def _replace(self, partition: int, giver: int, taker: int) -> None:
        row = self._rows[partition]
        row[row.index(giver)] = taker

    def _zone(self, server: int) -> int:
        return self._due.zone_of[server]

    def _low(self, server: int) -> int:
        return self._due.bounds[self._due.zone_of[server]].low

    def _high(self, server: int) -> int:
        return self._due.bounds[self._due.zone_of[server]].high

    def _zone_counts(self, row: Sequence[int]) -> list[int]:
        counts = [0] * len(self._due.bounds)
        for server in row:
            counts[self._due.zone_of[server]] += 1
        return counts
