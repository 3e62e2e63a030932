"""Deletes on real processes: they hold for a replica that slept, and are forgotten in the end."""

from __future__ import annotations

from collections.abc import Callable

from kvctl.client import Client
from kvctl.cluster.local_cluster import Cluster
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig, RepairConfig, TimingConfig
from tests.cluster.node_events import events_of

Eventually = Callable[[Callable[[], object]], None]
KEYS = [f"k{number}" for number in range(60)]


def config() -> ClusterConfig:
    """Tombstones are forgotten after five seconds."""
    return ClusterConfig(
        nodes=tuple(NodeSpec(name) for name in ("n1", "n2", "n3")),
        quorum=QuorumConfig(3, 2, 2),
        partitions=16,
        timing=TimingConfig(hint_ttl_ms=1_000, retry_window_ms=3_000, replica_timeout_ms=400),
        repair=RepairConfig(
            compare_interval_ms=1_000,
            recheck_pause_ms=600,
            reap_grace_ms=5_000,
            reap_interval_ms=300,
        ),
    )


def reaped(cluster: Cluster) -> int:
    """Tombstones that all nodes together said they have forgotten."""
    total = 0
    for name in cluster.nodes:
        for event in events_of(cluster, name):
            total += event["count"] if event["kind"] == "tombstone_reaped" else 0
    return total


def all_deleted(client: Client, r: int) -> bool:
    return not any(client.get(key, r=r).found for key in KEYS)


def test_a_key_deleted_while_a_replica_was_down_stays_deleted_before_and_after_reaping(
    eventually: Eventually,
) -> None:
    with Cluster(config=config()) as cluster:
        client = cluster.client()
        for key in KEYS:
            client.put(key, "v", w=3)
        cluster.kill("n3")
        for key in KEYS:
            client.delete(key)
        assert all_deleted(client, r=2)
        eventually(lambda: not client.status("n1")["peers"]["n3"]["reachable"])
        assert reaped(cluster) == 0, "not while a member is missing"
        cluster.start("n3")
        assert all_deleted(client, r=3)
        eventually(lambda: reaped(cluster) >= 3 * len(KEYS))
        assert all_deleted(client, r=3)
        for name in cluster.nodes:
            cluster.kill(name)
            cluster.start(name)
        assert all_deleted(client, r=3)
        for key in KEYS[:10]:
            client.put(key, "again")
        for key in KEYS[:10]:
            assert client.get(key, r=3).value == b"again"
        assert not any(client.get(key, r=3).found for key in KEYS[10:])
