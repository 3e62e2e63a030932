"""Dues and quotas by capacity, under caps per server and bounds per zone."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.errors import ConfigError
from kvctl_node.ring.quota import ZoneBounds, entitlements, largest_remainder, zone_bounds
from kvctl_node.ring.server import Server
from tests.unit.ring.ring_strategies import LAWS, clusters, equal_servers, partition_counts


def dues(servers: list[Server], n: int) -> dict[str, Fraction]:
    due = entitlements(servers, partitions=64, n=n)
    return dict(zip(due.names, due.dues, strict=True))


def test_dues_are_in_proportion_to_capacity() -> None:
    servers = [Server("n1", 1), Server("n2", 2), Server("n3", 3), Server("n4", 4)]
    assert list(dues(servers, 2).values()) == [
        Fraction(2, 10), Fraction(4, 10), Fraction(6, 10), Fraction(8, 10),
    ]  # fmt: skip


def test_a_server_is_due_at_most_one_replica_and_the_others_share_the_rest() -> None:
    servers = [Server("big", 100), Server("n1", 1), Server("n2", 1), Server("n3", 2)]
    assert dues(servers, 3) == {
        "big": 1, "n1": Fraction(1, 2), "n2": Fraction(1, 2), "n3": 1,
    }  # fmt: skip


def test_with_exactly_n_zones_each_zone_is_due_one_replica_whatever_its_capacity() -> None:
    servers = [Server("n1", 0.25, "a"), *(Server(f"n{i}", 4, "b") for i in (2, 3)), Server("n4", 9)]
    assert dues(servers, 3) == {"n1": 1, "n2": Fraction(1, 2), "n3": Fraction(1, 2), "n4": 1}


def test_with_fewer_zones_than_replicas_no_zone_goes_without() -> None:
    servers = [Server(f"n{i}", 1, "a") for i in range(4)] + [Server("x", 0.01, "b")]
    assert dues(servers, 3)["x"] == 1


@pytest.mark.parametrize(
    ("sizes", "n", "bounds"),
    [
        ([1, 1, 1], 3, [(0, 1), (0, 1), (0, 1)]),
        ([4, 4], 3, [(1, 2), (1, 2)]),
        ([9], 4, [(3, 4)]),
        ([1, 9], 5, [(1, 1), (3, 4)]),
        ([2, 2, 2], 4, [(1, 2), (1, 2), (1, 2)]),
        ([5, 5, 5, 5], 1, [(0, 1)] * 4),
    ],
)
def test_zone_bounds_spread_replicas_as_evenly_as_sizes_allow(
    sizes: list[int], n: int, bounds: list[tuple[int, int]]
) -> None:
    assert zone_bounds(sizes, n) == [ZoneBounds(*pair) for pair in bounds]


@LAWS
@given(clusters(), partition_counts)
def test_quotas_are_whole_within_one_of_the_due_and_feasible(
    cluster: tuple[list[Server], int], partitions: int
) -> None:
    servers, n = cluster
    due = entitlements(servers, partitions=partitions, n=n)
    assert sum(due.dues) == n
    assert sum(due.quotas) == n * partitions
    for quota, exact in zip(due.quotas, due.dues, strict=True):
        assert 0 <= quota <= partitions
        assert abs(quota - exact * partitions) < 1
    for zone, (low, high) in enumerate(due.bounds):
        total = sum(q for q, z in zip(due.quotas, due.zone_of, strict=True) if z == zone)
        assert low * partitions <= total <= high * partitions


@LAWS
@given(clusters())
def test_more_capacity_in_the_same_zone_is_never_due_less(
    cluster: tuple[list[Server], int],
) -> None:
    servers, n = cluster
    due = dues(servers, n)
    for one in servers:
        for other in servers:
            if one.zone == other.zone != "" and one.capacity <= other.capacity:
                assert due[one.name] <= due[other.name]


@LAWS
@given(st.lists(st.fractions(0, 5), min_size=1, max_size=8))
def test_largest_remainder_rounds_each_to_floor_or_ceiling(exact: list[Fraction]) -> None:
    total = int(sum(exact))
    rounded = largest_remainder(exact, total)
    assert sum(rounded) == total
    assert all(abs(whole - part) < 1 for whole, part in zip(rounded, exact, strict=True))


@pytest.mark.parametrize(
    ("servers", "n", "words"),
    [
        ([Server("n1"), Server("n1")], 1, "used twice"),
        ([Server("n1", 0)], 1, "must be positive"),
        ([Server("n1", -1)], 1, "must be positive"),
        ([Server("n1", float("nan"))], 1, "must be positive"),
        ([Server("n1", float("inf"))], 1, "must be positive"),
        (equal_servers(2), 3, "2 distinct servers"),
        (equal_servers(2), 0, "N=0"),
        ([], 1, "0 distinct servers"),
    ],
)
def test_impossible_requests_are_refused(servers: list[Server], n: int, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        entitlements(servers, partitions=64, n=n)
