"""A damaged table is given up, rebuilt from its co-owners, and never answered wrongly from."""

from __future__ import annotations

import pytest

from kvctl_node.config import RepairConfig
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    Failed,
    PutDone,
)
from tests.scenarios.answers import values
from tests.virtual_cluster import VirtualCluster


def place_of(cluster, key):
    return cluster.node("n2").state.map.partition_of(key.encode()), key.encode()


def told(cluster, name, kind):
    return [fields for who, what, fields in cluster.events if (who, what) == (name, kind)]


def written(cluster, count=60):
    keys = [f"k{number}" for number in range(count)]
    for key in keys:
        assert isinstance(cluster.put("n1", key, "v", w=3), PutDone)
    return keys


def damage(cluster, name, keys):
    for key in keys:
        cluster.hosts[name].storage.corrupt(*place_of(cluster, key))


def is_healed(cluster, name):
    node = cluster.node(name)
    return not node.state.storage.stats().corrupt_sstables and not node.state.replica.unproven


def test_damage_is_healed_without_being_read_and_without_a_wipe():
    cluster = VirtualCluster(3)
    keys = written(cluster)
    damage(cluster, "n2", keys[:20])
    epoch = cluster.node("n2").identity.actor_epoch
    assert cluster.run_until(
        lambda: is_healed(cluster, "n2") and told(cluster, "n2", "rebuild_finished"), 30
    )
    assert cluster.node("n2").identity.actor_epoch == epoch + 1
    assert [f["partitions"] for f in told(cluster, "n2", "table_given_up")] == [
        len({place_of(cluster, key)[0] for key in keys[:20]})
    ]
    for key in keys:
        assert len(set(cluster.copies(key).values())) == 1
        assert values(cluster.get("n2", key, r=3)) == ["v"]


def test_what_was_given_up_is_never_read_as_not_found_and_the_rest_goes_on():
    cluster = VirtualCluster(3)
    keys = written(cluster)
    cluster.tap = lambda _from, _to, message: "Merkle" not in type(message).__name__
    damage(cluster, "n2", keys[:1])
    assert cluster.run_until(lambda: told(cluster, "n2", "table_given_up"), 10)
    cluster.run_for(1)
    assert cluster.hosts["n2"].storage.committed(*place_of(cluster, keys[0])) is None
    reply = cluster.get("n2", keys[0], r=3)
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    others = [key for key in keys if place_of(cluster, key)[0] != place_of(cluster, keys[0])[0]]
    assert values(cluster.get("n2", others[0], r=3)) == ["v"]
    cluster.tap = None
    assert cluster.run_until(lambda: is_healed(cluster, "n2"), 60)
    assert values(cluster.get("n2", keys[0], r=3)) == ["v"]


@pytest.mark.parametrize("after_s", [0.05, 0.5, 1.0])
def test_a_crash_on_the_way_ends_with_a_healed_node(after_s):
    cluster = VirtualCluster(3)
    keys = written(cluster)
    damage(cluster, "n2", keys[:20])
    assert cluster.run_until(lambda: told(cluster, "n2", "table_given_up"), 10)
    cluster.run_for(after_s)
    cluster.kill("n2")
    cluster.run_for(1)
    cluster.start("n2")
    assert cluster.run_until(lambda: is_healed(cluster, "n2"), 60)
    for key in keys:
        assert len(set(cluster.copies(key).values())) == 1


def test_with_too_few_co_owners_the_quarantine_is_kept_and_says_so():
    cluster = VirtualCluster(3)
    keys = written(cluster)
    cluster.kill("n3")
    cluster.run_for(6)
    damage(cluster, "n2", keys[:20])
    cluster.run_for(30)
    assert not told(cluster, "n2", "table_given_up")
    assert "n3" in told(cluster, "n2", "quarantine_kept")[0]["reason"]
    assert not cluster.node("n2").state.replica.unproven
    cluster.start("n3")
    assert cluster.run_until(lambda: is_healed(cluster, "n2"), 60)
    cluster.run_for(5)
    for key in keys:
        assert values(cluster.get("n2", key, r=3)) == ["v"]


def test_damage_on_two_nodes_loses_nothing_that_either_could_still_read():
    """W=2 of N=3: each key is on two disks at least, and no key is damaged on both."""
    cluster = VirtualCluster(3, repair=RepairConfig(compare_interval_ms=0))
    keys = [f"k{number}" for number in range(60)]
    cluster.isolate(["n3"])
    cluster.run_for(6)
    for key in keys:
        assert isinstance(cluster.put("n1", key, "v"), PutDone)
    cluster.heal()
    cluster.tap = lambda _from, to, message: to != "n3" or "Handoff" not in type(message).__name__
    cluster.run_for(6)
    damage(cluster, "n1", keys[:20])
    damage(cluster, "n2", keys[20:40])
    assert cluster.run_until(lambda: is_healed(cluster, "n1") and is_healed(cluster, "n2"), 60)
    cluster.tap = None
    assert cluster.run_until(
        lambda: not any(host.node.state.handoff.count for host in cluster.hosts.values()), 60
    )
    for key in keys:
        assert values(cluster.get("n3", key, r=3)) == ["v"]


def test_readings_that_damage_interrupts_again_and_again_do_not_keep_a_table_in_quarantine():
    """Everything is read over and over, and each read that meets damage queues a partition."""
    repair = RepairConfig(compare_interval_ms=1000, rebuild_interval_ms=50)
    cluster = VirtualCluster(3, repair=repair)
    keys = written(cluster)
    damage(cluster, "n2", keys[:40])
    for key in keys * 2:
        cluster.get("n2", key, r=1)
        cluster.run_for(0.02)
    assert cluster.run_until(lambda: is_healed(cluster, "n2"), 30)


def test_a_node_whose_keys_have_no_other_owners_gives_nothing_up():
    cluster = VirtualCluster(3, n=1, r=1, w=1)
    keys = [f"k{number}" for number in range(30)]
    for key in keys:
        cluster.put("n1", key, "v")
    mine = [key for key in keys if list(cluster.copies(key)) == ["n2"]]
    damage(cluster, "n2", mine[:2])
    cluster.run_for(20)
    assert told(cluster, "n2", "quarantine_kept")
    assert isinstance(cluster.get("n1", mine[0]), Failed), "unreadable is not absent"
    assert values(cluster.get("n1", mine[3])) == ["v"]
