"""Sloppy quorums, stand-ins and hinted handoff in a virtual cluster."""

import pytest

from kvctl_node.causality.siblings import decode_object
from kvctl_node.config import LimitsConfig
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    Failed,
    GetDone,
    PutDone,
    PutKind,
)
from kvctl_node.protocol.repair_messages import (
    HandoffAck,
    HandoffPut,
)
from tests.virtual_cluster import VirtualCluster


def values(content):
    return sorted(s.value.decode() for s in decode_object(content).siblings if s.value is not None)


def read(cluster, via, key, **options):
    reply = cluster.get(via, key, **options)
    assert isinstance(reply, GetDone), reply
    return values(reply.content) if reply.content else []


def hints(cluster):
    return sum(host.node.state.handoff.count for host in cluster.hosts.values() if host.node)


def key_owned_by(cluster, *owners):
    """A key whose first owners are exactly these, in any order."""
    ring = cluster.node("n1").state.map
    for number in range(100_000):
        key = f"k{number}"
        if set(ring.owners_of(ring.partition_of(key.encode()))) == set(owners):
            return key
    raise AssertionError("no such key")


def test_a_stand_in_takes_the_write_and_the_answer_says_for_whom():
    cluster = VirtualCluster(5, mode="sloppy")
    key = key_owned_by(cluster, "n1", "n2", "n3")
    cluster.kill("n3")
    cluster.run_for(0.1)
    done = cluster.put("n1", key, "v", w=3)
    assert isinstance(done, PutDone)
    assert done.degraded and set(done.hinted.values()) == {"n3"}
    assert set(done.hinted) <= {"n4", "n5"}


def test_a_hint_is_delivered_when_its_target_returns_and_the_stand_in_forgets_its_copy():
    cluster = VirtualCluster(5, mode="sloppy")
    key = key_owned_by(cluster, "n1", "n2", "n3")
    cluster.kill("n3")
    cluster.run_for(0.1)
    done = cluster.put("n1", key, "v", w=3)
    (stand_in,) = done.hinted
    assert hints(cluster) == 1
    cluster.start("n3")
    assert cluster.run_until(lambda: hints(cluster) == 0, 10)
    assert values(cluster.copies(key)["n3"]) == ["v"]
    partition = cluster.node("n1").state.map.partition_of(key.encode())
    assert cluster.hosts[stand_in].storage.get(partition, key.encode()) is None


def test_strict_mode_keeps_hints_that_do_not_count():
    cluster = VirtualCluster(3, mode="strict")
    cluster.kill("n3")
    cluster.run_for(0.1)
    assert isinstance(cluster.put("n1", "k", "v"), PutDone)
    refused = cluster.put("n1", "k", "w", w=3)
    assert isinstance(refused, Failed) and refused.kind == FailureKind.UNAVAILABLE
    cluster.start("n3")
    assert cluster.run_until(lambda: hints(cluster) == 0, 10)
    assert values(cluster.copies("k")["n3"]) == ["v"]


def test_both_sides_of_a_partition_accept_writes_and_every_replica_ends_with_both_siblings():
    cluster = VirtualCluster(5, mode="sloppy")
    for number in range(20):
        cluster.put("n1", f"k{number}", "before")
    cluster.isolate(["n1", "n2"])
    cluster.run_for(8)
    for number in range(20):
        left = cluster.put("n1", f"k{number}", "left")
        right = cluster.put("n4", f"k{number}", "right")
        assert isinstance(left, PutDone) and isinstance(right, PutDone)
        assert left.degraded or right.degraded
    cluster.heal()

    def settled():
        return all(
            copy is not None and values(copy) == ["left", "right"]
            for number in range(20)
            for copy in cluster.copies(f"k{number}").values()
        )

    assert cluster.run_until(lambda: hints(cluster) == 0, 30)
    assert cluster.run_until(settled, 10)


def test_in_strict_mode_the_minority_refuses_and_its_values_are_never_read():
    cluster = VirtualCluster(5, mode="strict")
    key = key_owned_by(cluster, "n3", "n4", "n5")
    cluster.isolate(["n1", "n2"])
    cluster.run_for(8)
    refused = cluster.put("n1", key, "minority")
    assert isinstance(refused, Failed) and refused.kind == FailureKind.UNAVAILABLE
    assert isinstance(cluster.put("n4", key, "majority"), PutDone)
    cluster.heal()
    cluster.run_for(10)
    assert read(cluster, "n1", key) == ["majority"]


