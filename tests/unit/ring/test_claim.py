"""Laws of a first claim, and its determinism."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections import Counter
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.errors import ConfigError
from kvctl_node.ring.claim import claim
from kvctl_node.ring.preference_list import walk
from kvctl_node.ring.server import Server
from tests.unit.ring.ring_strategies import (
    LAWS,
    assert_lawful,
    clusters,
    equal_servers,
    partition_counts,
    primary_counts,
    replica_counts,
)

FIVE = [
    Server("n1", 1, "a"),
    Server("n2", 2, "b"),
    Server("n3", 1, "c"),
    Server("n4", 1, "a"),
    Server("n5", 0.5, ""),
]


@LAWS
@given(clusters(), partition_counts)
def test_every_first_claim_is_lawful(cluster: tuple[list[Server], int], partitions: int) -> None:
    servers, n = cluster
    assert_lawful(claim(servers, partitions=partitions, n=n), servers, n)


@LAWS
@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_the_servers_does_not_matter(cluster, random) -> None:  # type: ignore[no-untyped-def]
    servers, n = cluster
    shuffled = list(servers)
    random.shuffle(shuffled)
    assert claim(servers, partitions=32, n=n) == claim(shuffled, partitions=32, n=n)


def test_replicas_of_a_partition_are_in_distinct_zones_where_there_are_enough() -> None:
    servers = [Server(f"n{i}", 1 + i % 3, "abcd"[i % 4]) for i in range(12)]
    zone = {server.name: server.zone for server in servers}
    for row in claim(servers, partitions=256, n=3).owners:
        assert len({zone[name] for name in row}) == 3


def test_two_zones_both_hold_a_replica_of_everything() -> None:
    servers = [Server(f"n{i}", 1, "a" if i else "b") for i in range(5)]
    for row in claim(servers, partitions=256, n=3).owners:
        assert "n0" in row


def test_ten_equal_servers_own_equal_parts() -> None:
    partition_map = claim(equal_servers(10), partitions=1024, n=3)
    for counts in (replica_counts(partition_map), primary_counts(partition_map)):
        assert len(counts) == 10
        assert max(counts.values()) - min(counts.values()) <= 1
    counts = replica_counts(partition_map)
    variation = statistics.pstdev(counts.values()) / statistics.mean(counts.values())
    assert variation < 0.005


def test_a_server_of_twice_the_capacity_owns_twice_as_much() -> None:
    servers = [Server("big", 2), *equal_servers(8)]
    partition_map = claim(servers, partitions=1024, n=3)
    replicas, primaries = replica_counts(partition_map), primary_counts(partition_map)
    assert replicas["big"] == pytest.approx(2 * replicas["n1"], abs=2)
    assert primaries["big"] == pytest.approx(2 * primaries["n1"], abs=3)


def test_the_load_of_a_failed_server_spreads_over_all_others() -> None:
    partition_map = claim(equal_servers(10), partitions=1024, n=3)
    stand_ins = Counter(
        slot.node
        for partition in range(1024)
        for slot in walk(partition_map.preference_list(partition), {"n4"})
        if slot.hinted
    )
    assert stand_ins.total() == replica_counts(partition_map)["n4"]
    assert len(stand_ins) == 9
    assert max(stand_ins.values()) < 2 * stand_ins.total() / 9


def test_every_pair_of_servers_shares_partitions_so_that_rebuilding_has_many_sources() -> None:
    partition_map = claim(equal_servers(10), partitions=1024, n=3)
    together = Counter(
        pair for row in partition_map.owners for pair in combinations(sorted(row), 2)
    )
    assert len(together) == 45
    # 1024 partitions of three pairs each over 45 pairs: 68 on average.
    assert min(together.values()) > 34 and max(together.values()) < 136


def test_a_server_is_placed_all_around_the_circle() -> None:
    partition_map = claim([Server("big", 4), *equal_servers(8)], partitions=1024, n=3)
    for name in ("big", "n1"):
        per_eighth = Counter(partition // 128 for partition in partition_map.partitions_of(name))
        average = sum(per_eighth.values()) / 8
        assert all(abs(per_eighth[eighth] - average) < average / 2 for eighth in range(8))


def test_one_server_owns_everything_with_n_1() -> None:
    partition_map = claim([Server("n1")], partitions=8, n=1)
    assert partition_map.owners == (("n1",),) * 8


def test_a_server_too_small_for_a_replica_is_a_member_all_the_same() -> None:
    partition_map = claim([*equal_servers(4), Server("tiny", 0.01)], partitions=8, n=2)
    assert "tiny" in partition_map.members
    assert partition_map.partitions_of("tiny") == ()


@pytest.mark.parametrize("partitions", [0, -8, 3, 1000, 1 << 17])
def test_partitions_that_are_no_power_of_two_are_refused(partitions: int) -> None:
    with pytest.raises(ConfigError, match="power of two"):
        claim(equal_servers(3), partitions=partitions, n=3)


def test_more_servers_than_a_document_can_name_are_refused() -> None:
    with pytest.raises(ConfigError, match="at most 256"):
        claim(equal_servers(257), partitions=8, n=3)


def test_the_number_of_partitions_never_changes() -> None:
    first = claim(equal_servers(3), partitions=8, n=3)
    with pytest.raises(ConfigError, match="cannot become 16"):
        claim(equal_servers(4), partitions=16, n=3, previous=first)


def test_the_claim_is_pinned_since_nodes_of_a_cluster_must_agree_on_it() -> None:
    """If this fails, a node started from this code no longer agrees with one from before."""
    first = claim(FIVE, partitions=1024, n=3)
    assert first.hash.hex() == PINNED_FIRST
    joined = claim([*FIVE, Server("n6", 1, "c")], partitions=1024, n=3, previous=first)
    assert joined.hash.hex() == PINNED_JOINED


@pytest.mark.parametrize("hash_seed", ["0", "1", "4242"])
def test_another_process_with_another_hash_seed_claims_the_same(hash_seed: str) -> None:
    script = (
        "from kvctl_node.ring.claim import Server, claim\n"
        f"five = [Server(*fields) for fields in {[tuple(server) for server in FIVE]!r}]\n"
        "first = claim(five[::-1], partitions=1024, n=3)\n"
        "joined = claim([Server('n6', 1, 'c'), *five], partitions=1024, n=3, previous=first)\n"
        "print(first.hash.hex(), joined.hash.hex(), joined.preference_list(7))\n"
    )
    printed = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    ).stdout
    first = claim(FIVE, partitions=1024, n=3)
    joined = claim([*FIVE, Server("n6", 1, "c")], partitions=1024, n=3, previous=first)
    assert printed == f"{first.hash.hex()} {joined.hash.hex()} {joined.preference_list(7)}\n"


PINNED_FIRST = "f657f24bf000fe3188d90239655a04bb"
PINNED_JOINED = "dd09bf44344ba1bd75f5dbc27582d958"
