"""Cases that the simulation found, as short stories of their own."""

from __future__ import annotations

from kvctl_node.causality.siblings import decode_context, decode_object
from kvctl_node.config import RepairConfig
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    Failed,
    GetDone,
    PutDone,
    PutKind,
    RepairMode,
)
from kvctl_node.protocol.messages import (
    Forward,
    PeerFrame,
    ReplicaRefused,
)
from kvctl_node.protocol.repair_messages import (
    MerkleQuery,
)
from tests.virtual_cluster import VirtualCluster
from tests.virtual_network import LinkQuality


def siblings(content):
    return sorted(one.value.decode() for one in decode_object(content).siblings if one.value)


def outsider(cluster, key):
    return next(name for name in cluster.hosts if name not in cluster.copies(key))


def test_a_get_that_misses_its_quorum_still_mends_whoever_could_not_answer():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "v", w=3)
    cluster.tap = lambda _from, _to, message: not isinstance(message, MerkleQuery)
    partition = cluster.node("n1").state.map.partition_of(b"k")
    cluster.hosts["n3"].storage.corrupt(partition, b"k")
    failed = cluster.get("n1", "k", r=3)
    assert isinstance(failed, Failed) and failed.kind == FailureKind.UNAVAILABLE
    cluster.run_for(1)
    done = cluster.get("n1", "k", r=3)
    assert isinstance(done, GetDone) and siblings(done.content) == ["v"]


def test_a_blocking_get_with_r_one_answers_for_all_replicas_or_not_at_all():
    cluster = VirtualCluster(3, r=1, w=1)
    cluster.put("n1", "k", "v")
    done = cluster.get("n1", "k", repair=RepairMode.BLOCKING)
    assert isinstance(done, GetDone) and set(done.replied) == {"n1", "n2", "n3"}
    cluster.kill("n3")
    cluster.run_for(0.1)
    assert isinstance(cluster.get("n1", "k"), GetDone)
    failed = cluster.get("n1", "k", repair=RepairMode.BLOCKING)
    assert isinstance(failed, Failed) and failed.kind == FailureKind.UNAVAILABLE


def test_a_network_that_repeats_messages_does_not_apply_a_forwarded_put_twice():
    cluster = VirtualCluster(5)
    via = outsider(cluster, "k")
    cluster.network.usual = LinkQuality(duplicates=1.0, straggle_s=0.5)
    assert isinstance(cluster.put(via, "k", "v", kind=PutKind.BLIND), PutDone)
    cluster.run_for(2)
    assert {len(decode_object(copy).siblings) for copy in cluster.copies("k").values()} == {1}


def test_a_put_forwarded_to_an_earlier_life_of_a_node_is_refused_by_the_next():
    cluster = VirtualCluster(5)
    sender = outsider(cluster, "k")
    target = next(iter(cluster.copies("k")))
    cluster.kill(target)
    cluster.start(target)
    cluster.run_for(1)
    seen = []
    cluster.tap = lambda _from, _to, message: seen.append(message) or True
    forward = Forward(77, cluster.put_request("k", "v"), target_generation=1)
    epoch = cluster.node(target).ring_epoch
    cluster._arrive(target, PeerFrame(sender, epoch, [forward]))
    cluster.run_for(1)
    assert 77 in {one.id for one in seen if isinstance(one, ReplicaRefused)}
    assert set(cluster.copies("k").values()) == {None}


def test_the_answer_to_a_retry_does_not_claim_to_have_seen_what_came_after_the_put():
    cluster = VirtualCluster(3)
    first = cluster.put_request("k", "first", client=9, sequence=1)
    cluster.send("n1", first)
    assert isinstance(cluster.answer(first.id), PutDone)
    later = cluster.put("n2", "k", "later", client=8)
    again = cluster.put_request("k", "first", client=9, sequence=1, attempt=1)
    cluster.send("n3", again)
    answer = cluster.answer(again.id)
    assert isinstance(answer, PutDone) and isinstance(later, PutDone)
    newest = decode_object(cluster.copies("k")["n2"]).siblings[0]
    assert newest.value == b"later"
    assert decode_context(later.context).covers(*newest.dot)
    assert not decode_context(answer.context).covers(*newest.dot)


def test_a_copy_on_a_restored_disk_mints_under_a_new_actor():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "old", w=3)
    image = cluster.hosts["n1"].storage.image()
    cluster.kill("n1")
    cluster.start("n1")
    cluster.run_for(2)
    cluster.put("n1", "k", "lost with the disk", w=3)
    cluster.kill("n1")
    cluster.restore("n1", image)
    cluster.start("n1")
    cluster.run_for(2)
    cluster.put("n1", "k", "new", w=3, kind=PutKind.BLIND)
    done = cluster.get("n2", "k", r=2)
    assert isinstance(done, GetDone)
    assert siblings(done.content) == ["lost with the disk", "new"]
    dots = [one.dot for one in decode_object(done.content).siblings]
    assert len({dot.actor for dot in dots}) == 2


def test_a_backup_of_the_present_generation_repeats_no_dot_and_counts_in_no_read():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "old", w=3)
    image = cluster.hosts["n1"].storage.image()
    cluster.isolate(["n3"])
    cluster.run_for(6)
    cluster.put("n1", "k", "lost with the disk")  # n2 has it as well
    cluster.kill("n1")
    cluster.restore("n1", image)
    cluster.heal()
    cluster.isolate(["n2"])
    cluster.start("n1")
    cluster.run_for(8)
    assert isinstance(cluster.get("n3", "k"), Failed), "n1 has forgotten what it acknowledged"
    cluster.put("n1", "k", "new", w=1, kind=PutKind.BLIND)
    cluster.heal()
    assert cluster.run_until(lambda: not cluster.node("n1").state.replica.unproven, 60)
    done = cluster.get("n3", "k", r=3)
    assert isinstance(done, GetDone) and siblings(done.content) == ["lost with the disk", "new"]


def test_every_peer_is_compared_with_in_the_background_also_the_last_of_many():
    repair = RepairConfig(compare_interval_ms=1000)
    cluster = VirtualCluster(7, repair=repair)
    cluster.run_for(20)
    compared = {
        fields["peer"]
        for name, kind, fields in cluster.events
        if name == "n1" and kind == "merkle_round"
    }
    shared = {
        peer
        for owners in cluster.node("n1").state.map.owners
        if "n1" in owners
        for peer in owners
        if peer > "n1"
    }
    assert compared == shared


def test_two_rebuilding_nodes_do_not_prove_each_other_whole():
    cluster = VirtualCluster(3, r=1, w=3, repair=RepairConfig(compare_interval_ms=1000))
    cluster.put("n2", "k", "v")
    cluster.isolate(["n2"])
    for name in ("n1", "n3"):
        cluster.kill(name)
        cluster.wipe(name)
    for name in ("n1", "n3"):
        cluster.start(name)
    cluster.run_for(20)
    for name in ("n1", "n3"):
        assert cluster.node(name).state.replica.unproven
        assert isinstance(cluster.get(name, "k"), Failed)
    cluster.heal()
    assert cluster.run_until(
        lambda: not any(cluster.node(name).state.replica.unproven for name in ("n1", "n3")), 60
    )
    assert None not in cluster.copies("k").values()
