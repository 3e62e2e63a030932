"""Puts and gets through the coordinators of a virtual cluster."""

import pytest

from kvctl_node.causality.siblings import decode_object
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    Failed,
    GetDone,
    PutDone,
    PutKind,
    RepairMode,
    ScanDone,
)
from kvctl_node.protocol.messages import (
    Forward,
    ReplicaGetReply,
    ReplicaPut,
    ReplicaPutAck,
)
from kvctl_node.protocol.repair_messages import (
    HandoffPut,
)
from tests.scenarios.answers import token_of, values
from tests.virtual_cluster import VirtualCluster


def test_a_put_is_read_back_through_every_node():
    cluster = VirtualCluster(5)
    done = cluster.put("n1", "k", "v")
    assert isinstance(done, PutDone) and len(done.acked) >= 2 and done.siblings == 1
    for name in cluster.hosts:
        assert values(cluster.get(name, "k")) == ["v"]


def test_a_key_nobody_wrote_is_absent_on_the_evidence_of_r_replicas():
    cluster = VirtualCluster(3)
    reply = cluster.get("n1", "nothing")
    assert isinstance(reply, GetDone) and reply.content == b"" and len(reply.replied) >= 2


@pytest.mark.parametrize("seed", range(5))
def test_one_user_who_overwrites_through_random_nodes_never_meets_a_sibling(seed):
    cluster = VirtualCluster(5, seed=seed, latency_s=(0.0001, 0.05))
    for number in range(100):
        via = cluster.rng.choice(list(cluster.hosts))
        done = cluster.put(via, "k", f"v{number}")
        assert isinstance(done, PutDone) and done.siblings == 1
        via = cluster.rng.choice(list(cluster.hosts))
        assert values(cluster.get(via, "k")) == [f"v{number}"]


def test_two_writers_from_one_context_through_one_node_leave_two_siblings():
    cluster = VirtualCluster(3)
    base = cluster.put("n1", "k", "base")
    context = token_of(cluster, "k", base)
    cluster.put("n2", "k", "a", kind=PutKind.CONTEXT, context=context)
    second = cluster.put("n2", "k", "b", kind=PutKind.CONTEXT, context=context)
    assert second.siblings == 2
    assert sorted(values(cluster.get("n3", "k"))) == ["a", "b"]


def test_two_blind_puts_leave_two_siblings():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "a", kind=PutKind.BLIND)
    cluster.put("n2", "k", "b", kind=PutKind.BLIND)
    assert sorted(values(cluster.get("n3", "k"))) == ["a", "b"]


def test_two_clients_with_their_own_last_answers_leave_exactly_the_two_newest_values():
    cluster = VirtualCluster(3)
    contexts = {}
    for number in range(100):
        for client in ("x", "y"):
            kind = PutKind.CONTEXT if client in contexts else PutKind.BLIND
            done = cluster.put(
                cluster.rng.choice(["n1", "n2", "n3"]),
                "k",
                f"{client}{number}",
                kind=kind,
                context=contexts.get(client, b""),
            )
            contexts[client] = token_of(cluster, "k", done)
    assert sorted(values(cluster.get("n1", "k", r=3))) == ["x99", "y99"]


def test_two_clients_that_read_before_each_put_leave_exactly_one_value():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "start")
    for number in range(100):
        for client in ("x", "y"):
            context = token_of(cluster, "k", cluster.get("n2", "k"))
            cluster.put("n1", "k", f"{client}{number}", kind=PutKind.CONTEXT, context=context)
    assert values(cluster.get("n3", "k")) == ["y99"]


def test_a_context_of_another_key_is_refused_and_nothing_is_stored():
    cluster = VirtualCluster(3)
    context = token_of(cluster, "one", cluster.put("n1", "one", "v"))
    refused = cluster.put("n1", "two", "v", kind=PutKind.CONTEXT, context=context)
    assert isinstance(refused, Failed) and refused.kind == FailureKind.WRONG_CONTEXT
    assert set(cluster.copies("two").values()) == {None}


def test_a_put_without_reachable_quorum_is_unavailable_and_leaves_no_trace():
    cluster = VirtualCluster(3)
    cluster.kill("n2")
    cluster.kill("n3")
    cluster.run_for(0.1)
    for kind in (PutKind.BLIND, PutKind.OVERWRITE):
        refused = cluster.put("n1", "k", "lost", kind=kind)
        assert isinstance(refused, Failed) and refused.kind == FailureKind.UNAVAILABLE
    cluster.start("n2")
    cluster.start("n3")
    cluster.run_for(10)
    assert set(cluster.copies("k").values()) == {None}


def test_a_put_that_loses_its_quorum_after_storing_is_indeterminate():
    cluster = VirtualCluster(3)
    cluster.isolate(["n1"])
    reply = cluster.put("n1", "k", "maybe", kind=PutKind.BLIND)
    assert isinstance(reply, Failed) and reply.kind == FailureKind.INDETERMINATE
    assert cluster.copies("k")["n1"] is not None


