"""What takes the place of a damaged record is no evidence until its co-owners were asked."""

from __future__ import annotations

import pytest

from kvctl_node.causality.causal_context import EMPTY_CONTEXT
from kvctl_node.causality.siblings import EMPTY_OBJECT, encode_object, put_version
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    Failed,
    PutDone,
    PutKind,
    ScanDone,
)
from kvctl_node.protocol.messages import (
    PeerFrame,
)
from kvctl_node.protocol.repair_messages import (
    RepairKeysReply,
)
from kvctl_node.replication.doubted_copies import DOUBTED_MAX
from tests.scenarios.answers import values
from tests.virtual_cluster import VirtualCluster


def damage(cluster, name, key):
    partition = cluster.node(name).state.map.partition_of(key.encode())
    cluster.hosts[name].storage.corrupt(partition, key.encode())


def place_of(cluster, key):
    return cluster.node("n2").state.map.partition_of(key.encode()), key.encode()


def version(value):
    stored, _ = put_version(EMPTY_OBJECT, value, actor="n9#1", seen=EMPTY_CONTEXT, stamp_ms=1)
    return encode_object(stored)


def doubted(cluster, name):
    return cluster.node(name).state.replica.doubted


def one_damaged_one_stale_one_away():
    """n1 and n2 acknowledged v2; n1's record is damaged, n2 is cut off, n3 has v1."""
    cluster = VirtualCluster(3)
    cluster.put("n2", "k", "v1", w=3)
    cluster.isolate(["n3"])
    cluster.run_for(6)
    done = cluster.put("n2", "k", "v2")
    assert isinstance(done, PutDone) and set(done.acked) == {"n1", "n2"}
    cluster.heal()
    cluster.isolate(["n2"])
    cluster.run_for(6)
    damage(cluster, "n1", "k")
    return cluster


@pytest.mark.parametrize("via", ["n1", "n3"])
def test_a_read_does_not_miss_what_a_damaged_replica_had_acknowledged(via):
    cluster = one_damaged_one_stale_one_away()
    cluster.get(via, "k")  # its repair puts v1 where v2 was
    cluster.run_for(2)
    assert cluster.copies("k")["n1"] == cluster.copies("k")["n3"]
    assert b"k" in doubted(cluster, "n1")
    reply = cluster.get(via, "k")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    cluster.heal()
    assert cluster.run_until(lambda: not doubted(cluster, "n1"), 30)
    assert values(cluster.get(via, "k")) == ["v2"]


@pytest.mark.parametrize(
    ("via", "kind"),
    [
        ("n1", FailureKind.UNAVAILABLE),  # it doubts its own copy, and asks before it stores
        ("n3", FailureKind.INDETERMINATE),  # it learns of the doubt from the acknowledgement
    ],
)
def test_an_overwriting_put_does_not_take_a_doubted_copy_for_all_there_is(via, kind):
    cluster = one_damaged_one_stale_one_away()
    cluster.get("n3", "k")
    cluster.run_for(2)
    reply = cluster.put(via, "k", "v3")
    assert isinstance(reply, Failed) and reply.kind == kind
    stored = kind == FailureKind.INDETERMINATE
    cluster.heal()
    assert cluster.run_until(lambda: not doubted(cluster, "n1"), 30)
    assert sorted(values(cluster.get(via, "k", r=3))) == (["v2", "v3"] if stored else ["v2"])


def test_a_doubted_key_stays_so_over_a_restart_and_other_keys_are_not_concerned():
    cluster = one_damaged_one_stale_one_away()
    assert isinstance(cluster.put("n3", "other", "v"), PutDone)
    cluster.put("n1", "k", "blind", kind=PutKind.BLIND)
    cluster.run_for(1)
    cluster.kill("n1")
    cluster.start("n1")
    cluster.run_for(3)
    assert b"k" in doubted(cluster, "n1")
    assert isinstance(cluster.get("n3", "k"), Failed)
    assert values(cluster.get("n3", "other")) == ["v"]
    cluster.heal()
    assert cluster.run_until(lambda: not doubted(cluster, "n1"), 30)
    assert sorted(values(cluster.get("n3", "k"))) == ["blind", "v2"]
    assert ("copies_proven", 1) in {
        (kind, fields.get("count")) for name, kind, fields in cluster.events if name == "n1"
    }