def test_the_miss_of_a_stand_in_is_no_evidence_of_absence():
    cluster = VirtualCluster(5, mode="sloppy")
    key = key_owned_by(cluster, "n3", "n4", "n5")
    cluster.put("n3", key, "v")
    cluster.isolate(["n1", "n2"])
    cluster.run_for(8)
    reply = cluster.get("n1", key)
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE


@pytest.mark.parametrize("victim", ["holder", "target"])
def test_all_hints_arrive_though_the_holder_or_the_target_dies_in_the_middle_of_the_drain(victim):
    cluster = VirtualCluster(3, mode="sloppy", limits=LimitsConfig(handoff_per_s=40))
    cluster.kill("n3")
    cluster.run_for(0.1)
    for number in range(100):
        assert isinstance(cluster.put("n1", f"k{number}", f"v{number}"), PutDone)
    cluster.start("n3")
    assert cluster.run_until(lambda: 20 <= hints(cluster) <= 80, 20)
    name = "n1" if victim == "holder" else "n3"
    cluster.kill(name)
    cluster.run_for(3)
    cluster.start(name)
    assert cluster.run_until(lambda: hints(cluster) == 0, 60)
    for number in range(100):
        assert values(cluster.copies(f"k{number}")["n3"]) == [f"v{number}"]


def test_a_hint_stays_until_its_very_content_is_acknowledged():
    cluster = VirtualCluster(3, mode="sloppy")
    cluster.kill("n3")
    cluster.run_for(0.1)
    cluster.put("n1", "k", "old")
    cluster.tap = lambda sender, receiver, message: not isinstance(message, HandoffAck)
    cluster.start("n3")
    cluster.run_for(5)
    assert values(cluster.copies("k")["n3"]) == ["old"] and hints(cluster) >= 1
    cluster.tap = lambda sender, receiver, message: not isinstance(message, HandoffPut)
    cluster.kill("n3")
    cluster.put("n1", "k", "new")
    cluster.start("n3")
    cluster.run_for(5)
    assert hints(cluster) >= 1
    cluster.tap = None
    assert cluster.run_until(lambda: hints(cluster) == 0, 10)
    assert values(cluster.copies("k")["n3"]) == ["new"]


def test_hints_for_one_key_merge_into_one():
    cluster = VirtualCluster(3, mode="sloppy")
    cluster.kill("n3")
    cluster.run_for(0.1)
    for number in range(50):
        cluster.put("n1", "k", f"v{number}")
    assert cluster.node("n1").state.handoff.count == 1


def test_a_node_at_its_hint_limit_refuses_to_stand_in_and_counts_what_it_drops():
    cluster = VirtualCluster(5, mode="sloppy", limits=LimitsConfig(hints_bytes_max=1))
    first, second = key_owned_by(cluster, "n1", "n2", "n3"), None
    ring = cluster.node("n1").state.map
    for number in range(100_000):
        second = f"other{number}"
        if set(ring.owners_of(ring.partition_of(second.encode()))) == {"n1", "n2", "n3"}:
            break
    cluster.kill("n3")
    cluster.run_for(0.1)
    for key in (first, second):
        for _ in range(4):
            cluster.put("n1", key, "v", w=2, kind=PutKind.BLIND)
    assert sum(host.node.state.handoff.dropped for host in cluster.hosts.values() if host.node) > 0
    done = cluster.put("n1", second, "v", w=3, kind=PutKind.BLIND)
    assert isinstance(done, Failed) and done.kind == FailureKind.INDETERMINATE


def test_held_hints_wait_until_they_are_released():
    cluster = VirtualCluster(3, mode="sloppy")
    cluster.kill("n3")
    cluster.run_for(0.1)
    cluster.put("n1", "k", "v")
    cluster.node("n1").state.handoff.hold(True)
    cluster.start("n3")
    cluster.run_for(10)
    assert cluster.node("n1").state.handoff.count == 1
    cluster.node("n1").state.handoff.hold(False)
    assert cluster.run_until(lambda: hints(cluster) == 0, 10)


def test_a_deleted_key_stays_deleted_when_a_node_that_slept_through_it_returns():
    cluster = VirtualCluster(3, mode="sloppy")
    cluster.put("n1", "k", "v", w=3)
    cluster.kill("n3")
    cluster.run_for(0.1)
    cluster.put("n1", "k", None)
    cluster.start("n3")
    assert cluster.run_until(lambda: hints(cluster) == 0, 10)
    for name in cluster.hosts:
        assert read(cluster, name, "k", r=3) == []
