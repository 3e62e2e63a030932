"""How many replicas each server is due.

A server of weight w is due t = N·w/Σw replicas of every partition on average, but never more than
one of the same partition: what a large server cannot take is shared by the others in proportion to
their weights. The same holds one level up. With at least N zones a zone holds at most one replica
of a partition; with fewer, replicas are spread over the zones as evenly as their sizes allow. So
each zone has a lower and an upper bound per partition (`zone_bounds`), and its due lies between:

    T_z = clamp(Σ_{s in z} min(1, λ·w_s), low_z, high_z)     λ   such that Σ_z T_z = N
    t_s = min(1, λ_z·w_s)                                    λ_z such that Σ_{s in z} t_s = T_z

Where neither bound nor cap bites, this is N·w/Σw. Distinct zones go before even load: a zone with
little capacity still gets its replica when there are exactly N zones.

Dues times Q are rounded to whole quotas by largest remainder, zones first and then the servers of
each zone, so that every zone and every server ends up within one of its due. Rational arithmetic
keeps equal servers equal and the result the same on every machine.

Invariants: Σ quota = N·Q; 0 <= quota_s <= Q; low_z·Q <= Σ_{s in z} quota_s <= high_z·Q. These are
exactly the conditions under which an assignment with these quotas exists (the fractional assignment
quota_s/Q everywhere satisfies a network flow problem with integer bounds, so an integer one does).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from kvctl_node.errors import ConfigError
from kvctl_node.ring.server import Server


class ZoneBounds(NamedTuple):
    """How many replicas of one partition a zone may hold."""

    low: int
    high: int


class Entitlements(NamedTuple):
    """What every server is due. Servers are numbered by sorted name, zones by first server."""

    names: tuple[str, ...]
    zone_of: tuple[int, ...]
    """Per server the number of its zone."""
    bounds: tuple[ZoneBounds, ...]
    """Per zone."""
    dues: tuple[Fraction, ...]
    """Per server the replicas of a partition it is due on average, 0 to 1; together N."""
    quotas: tuple[int, ...]
    """Per server the partitions it owns a replica of; together N·Q."""


def entitlements(servers: Sequence[Server], *, partitions: int, n: int) -> Entitlements:
    """The quotas of `servers` for `partitions` partitions of `n` replicas each.

    Raises `ConfigError` for duplicate names, capacities that are not positive and finite, or fewer
    than `n` servers.
    """
    _check(servers, n)
    ordered = sorted(servers, key=lambda server: server.name)
    zones = _zones(ordered)
    zone_of = [0] * len(ordered)
    for zone, residents in enumerate(zones):
        for server in residents:
            zone_of[server] = zone
    weights = [Fraction(server.capacity) for server in ordered]
    bounds = zone_bounds([len(residents) for residents in zones], n)
    dues = _dues(weights, zones, bounds, n)
    return Entitlements(
        names=tuple(server.name for server in ordered),
        zone_of=tuple(zone_of),
        bounds=tuple(bounds),
        dues=tuple(dues),
        quotas=tuple(_round(dues, zones, partitions)),
    )


def zone_bounds(sizes: Sequence[int], n: int) -> list[ZoneBounds]:
    """Bounds per zone, given the number of servers in each zone (together at least `n`).

    Fill all zones one replica at a time until a further round would exceed `n`: every zone holds at
    least the full rounds (or all it has servers for) and at most one replica more.
    """
    rounds = 1
    while sum(min(rounds, size) for size in sizes) < n:
        rounds += 1
    return [ZoneBounds(min(rounds - 1, size), min(rounds, size)) for size in sizes]


def largest_remainder(dues: Sequence[Fraction], total: int) -> list[int]:
    """Round `dues` to integers that sum to `total`, each to its floor or its ceiling.

    Ties go to the earlier entry. `total` must lie between the sums of floors and of ceilings.
    """
    rounded = [math.floor(due) for due in dues]
    missing = total - sum(rounded)
    by_remainder = sorted(range(len(dues)), key=lambda index: (rounded[index] - dues[index], index))
    assert 0 <= missing <= len(dues), "the total lies between floors and ceilings"
    for index in by_remainder[:missing]:
        rounded[index] += 1
    return rounded


def _check(servers: Sequence[Server], n: int) -> None:
    names = [server.name for server in servers]
    if len(frozenset(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ConfigError(f"The server name {twice} is used twice.")
    for server in servers:
        if not (math.isfinite(server.capacity) and server.capacity > 0):
            raise ConfigError(
                f"The capacity of {server.name} must be positive, not {server.capacity}."
            )
    if not 1 <= n <= len(servers):
        raise ConfigError(
            f"N={n} replicas cannot be placed on {len(servers)} distinct servers.",
            hint="choose N from 1 to the number of servers.",
        )


def _zones(ordered: Sequence[Server]) -> list[list[int]]:
    """The servers of each zone, by number."""
    zones: list[list[int]] = []
    named: dict[str, list[int]] = {}
    for number, server in enumerate(ordered):
        residents = named.get(server.zone) if server.zone else None
        if residents is None:
            residents = []
            zones.append(residents)
            if server.zone:
                named[server.zone] = residents
        residents.append(number)
    return zones


def _dues(
    weights: Sequence[Fraction],
    zones: Sequence[Sequence[int]],
    bounds: Sequence[ZoneBounds],
    n: int,
) -> list[Fraction]:
    """t_s per server: solve for λ, then for λ_z in every zone."""
    zone_weights = [[weights[server] for server in residents] for residents in zones]

    def zone_dues(level: Fraction) -> list[Fraction]:
        return [
            min(Fraction(bound.high), max(Fraction(bound.low), _filled(inside, level)))
            for inside, bound in zip(zone_weights, bounds, strict=True)
        ]

    # Σ T_z(λ) grows from Σ low <= N to Σ high >= N and is linear between these places.
    bends = {Fraction(0)} | {1 / weight for weight in weights}
    for inside, bound in zip(zone_weights, bounds, strict=True):
        bends |= {_level(inside, Fraction(bound.low)), _level(inside, Fraction(bound.high))}
    levels = sorted(bends)
    after = bisect_left(levels, Fraction(n), key=lambda level: sum(zone_dues(level), Fraction(0)))
    level = levels[after]
    if after > 0:
        start = levels[after - 1]
        at_start, at_end = sum(zone_dues(start)), sum(zone_dues(level))
        level = start + (level - start) * (n - at_start) / (at_end - at_start)

    dues = [Fraction(0)] * len(weights)
    for residents, inside, due in zip(zones, zone_weights, zone_dues(level), strict=True):
        zone_level = _level(inside, due)
        for server in residents:
            dues[server] = min(Fraction(1), zone_level * weights[server])
    return dues


def _filled(weights: Sequence[Fraction], level: Fraction) -> Fraction:
    """Σ min(1, level·w)."""
    return sum((min(Fraction(1), level * weight) for weight in weights), Fraction(0))


def _level(weights: Sequence[Fraction], amount: Fraction) -> Fraction:
    """The least level at which Σ min(1, level·w) = `amount`; 0 <= amount <= len(weights)."""
    rest = sum(weights, Fraction(0))
    for full, weight in enumerate(sorted(weights, reverse=True)):
        level = (amount - full) / rest
        if level * weight <= 1:
            return level
        rest -= weight
    raise AssertionError("a zone is never due more replicas than it has servers")


def _round(dues: Sequence[Fraction], zones: Sequence[Sequence[int]], partitions: int) -> list[int]:
    """Whole quotas for `partitions` partitions, each zone and server within one of its due."""
    exact = [due * partitions for due in dues]
    zone_exact = [sum((exact[server] for server in inside), Fraction(0)) for inside in zones]
    zone_quotas = largest_remainder(zone_exact, int(sum(zone_exact)))
    quotas = [0] * len(dues)
    for residents, quota in zip(zones, zone_quotas, strict=True):
        rounded = largest_remainder([exact[server] for server in residents], quota)
        for server, share in zip(residents, rounded, strict=True):
            quotas[server] = share
    return quotas