def test_a_doubt_is_settled_by_a_round_trip_when_all_co_owners_are_there():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "v1", w=3)
    cluster.run_for(20)
    damage(cluster, "n2", "k")
    cluster.put("n1", "k", "v2", w=3)
    assert cluster.run_until(lambda: not doubted(cluster, "n2"), 0.1)
    assert values(cluster.get("n2", "k", r=3)) == ["v2"]


def test_an_exchange_that_was_under_way_when_the_copy_was_damaged_again_proves_nothing():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "v1", w=3)
    cluster.run_for(20)
    late = []

    def hold(sender, receiver, message):
        if receiver == "n2" and isinstance(message, RepairKeysReply):
            late.append((sender, message))
            return False
        return True

    cluster.tap = hold
    damage(cluster, "n2", "k")
    cluster.put("n1", "k", "v2", w=3)
    assert cluster.run_until(lambda: len(late) == 2, 1)
    damage(cluster, "n2", "k")
    replica = cluster.node("n2").state.replica
    replica.apply(*place_of(cluster, "k"), version(b"older"), b"", b"")
    cluster.hosts["n2"].storage.commit()
    for sender, message in late:
        cluster._arrive("n2", PeerFrame(sender, cluster.node("n2").ring_epoch, [message]))
    assert b"k" in doubted(cluster, "n2")
    cluster.tap = None
    assert cluster.run_until(lambda: not doubted(cluster, "n2"), 30)
    assert sorted(values(cluster.get("n2", "k", r=1))) == ["older", "v2"]


def test_a_replica_in_doubt_answers_no_scan_and_vouches_for_nobody():
    cluster = one_damaged_one_stale_one_away()
    cluster.get("n3", "k")
    cluster.run_for(2)
    reply = cluster.scan("n3")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    cluster.heal()
    assert cluster.run_until(lambda: not doubted(cluster, "n1"), 30)
    assert isinstance(cluster.scan("n3"), ScanDone)


def test_two_damaged_replicas_do_not_prove_each_other():
    cluster = VirtualCluster(3, r=1, w=3)
    cluster.put("n2", "k", "v2")
    cluster.isolate(["n2"])
    cluster.run_for(6)
    for name in ("n1", "n3"):
        damage(cluster, name, "k")
        cluster.put(name, "k", "later", kind=PutKind.BLIND, w=1)
    cluster.run_for(10)
    assert all(b"k" in doubted(cluster, name) for name in ("n1", "n3"))
    assert isinstance(cluster.get("n1", "k"), Failed)
    cluster.heal()
    assert cluster.run_until(lambda: not any(doubted(cluster, name) for name in cluster.hosts), 30)
    assert "v2" in values(cluster.get("n1", "k"))


def test_a_node_with_too_many_damaged_records_rebuilds_itself():
    cluster = VirtualCluster(3)
    keys = [f"k{number}" for number in range(DOUBTED_MAX + 10)]
    for key in keys:
        cluster.put("n1", key, "v1", w=3)
    cluster.isolate(["n3"])
    for key in keys:
        damage(cluster, "n1", key)
    for key in keys:
        cluster.put("n1", key, "v2", kind=PutKind.BLIND, w=1)
    replica = cluster.node("n1").state.replica
    assert replica.unproven and len(replica.doubted) <= DOUBTED_MAX
    cluster.heal()
    assert cluster.run_until(lambda: not replica.unproven and not replica.doubted, 60)
    assert sorted(values(cluster.get("n1", keys[-1], r=3))) == ["v1", "v2"]