def test_a_retry_that_cannot_read_is_unavailable_because_nothing_was_stored():
    cluster = VirtualCluster(3)
    cluster.isolate(["n1"])
    reply = cluster.put("n1", "k", "never", attempt=1)
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    assert set(cluster.copies("k").values()) == {None}


def test_an_overwriting_put_that_fewer_than_r_can_vouch_for_is_unavailable_in_strict_mode():
    cluster = VirtualCluster(3, w=1, r=3)
    cluster.kill("n3")
    reply = cluster.put("n1", "k", "never")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    assert set(cluster.copies("k").values()) == {None}


def test_w_equal_to_n_fails_with_one_node_down():
    cluster = VirtualCluster(3, w=3, r=1)
    cluster.kill("n3")
    reply = cluster.put("n1", "k", "v")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    assert isinstance(cluster.put("n1", "k", "v", w=2), PutDone)


def test_a_silent_link_is_known_dead_after_the_window_and_refused_from_then_on():
    cluster = VirtualCluster(3)
    cluster.isolate(["n1"])
    cluster.run_for(6)
    sent = []
    cluster.tap = lambda sender, receiver, message: sent.append(message) or True
    reply = cluster.put("n1", "k", "v", kind=PutKind.BLIND)
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    assert not [one for one in sent if isinstance(one, ReplicaPut)]


def test_a_request_is_forwarded_once_to_a_node_that_holds_the_key():
    cluster = VirtualCluster(5)
    forwards = []
    cluster.tap = lambda sender, receiver, message: (
        forwards.append((sender, receiver)) or True if isinstance(message, Forward) else True
    )
    owners = set(cluster.copies("k"))
    outsider = next(name for name in cluster.hosts if name not in owners)
    done = cluster.put(outsider, "k", "v")
    assert isinstance(done, PutDone) and done.coordinator in owners
    assert forwards == [(outsider, done.coordinator)]
    assert values(cluster.get(outsider, "k")) == ["v"]


def test_a_forwarded_put_whose_target_dies_is_indeterminate():
    cluster = VirtualCluster(5)
    owners = set(cluster.copies("k"))
    outsider = next(name for name in cluster.hosts if name not in owners)
    cluster.tap = lambda sender, receiver, message: not isinstance(message, Forward)
    reply = cluster.put(outsider, "k", "v")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.INDETERMINATE


def test_a_read_mends_every_replica_that_differs():
    cluster = VirtualCluster(3)
    loses_writes_to(cluster, "n3")
    cluster.put("n1", "k", "v")
    cluster.run_for(5)
    assert cluster.copies("k")["n3"] is None
    cluster.tap = None
    assert values(cluster.get("n1", "k")) == ["v"]
    assert cluster.run_until(lambda: len(set(cluster.copies("k").values())) == 1, 5)
    assert None not in cluster.copies("k").values()


def test_a_tombstone_is_repaired_like_any_other_version():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "v")
    cluster.run_for(1)
    loses_writes_to(cluster, "n3")
    cluster.put("n1", "k", None)
    cluster.run_for(5)
    cluster.tap = None
    assert values(cluster.get("n2", "k")) == []
    assert cluster.run_until(lambda: len(set(cluster.copies("k").values())) == 1, 5)
    assert decode_object(cluster.copies("k")["n3"]).deleted


def test_a_blocking_read_answers_only_once_the_merge_is_at_a_quorum():
    cluster = VirtualCluster(3)
    cluster.tap = lambda sender, receiver, message: not isinstance(message, ReplicaPut)
    cluster.put("n1", "k", "v", kind=PutKind.BLIND, w=1)
    held = []
    cluster.tap = lambda sender, receiver, message: (
        held.append(message) or False if isinstance(message, ReplicaPut) else True
    )
    reply = cluster.get("n1", "k", repair=RepairMode.BLOCKING)
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE and held
    cluster.tap = None
    assert values(cluster.get("n1", "k", repair=RepairMode.BLOCKING)) == ["v"]
    assert sum(copy is not None for copy in cluster.copies("k").values()) >= 2


def test_every_acknowledged_write_survives_killing_each_node_in_turn():
    cluster = VirtualCluster(3)
    for number in range(30):
        victim = f"n{number % 3 + 1}"
        other = f"n{(number + 1) % 3 + 1}"
        assert isinstance(cluster.put(other, f"k{number}", f"v{number}"), PutDone)
        cluster.kill(victim)
        assert isinstance(cluster.put(other, f"d{number}", f"w{number}"), PutDone)
        cluster.start(victim)
        cluster.run_for(0.2)
    for number in range(30):
        assert values(cluster.get("n1", f"k{number}")) == [f"v{number}"]
        assert values(cluster.get("n2", f"d{number}")) == [f"w{number}"]


def test_a_replica_acknowledges_only_what_its_disk_has():
    cluster = VirtualCluster(3)
    acks = []

    def watch(sender, receiver, message):
        if isinstance(message, ReplicaPutAck):
            acks.append(sender)
        return True

    cluster.tap = watch
    cluster.put("n1", "k", "v")
    cluster.run_for(1)
    for name in [*acks, "n1"]:
        cluster.kill(name)
    for name in cluster.hosts:
        cluster.start(name)
    assert sorted(acks) == ["n2", "n3"]
    assert None not in cluster.copies("k").values()


