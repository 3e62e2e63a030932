"""Records of many large siblings: what would not fit into a frame is refused, not stored."""

from __future__ import annotations

import pytest

from kvctl.client import Client
from kvctl.cluster.local_cluster import Cluster
from kvctl_node.config import ClusterConfig, LimitsConfig, NodeSpec, QuorumConfig
from kvctl_node.errors import OverloadedError, TooLargeError

NODES = ("n1", "n2", "n3")
LIMITS = LimitsConfig(value_bytes_max=200_000, frame_bytes_max=1_200_000)
VALUE_BYTES = 90_000


def fill(client: Client, via: str) -> int:
    """Concurrent puts through a node until it refuses one; how many it took."""
    for number in range(LIMITS.siblings_max):
        value = f"{via} {number} ".encode().ljust(VALUE_BYTES, b".")
        try:
            client.put("k", value, via=via, blind=True, w=1)
        except OverloadedError as error:
            assert "siblings would have" in error.message
            return number
    raise AssertionError("no record is too large")


def test_what_three_sides_of_a_partition_filled_is_read_and_repaired_after_it() -> None:
    config = ClusterConfig(
        nodes=tuple(map(NodeSpec, NODES)),
        quorum=QuorumConfig(3, 1, 1),
        partitions=8,
        limits=LIMITS,
    )
    with Cluster(config=config) as cluster:
        client = cluster.client()
        cluster.partition(["n1"], ["n2"], ["n3"])
        taken = sum(fill(client, via) for via in NODES)
        assert taken * VALUE_BYTES > 2 * LIMITS.record_bytes_max
        cluster.heal()
        cluster.wait("converged")
        for via in NODES:
            assert len(client.get("k", via=via, r=3).siblings) == taken
        with pytest.raises(OverloadedError):
            client.put("k", b"more", via="n1", blind=True)
        client.put("k", b"settled", via="n2", w=3)
        assert client.get("k", r=3).value == b"settled"
        with pytest.raises(TooLargeError):
            client.batch().check_siblings([b"." * VALUE_BYTES] * taken)
