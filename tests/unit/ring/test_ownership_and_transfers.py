"""What people see of the ring, and what planning takes from two maps."""

from __future__ import annotations

import pytest
from hypothesis import given

from kvctl_node.errors import ConfigError
from kvctl_node.ring.claim import claim
from kvctl_node.ring.map_document import NO_PREVIOUS
from kvctl_node.ring.ownership import OwnerShare, ownership
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.server import Server
from kvctl_node.ring.transfers import Transfer, transfers
from tests.unit.ring.ring_strategies import LAWS, clusters, equal_servers


def map_of(*rows: tuple[str, ...]) -> PartitionMap:
    return PartitionMap(
        epoch=1,
        previous_hash=NO_PREVIOUS,
        members=("n1", "n2", "n3", "n4"),
        n=len(rows[0]),
        owners=rows,
    )


def test_ownership_counts_replicas_primaries_and_shares() -> None:
    partition_map = map_of(("n1", "n2"), ("n1", "n3"))
    servers = [Server("n4", 1), Server("n3", 1), Server("n2", 2), Server("n1", 4)]
    assert ownership(partition_map, servers) == [
        OwnerShare("n1", 2, 2, 0.5, 0.5),
        OwnerShare("n2", 1, 0, 0.25, 0.25),
        OwnerShare("n3", 1, 0, 0.25, 0.125),
        OwnerShare("n4", 0, 0, 0.0, 0.125),
    ]


@LAWS
@given(clusters())
def test_shares_and_targets_sum_to_one_and_agree(cluster: tuple[list[Server], int]) -> None:
    servers, n = cluster
    table = ownership(claim(servers, partitions=64, n=n), servers)
    assert sum(row.share for row in table) == pytest.approx(1)
    assert sum(row.target for row in table) == pytest.approx(1)
    assert all(abs(row.share - row.target) < 1 / (n * 64) for row in table)


def test_servers_that_are_no_members_are_left_out_of_the_table_and_of_the_targets() -> None:
    servers = equal_servers(4)
    table = ownership(claim(servers, partitions=64, n=2), [*servers, Server("n9", 100)])
    assert [row.node for row in table] == ["n1", "n2", "n3", "n4"]
    assert all(row.target == 0.25 for row in table)


def test_a_member_of_unknown_capacity_is_an_error() -> None:
    with pytest.raises(ConfigError, match="unknown capacity: n4"):
        ownership(map_of(("n1", "n2"), ("n1", "n3")), equal_servers(3))


def test_transfers_pair_who_gains_with_who_loses() -> None:
    old = map_of(("n1", "n2", "n3"), ("n2", "n3", "n4"))
    new = map_of(("n1", "n4", "n3"), ("n2", "n3", "n4"))
    assert transfers(old, new) == [Transfer(0, "n4", "n2")]
    assert transfers(new, old) == [Transfer(0, "n2", "n4")]


def test_another_order_of_the_same_owners_moves_nothing() -> None:
    assert transfers(map_of(("n1", "n2")), map_of(("n2", "n1"))) == []


def test_more_or_fewer_replicas_leave_one_side_of_a_transfer_empty() -> None:
    two, three = map_of(("n1", "n2")), map_of(("n2", "n3", "n4"))
    assert transfers(two, three) == [Transfer(0, "n3", "n1"), Transfer(0, "n4", None)]
    assert transfers(three, two) == [Transfer(0, "n1", "n3"), Transfer(0, None, "n4")]


@LAWS
@given(clusters())
def test_applying_all_transfers_to_the_old_owners_gives_the_new_ones(
    cluster: tuple[list[Server], int],
) -> None:
    servers, n = cluster
    old = claim(servers, partitions=32, n=n)
    new = claim([*servers, Server("x", 2)], partitions=32, n=n, previous=old)
    owners = [set(row) for row in old.owners]
    for partition, gaining, losing in transfers(old, new):
        assert gaining is not None and losing is not None
        owners[partition].remove(losing)
        owners[partition].add(gaining)
    assert owners == [set(row) for row in new.owners]


def test_maps_that_cut_the_circle_differently_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="cannot be compared"):
        transfers(map_of(("n1", "n2")), map_of(("n1", "n2"), ("n1", "n2")))
