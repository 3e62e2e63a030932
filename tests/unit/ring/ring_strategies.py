"""Hypothesis strategies for clusters, and the checks every claimed map has to pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from hypothesis import settings
from hypothesis import strategies as st

from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.quota import entitlements
from kvctl_node.ring.server import Server

LAWS = settings(max_examples=80, deadline=None, derandomize=True)

capacities = st.sampled_from([0.01, 0.3, 0.5, 1.0, 1.0, 1.0, 2.0, 3.7, 8.0, 1000.0])
zones = st.sampled_from(["", "", "a", "b", "c", "d"])
partition_counts = st.sampled_from([8, 16, 64, 128])


@st.composite
def clusters(draw: st.DrawFn, servers_max: int = 10) -> tuple[list[Server], int]:
    """Servers of any capacity and zone, and an N that they can hold."""
    count = draw(st.integers(1, servers_max))
    servers = [Server(f"n{i}", draw(capacities), draw(zones)) for i in range(1, count + 1)]
    return servers, draw(st.integers(1, min(count, 5)))


def equal_servers(count: int) -> list[Server]:
    return [Server(f"n{number}") for number in range(1, count + 1)]


def replica_counts(partition_map: PartitionMap) -> Counter[str]:
    return Counter(name for row in partition_map.owners for name in row)


def primary_counts(partition_map: PartitionMap) -> Counter[str]:
    return Counter(row[0] for row in partition_map.owners)


def assert_lawful(partition_map: PartitionMap, servers: Sequence[Server], n: int) -> None:
    """Distinct owners, zones within bounds, everyone on quota, primaries balanced."""
    partition_map.check_invariants()
    assert partition_map.members == tuple(sorted(server.name for server in servers))
    assert partition_map.n == n
    due = entitlements(servers, partitions=partition_map.partitions, n=n)
    zone_of = dict(zip(due.names, due.zone_of, strict=True))
    for row in partition_map.owners:
        assert len(row) == len(set(row)) == n
        in_zone = Counter(zone_of[name] for name in row)
        for zone, (low, high) in enumerate(due.bounds):
            assert low <= in_zone[zone] <= high
    replicas, primaries = replica_counts(partition_map), primary_counts(partition_map)
    for name, exact in zip(due.names, due.dues, strict=True):
        assert abs(replicas[name] - exact * partition_map.partitions) < 1
        assert replicas[name] // n <= primaries[name] <= -(-replicas[name] // n)
