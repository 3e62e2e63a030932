"""A first assignment: fill every partition in turn, exactly on quota, never backing out.

For each partition, lay the servers on a line, each as long as the quota it has left, servers of one
zone side by side. With R partitions left to fill, the line is N·R long. Put N points on it, R
apart, the first at a pseudo-random place: whoever lies under a point becomes an owner.

      ├── n2 ──┼─ n5 ─┼──── n1 ────┼─ n4 ─┼── n3 ──┤     length N·R
           ▲                ▲                ▲
           u               u+R              u+2R          owners: n2, n1, n3

Nobody is longer than R, so nobody is hit twice; a zone of length between low·R and high·R is hit
between low and high times; and whoever has become as long as R (it must own all that is left) is
always hit. Both bounds still hold with R-1 left, so the last partition uses up every quota exactly.
The order on the line is shuffled by a hash for every partition, so that any set of servers that may
share a partition does somewhere, and a failed server's load falls on all others.

Source: systematic sampling with probabilities proportional to size (W. G. Madow, "On the Theory of
Systematic Sampling, II", Annals of Mathematical Statistics 20, 1949), applied to the quotas left.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

import mmh3

from kvctl_node.ring.quota import Entitlements

_WORD = (1 << 64) - 1
_MIXER = 0x9E3779B97F4A7C15
"""2^64 divided by the golden ratio, odd: multiplying by it carries low bits into high ones."""


def spread(due: Entitlements, *, partitions: int, n: int) -> list[list[int]]:
    """The owners of every partition, by server number, in pseudo-random order.

    Every server owns exactly its quota, every partition has `n` distinct owners within the bounds
    of every zone. O(partitions · servers · log servers).
    """
    remaining = list(due.quotas)
    server_seeds = [mmh3.mmh3_x64_128_utupledigest(name.encode())[0] for name in due.names]
    # A zone is known by its first server: its label may be empty, or change without effect.
    zone_seeds = [server_seeds[due.zone_of.index(zone)] for zone in due.zone_of]
    rows: list[list[int]] = []
    for partition in range(partitions):
        salt, offset = mmh3.mmh3_x64_128_utupledigest(struct.pack(">Q", partition))
        line = [
            (((zone ^ salt) * _MIXER) & _WORD, ((server ^ salt) * _MIXER) & _WORD, number)
            for number, (zone, server) in enumerate(zip(zone_seeds, server_seeds, strict=True))
        ]
        line.sort()
        order = [number for _, _, number in line]
        row = _under_points(order, remaining, partitions - partition, offset)
        assert len(row) == n, "the line is N times as long as there are partitions left"
        for server in row:
            remaining[server] -= 1
        rows.append(row)
    return rows


def _under_points(
    order: Sequence[int], lengths: Sequence[int], spacing: int, offset: int
) -> list[int]:
    """The servers hit by points `spacing` apart, when laid end to end in `order`."""
    point = offset % spacing
    edge = 0
    hit: list[int] = []
    for server in order:
        edge += lengths[server]
        if point < edge:
            hit.append(server)
            point += spacing
    return hit