def test_a_replica_whose_copy_is_damaged_is_no_evidence_of_absence():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "v", w=3)
    key = b"k"
    partition = cluster.node("n1").state.map.partition_of(key)
    for name in ("n1", "n2"):
        cluster.hosts[name].storage.corrupt(partition, key)
    replies = []
    cluster.tap = lambda sender, receiver, message: (
        replies.append(message) or True if isinstance(message, ReplicaGetReply) else True
    )
    reply = cluster.get("n1", "k")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    assert values(cluster.get("n3", "k", r=1)) == ["v"]
    cluster.run_for(1)
    assert values(cluster.get("n1", "k", r=3)) == ["v"], "the read repaired the damaged copies"


def test_a_put_over_a_damaged_copy_uses_a_new_actor():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "v", w=3)
    partition = cluster.node("n1").state.map.partition_of(b"k")
    cluster.hosts["n1"].storage.corrupt(partition, b"k")
    assert isinstance(cluster.put("n1", "k", "w"), PutDone)
    stored = decode_object(cluster.copies("k")["n1"])
    assert [s.actor for s in stored.siblings] == ["n1#2"]
    assert cluster.run_until(lambda: not cluster.node("n1").state.replica.doubted, 1)
    assert values(cluster.get("n2", "k", r=3)) == ["w"]


def test_a_node_over_its_limit_of_requests_answers_overloaded():
    from kvctl_node.config import LimitsConfig

    cluster = VirtualCluster(3, limits=LimitsConfig(requests_in_flight_max=2))
    cluster.isolate(["n1"])
    requests = [cluster.put_request(f"k{i}", "v", kind=PutKind.BLIND) for i in range(3)]
    for request in requests:
        cluster.send("n1", request)
    last = cluster.answer(requests[-1].id, 0.1)
    assert isinstance(last, Failed) and last.kind == FailureKind.OVERLOADED
    assert cluster.copies("k2")["n1"] is None


def test_a_full_disk_refuses_writes_definitely_and_still_reads():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "v")
    for host in cluster.hosts.values():
        host.storage.full = True
    refused = cluster.put("n1", "k", "w")
    assert isinstance(refused, Failed) and refused.kind == FailureKind.OVERLOADED
    assert values(cluster.get("n1", "k")) == ["v"]


def loses_writes_to(cluster, node):
    """Lose whatever would bring a value to a node, hints included."""
    cluster.tap = lambda sender, receiver, message: (
        not (receiver == node and isinstance(message, ReplicaPut | HandoffPut))
    )


def scan_all(cluster, via, *, limit):
    from kvctl_node.protocol.client_messages import ClientScan

    found, partition, key = {}, 0, b""
    while partition >= 0:
        number = 10_000_000 + len(cluster.replies)
        deadline_ms = cluster.now.wall_ms + 5000
        cluster.send(via, ClientScan(number, partition, key, b"", limit, deadline_ms))
        page = cluster.answer(number)
        assert isinstance(page, ScanDone), page
        for name, content in page.entries:
            assert name not in found
            found[name] = [s.value for s in decode_object(content).siblings]
        assert (page.next_partition, page.next_key) > (partition, key) or page.next_partition == -1
        partition, key = page.next_partition, page.next_key
    return found


@pytest.mark.parametrize("limit", [1, 7, 512])
def test_a_scan_finds_every_key_once_also_with_a_node_down(limit):
    cluster = VirtualCluster(5)
    for number in range(60):
        cluster.put("n1", f"k{number}", f"v{number}")
    cluster.put("n1", "k7", None)
    expected = {b"k%d" % n: [b"v%d" % n] for n in range(60) if n != 7}
    assert scan_all(cluster, "n2", limit=limit) == expected
    cluster.kill("n4")
    cluster.run_for(0.1)
    assert scan_all(cluster, "n3", limit=limit) == expected


def test_a_scan_without_r_owners_of_a_partition_is_unavailable():
    cluster = VirtualCluster(5)
    cluster.kill("n4")
    cluster.kill("n5")
    cluster.run_for(0.1)
    reply = cluster.scan("n1")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    assert isinstance(cluster.scan("n1", r=1), ScanDone)


def test_the_copy_of_a_rebuilding_replica_is_merged_but_does_not_count():
    cluster = VirtualCluster(3)
    loses_writes_to(cluster, "n2")
    cluster.put("n1", "k", "old", kind=PutKind.BLIND)
    cluster.run_for(5)
    cluster.kill("n3")
    cluster.kill("n1")
    cluster.tap = None
    cluster.wipe("n3")
    cluster.start("n3")
    cluster.run_for(1)
    done = cluster.put("n2", "k", "new", kind=PutKind.BLIND)
    assert isinstance(done, PutDone) and set(done.acked) == {"n2", "n3"}
    reply = cluster.get("n2", "k")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE, "n1 has more"
    cluster.start("n1")
    cluster.run_for(1)
    assert sorted(values(cluster.get("n2", "k", r=2))) == ["new", "old"]
