"""Shortening a clock: never while a copy from before a delete may be left somewhere."""

from kvctl_node.causality.siblings import decode_object
from kvctl_node.config import LimitsConfig, TimingConfig
from kvctl_node.protocol.client_messages import PutDone
from tests.scenarios.answers import values
from tests.virtual_cluster import VirtualCluster

CLOCK_ENTRIES = 10


def cluster_of(nodes):
    # A short retry window: what else is remembered of the old put must not decide.
    return VirtualCluster(
        nodes,
        mode="sloppy",
        limits=LimitsConfig(clock_entries=CLOCK_ENTRIES),
        timing=TimingConfig(retry_window_ms=1_000),
    )


def put_by_many_actors(cluster, key, count, primaries):
    """Overwrite a key under ever new actors, all of which every primary learns of."""
    for number in range(count):
        via = primaries[number % len(primaries)]
        node = cluster.node(via)
        node.identity.disown_actors(node.state.storage, above=0)
        assert isinstance(cluster.put(via, key, f"new{number}", w=3), PutDone)
        cluster.run_for(0.1)


def truncations(cluster):
    return [fields for _, kind, fields in cluster.events if kind == "clock_truncated"]


def entries(cluster, key, node):
    return len(decode_object(cluster.copies(key)[node]).context.vector)


def test_a_clock_is_not_shortened_while_a_hint_may_hold_what_only_it_covers():
    cluster = cluster_of(5)
    primaries = list(cluster.copies("k"))
    away = primaries[2]
    cluster.kill(away)
    cluster.run_for(6)
    cluster.put(primaries[0], "k", "old")
    for name in cluster.hosts:
        if name != away:
            cluster.node(name).state.handoff.hold(True)
    cluster.start(away)
    cluster.run_for(6)
    cluster.put(primaries[0], "k", None, w=3)
    put_by_many_actors(cluster, "k", 2 * CLOCK_ENTRIES, primaries[:1])
    assert not truncations(cluster)
    for name in cluster.hosts:
        cluster.node(name).state.handoff.hold(False)
    cluster.run_for(10)
    assert not any(host.storage.hints.holds(b"k") for host in cluster.hosts.values())
    for name in primaries:
        assert values(cluster.get(name, "k", r=3)) == [f"new{2 * CLOCK_ENTRIES - 1}"]
    put_by_many_actors(cluster, "k", 3, primaries[:1])
    assert all(not fields["forced"] for fields in truncations(cluster))
    assert min(entries(cluster, "k", name) for name in primaries) <= CLOCK_ENTRIES


def test_at_the_hard_cap_a_clock_is_shortened_whoever_is_away():
    cluster = cluster_of(3)
    cluster.kill("n3")
    cluster.run_for(6)
    for number in range(4 * CLOCK_ENTRIES + 2):
        node = cluster.node("n1")
        node.identity.disown_actors(node.state.storage, above=0)
        cluster.put("n1", "k", f"v{number}")
    assert [fields["forced"] for fields in truncations(cluster)] == [True]
    assert values(cluster.get("n1", "k")) == [f"v{4 * CLOCK_ENTRIES + 1}"]
