"""Anti-entropy on whole virtual clusters: what differs is found, moved, and nothing else is."""

import pytest

from node.causality.causal_context import EMPTY_CONTEXT
from node.causality.siblings import EMPTY_OBJECT, decode_object, encode_object, put_version
from node.config import RepairConfig
from node.errors import FailureKind
from node.protocol.client_messages import (
    AdminDone,
    ClientAdmin,
    Failed,
    GetDone,
    PutDone,
    PutKind,
)
from node.protocol.messages import (
    ReplicaGetReply,
    ReplicaPut,
    ReplicaState,
)
from node.protocol.repair_messages import (
    MerkleKeys,
    MerkleQuery,
    MerkleReply,
    RepairKeys,
    RepairKeysReply,
)
from node.replication.key_listing import readable
from node.replication.merkle_pair import MerkleLevel
from tests.virtual_cluster import VirtualCluster

BY_COMMAND_ONLY = RepairConfig(compare_interval_ms=0, keys_per_s=1_000_000)


def values(reply):
    assert isinstance(reply, GetDone), reply
    if not reply.content:
        return []
    return [s.value.decode() for s in decode_object(reply.content).siblings if s.value is not None]


def admin(cluster, via, command, **arguments):
    number = 5_000_000 + len(cluster.replies)
    cluster.send(via, ClientAdmin(number, command, arguments))
    reply = cluster.answer(number)
    assert isinstance(reply, AdminDone), reply
    return reply.result


def finished_row(cluster, via, session, seconds=120.0):
    """Wait for a comparison and return what it came to."""

    def row():
        return admin(cluster, via, "repair_status", sessions=[session])["pairs"][0]

    assert cluster.run_until(lambda: row()["finished"], seconds), row()
    return row()


def compare(cluster, a, b, **arguments):
    return finished_row(cluster, a, admin(cluster, a, "merkle", peer=b, **arguments)["session"])


def repair(cluster, a, b):
    return finished_row(cluster, a, admin(cluster, a, "repair", peers=[b])["sessions"][b])


def store(cluster, name, key, content):
    """Put an object on one node's disk, past the network."""
    node = cluster.node(name)
    node.state.replica.apply(node.state.map.partition_of(key), key, content, b"", b"")


def version(value, actor="n1#1"):
    stored, _ = put_version(
        EMPTY_OBJECT, value, actor=actor, seen=EMPTY_CONTEXT, stamp_ms=1_700_000_000_000
    )
    return encode_object(stored)


def fill(cluster, count):
    """The same keys on every owner's disk."""
    for number in range(count):
        key = b"key%06d" % number
        for name in cluster.copies(key.decode()):
            store(cluster, name, key, version(b"v%06d" % number * 10))
    for host in cluster.hosts.values():
        host.storage.commit()


def losing(receiver, *kinds):
    """A tap that loses messages of these kinds to one node."""
    return lambda _, to, message: not (to == receiver and isinstance(message, kinds))


def put_missing_at(cluster, name, key, value, **options):
    """A put that one replica never sees, with the coordinator's time long over."""
    cluster.tap = losing(name, ReplicaPut)
    assert isinstance(cluster.put("n1", key, value, **options), PutDone)
    cluster.run_for(3)
    cluster.tap = None


def drop_hints(cluster):
    """As if they had expired: what anti-entropy is for."""
    for host in cluster.hosts.values():
        handoff = host.node.state.handoff
        for queue in list(host.storage.hints.queues()):
            for hint in host.storage.hints.page(queue.target, b"", 10_000):
                host.storage.hints.delete(hint.target, hint.key)
        handoff._queues.clear()
        handoff._bytes = 0


def hold_hints(cluster):
    for name in cluster.hosts:
        admin(cluster, name, "hints_hold", held=True)


def wipe(cluster, name, *, registry_too=False):
    """An empty disk under the old name; `registry_too`: only the peers remember the old one."""
    cluster.kill(name)
    cluster.wipe(name)
    if registry_too:
        cluster.hosts[name].known_generation = cluster.hosts[name].known_actor_epoch = 0
    cluster.start(name)


def watch(cluster, *kinds):
    seen = []
    cluster.tap = lambda sender, receiver, message: (
        seen.append((sender, receiver, message)) or True if isinstance(message, kinds) else True
    )
    return seen


# ------------------------------------------------------------------ comparing


def test_an_equal_pair_costs_one_hash():
    cluster = VirtualCluster(3, repair=BY_COMMAND_ONLY)
    fill(cluster, 200)
    asked = watch(cluster, MerkleQuery, MerkleReply, MerkleKeys, RepairKeys)
    row = compare(cluster, "n1", "n2")
    assert row["state"] == "equal" and row["keys_differing"] == 0
    assert [type(message) for _, _, message in asked] == [MerkleQuery, MerkleReply]
    assert len(asked[0][2].hashes) == 16
    assert row["full_copy_bytes"] > 200 * 60 > 60 * row["bytes"]


def test_a_read_only_comparison_counts_and_changes_nothing():
    cluster = VirtualCluster(3, repair=BY_COMMAND_ONLY)
    fill(cluster, 50)
    store(cluster, "n2", b"key000007", version(b"other", "n2#1"))
    store(cluster, "n2", b"extra", version(b"only here"))
    before = cluster.copies("key000007"), cluster.copies("extra")
    row = compare(cluster, "n1", "n2")
    assert (row["state"], row["keys_differing"], row["keys_repaired"]) == ("different", 2, 0)
    assert row["leaves_differing"] == 2
    assert before == (cluster.copies("key000007"), cluster.copies("extra"))


def test_a_comparison_of_one_partition_sees_only_that_partition():
    cluster = VirtualCluster(3, repair=BY_COMMAND_ONLY)
    fill(cluster, 50)
    store(cluster, "n2", b"extra", version(b"only here"))
    partition = cluster.node("n1").state.map.partition_of(b"extra")
    assert compare(cluster, "n1", "n2", partition=partition)["keys_differing"] == 1
    other = compare(cluster, "n1", "n2", partition=(partition + 1) % 64)
    assert other["state"] == "equal" and other["partitions"] == 1


def test_one_differing_key_costs_nearly_the_same_among_a_thousand_and_twenty_thousand():
    bytes_moved = []
    for count in (1_000, 20_000):
        cluster = VirtualCluster(3, repair=BY_COMMAND_ONLY)
        fill(cluster, count)
        store(cluster, "n2", b"key000007", version(b"other" * 10, "n2#1"))
        row = repair(cluster, "n1", "n2")
        assert (row["keys_differing"], row["keys_repaired"]) == (1, 1)
        bytes_moved.append(row["bytes"])
    assert bytes_moved[1] < bytes_moved[0] * 1.25, bytes_moved
    assert bytes_moved[1] < 5_000
    assert row["full_copy_bytes"] > 1_000_000


@pytest.mark.parametrize("empty", ["n1", "n2"])
@pytest.mark.parametrize("count", [0, 30, 1_000, 5_000])
def test_rebuilding_an_empty_disk_costs_little_more_than_what_has_to_be_moved(empty, count):
    """1,024 partitions: whoever asks, hashes of nothing, and of nearly nothing, are not sent."""
    cluster = VirtualCluster(3, partitions=1024, repair=BY_COMMAND_ONLY)
    full = "n1" if empty == "n2" else "n2"
    for number in range(count):
        store(cluster, full, b"key%06d" % number, version(b"v" * 100))
    row = repair(cluster, "n1", "n2")
    assert row["keys_repaired"] == count
    copy_bytes = count * (len(b"key000000") + len(encode_object(version(b"v" * 100))))
    assert row["bytes"] < 1.6 * copy_bytes + 3_000, (row["bytes"], copy_bytes)
    assert compare(cluster, "n1", "n2")["state"] == "equal"


def test_two_small_rings_that_differ_everywhere_are_merged_for_little_more_than_their_content():
    cluster = VirtualCluster(3, partitions=1024, repair=BY_COMMAND_ONLY)
    for number in range(1_000):
        store(cluster, "n1", b"left%06d" % number, version(b"v" * 100))
        store(cluster, "n2", b"right%05d" % number, version(b"v" * 100))
    row = repair(cluster, "n1", "n2")
    assert row["keys_repaired"] == 2_000
    copy_bytes = 2_000 * (10 + len(encode_object(version(b"v" * 100))))
    assert row["bytes"] < 1.6 * copy_bytes, (row["bytes"], copy_bytes)
    assert compare(cluster, "n1", "n2")["state"] == "equal"


def test_a_sparse_partition_that_the_other_has_much_in_is_compared_on_its_own():
    cluster = VirtualCluster(3, partitions=16, repair=BY_COMMAND_ONLY)
    for number in range(12_000):
        store(cluster, "n2", b"key%06d" % number, version(b"v"))
    assert repair(cluster, "n1", "n2")["keys_repaired"] == 12_000
    assert compare(cluster, "n1", "n2")["state"] == "equal"


def test_repair_moves_both_ways_at_once_and_keeps_siblings():
    cluster = VirtualCluster(3, repair=BY_COMMAND_ONLY)
    store(cluster, "n1", b"only1", version(b"a"))
    store(cluster, "n2", b"only2", version(b"b"))
    store(cluster, "n1", b"both", version(b"x", "n1#1"))
    store(cluster, "n2", b"both", version(b"y", "n2#1"))
    row = repair(cluster, "n1", "n2")
    assert (row["state"], row["keys_repaired"]) == ("repaired", 3)
    for key in ("only1", "only2", "both"):
        copies = cluster.copies(key)
        assert copies["n1"] == copies["n2"] is not None
    siblings = decode_object(cluster.copies("both")["n1"]).siblings
    assert sorted(one.value for one in siblings) == [b"x", b"y"]
    assert compare(cluster, "n1", "n2")["state"] == "equal"
    assert compare(cluster, "n2", "n1")["state"] == "equal"


def test_only_the_keys_that_differ_are_moved_and_only_their_branches_are_walked():
    cluster = VirtualCluster(3, partitions=128, repair=BY_COMMAND_ONLY)
    fill(cluster, 500)
    for number in (3, 77, 400):
        store(cluster, "n2", b"key%06d" % number, version(b"other", "n2#1"))
    seen = watch(cluster, RepairKeys, MerkleQuery)
    repair(cluster, "n1", "n2")
    moved = [message for _, _, message in seen if isinstance(message, RepairKeys)]
    keys = sorted(key for message in moved for key, _, _ in message.copies)
    assert keys == [b"key000003", b"key000077", b"key000400"]
    partition_of = cluster.node("n1").state.map.partition_of
    partitions = {partition_of(key) for key in keys}
    asked = {message.level: set(message.parents) for _, _, message in seen if message not in moved}
    assert asked[MerkleLevel.PARTITION] == {one // 32 for one in partitions} != {0, 1, 2, 3}
    assert asked[MerkleLevel.LEAF] == partitions


def test_large_values_are_moved_in_several_bounded_messages_both_ways():
    cluster = VirtualCluster(3, repair=BY_COMMAND_ONLY)
    partition_of = cluster.node("n1").state.map.partition_of
    together = [key for key in (b"k%d" % n for n in range(2_000)) if partition_of(key) == 5][:12]
    for number, key in enumerate(together):
        store(cluster, "n1" if number < 6 else "n2", key, version(b"x" * 700_000))
    moved = watch(cluster, RepairKeys, RepairKeysReply)
    row = repair(cluster, "n1", "n2")
    assert row["keys_repaired"] == 12
    sizes = [sum(len(one[1]) for one in message.copies) for _, _, message in moved]
    assert sum(sizes) < 12 * 710_000, "every value moved once"
    assert max(sizes) < 1_500_000
    assert compare(cluster, "n1", "n2")["state"] == "equal"


def test_repair_keeps_to_its_rate():
    slow = RepairConfig(compare_interval_ms=0, keys_per_s=200)
    cluster = VirtualCluster(3, repair=slow)
    for number in range(400):
        store(cluster, "n2", b"key%d" % number, version(b"v"))
    began_s = cluster.time_s
    assert repair(cluster, "n1", "n2")["keys_repaired"] == 400
    assert cluster.time_s - began_s > 400 / 200


def test_a_comparison_survives_lost_messages_and_ends_when_the_peer_dies():
    cluster = VirtualCluster(3, seed=3, repair=BY_COMMAND_ONLY)
    fill(cluster, 50)
    for number in range(20):
        store(cluster, "n2", b"extra%d" % number, version(b"only here"))
    lost = []

    def lossy(sender, receiver, message):
        if isinstance(message, MerkleReply | RepairKeys) and len(lost) < 2:
            lost.append(message)
            return False
        return True

    cluster.tap = lossy
    assert repair(cluster, "n1", "n2")["keys_repaired"] == 20 and len(lost) == 2
    cluster.tap = losing("n2", MerkleQuery)
    session = admin(cluster, "n1", "merkle", peer="n2")["session"]
    cluster.run_for(0.5)
    cluster.kill("n2")
    row = finished_row(cluster, "n1", session)
    assert row["state"] == "interrupted" and row["reason"] == "n2 cannot be reached"
    row = compare(cluster, "n1", "n2")
    assert row["state"] == "interrupted" and row["last_success_ms"] is not None


def test_the_roots_that_two_nodes_name_for_each_other_say_whether_they_converged():
    cluster = VirtualCluster(3, repair=BY_COMMAND_ONLY)
    fill(cluster, 50)

    def roots(a, b):
        return (
            admin(cluster, a, "merkle_roots")["roots"][b],
            admin(cluster, b, "merkle_roots")["roots"][a],
        )

    ours, theirs = roots("n1", "n2")
    assert ours == theirs is not None
    store(cluster, "n2", b"extra", version(b"only here"))
    ours, theirs = roots("n1", "n2")
    assert ours != theirs


def test_a_command_with_a_wrong_name_is_refused_with_the_names_that_exist():
    cluster = VirtualCluster(3)
    cluster.send("n1", ClientAdmin(77, "merkle", {"peer": "n9"}))
    reply = cluster.answer(77)
    assert isinstance(reply, Failed) and "n9" in reply.message and "n2" in reply.hint


# ------------------------------------------------------------------ in the background


def test_a_background_round_repairs_what_hints_missed():
    cluster = VirtualCluster(3, repair=RepairConfig(compare_interval_ms=10_000))
    hold_hints(cluster)
    put_missing_at(cluster, "n3", "k", "v")
    drop_hints(cluster)
    assert cluster.copies("k")["n3"] is None
    assert cluster.run_until(lambda: "keys_repaired" in {kind for _, kind, _ in cluster.events}, 60)
    assert len(set(cluster.copies("k").values())) == 1
    repaired = [fields for _, kind, fields in cluster.events if kind == "keys_repaired"]
    assert [fields["count"] for fields in repaired] == [1]


def test_a_background_round_ignores_keys_that_differ_only_because_writes_are_in_flight():
    cluster = VirtualCluster(3, repair=RepairConfig(compare_interval_ms=500))
    cluster.run_for(15)
    moved = []
    for number in range(5):
        # The write is late at n3 by some seconds: it arrives as a hint of its coordinator.
        cluster.tap = losing("n3", ReplicaPut)
        assert isinstance(cluster.put("n1", f"k{number}", "v"), PutDone)
        moved = watch(cluster, RepairKeys)
        cluster.run_for(12)
        assert len(set(cluster.copies(f"k{number}").values())) == 1
        assert moved == []
    rounds = [fields for _, kind, fields in cluster.events if kind == "merkle_round"]
    assert [one for one in rounds if one["leaves_differing"]], "the difference was seen"


def test_a_healed_partition_converges_in_bounded_time_without_reads():
    cluster = VirtualCluster(5, mode="strict", w=1, r=1)
    cluster.isolate(["n1", "n2"])
    cluster.run_for(6)
    for number in range(40):
        cluster.put("n1", f"k{number}", "left", kind=PutKind.BLIND)
        cluster.put("n4", f"k{number}", "right", kind=PutKind.BLIND)
    drop_hints(cluster)
    cluster.heal()
    keys = [f"k{number}" for number in range(40)]
    assert cluster.run_until(
        lambda: all(len(set(cluster.copies(key).values())) == 1 for key in keys), 90
    )


# ------------------------------------------------------------------ lost disks


@pytest.mark.parametrize("registry_too", [False, True])
def test_a_wiped_disk_is_rebuilt_from_its_co_owners(registry_too):
    cluster = VirtualCluster(5)
    for number in range(100):
        cluster.put("n1", f"k{number}", f"v{number}", w=3)
    before = {f"k{number}": cluster.copies(f"k{number}") for number in range(100)}
    wipe(cluster, "n2", registry_too=registry_too)
    assert cluster.run_until(
        lambda: ("n2", "rebuild_finished") in {event[:2] for event in cluster.events}, 60
    )
    assert {key: cluster.copies(key) for key in before} == before
    assert cluster.node("n2").state.replica.unproven == set()


@pytest.mark.parametrize("via", ["n1", "n2", "n3"])
def test_a_missing_key_of_a_rebuilding_node_is_never_read_as_not_found(via):
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "v", w=3)
    cluster.tap = lambda _, __, message: not isinstance(message, MerkleQuery | MerkleReply)
    wipe(cluster, "n2")
    cluster.run_for(2)
    answers = []
    cluster.tap = lambda sender, receiver, message: (
        answers.append((sender, message.state)) or True
        if isinstance(message, ReplicaGetReply)
        else not isinstance(message, MerkleQuery | MerkleReply)
    )
    assert values(cluster.get(via, "k")) == ["v"]
    cluster.run_for(1)
    absent = cluster.get(via, "nothing")
    assert isinstance(absent, GetDone) and absent.content == b""
    assert "n2" not in absent.replied
    assert all(state != ReplicaState.ABSENT for sender, state in answers if sender == "n2")
    cluster.kill("n3" if via != "n3" else "n1")
    cluster.run_for(5)
    reply = cluster.get(via, "nothing")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.UNAVAILABLE
    page = cluster.scan(via)
    assert isinstance(page, Failed) and page.kind == FailureKind.UNAVAILABLE


def test_a_rebuild_goes_on_after_the_node_was_killed_in_the_middle():
    cluster = VirtualCluster(3)
    for number in range(30):
        cluster.put("n1", f"k{number}", "v", w=3)
    cluster.tap = lambda _, __, message: not isinstance(message, MerkleQuery | MerkleReply)
    wipe(cluster, "n2")
    cluster.run_for(2)
    cluster.kill("n2")
    cluster.start("n2")
    assert cluster.node("n2").state.replica.unproven
    cluster.tap = None
    assert cluster.run_until(lambda: not cluster.node("n2").state.replica.unproven, 60)
    assert all(None not in cluster.copies(f"k{number}").values() for number in range(30))


def test_a_disk_put_back_to_an_older_state_is_rebuilt():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k1", "v", w=3)
    cluster.kill("n2")
    image = cluster.hosts["n2"].storage.image()
    cluster.start("n2")
    cluster.run_for(3)
    cluster.put("n1", "k2", "v", w=3)
    drop_hints(cluster)
    cluster.kill("n2")
    cluster.restore("n2", image)
    cluster.start("n2")
    assert cluster.node("n2").state.replica.unproven
    assert cluster.run_until(lambda: not cluster.node("n2").state.replica.unproven, 60)
    assert None not in cluster.copies("k2").values()


def test_a_node_that_starts_for_the_first_time_does_not_rebuild():
    cluster = VirtualCluster(3)
    cluster.run_for(20)
    assert not [kind for _, kind, _ in cluster.events if kind.startswith("rebuild")]


def test_a_wiped_node_stays_unproven_until_enough_co_owners_were_compared():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "v", w=3)
    cluster.kill("n3")
    wipe(cluster, "n2")
    cluster.run_for(20)
    assert cluster.copies("k")["n2"] is not None, "it has been compared with n1"
    assert cluster.node("n2").state.replica.unproven, "n3 may hold what n1 never saw"
    cluster.start("n3")
    assert cluster.run_until(lambda: not cluster.node("n2").state.replica.unproven, 30)


def test_a_damaged_record_is_found_by_the_rebuild_of_the_tree_and_repaired_under_a_new_epoch():
    cluster = VirtualCluster(3, repair=RepairConfig(rebuild_interval_ms=20_000))
    for number in range(30):
        cluster.put("n1", f"k{number}", f"v{number}", w=3)
    partition = cluster.node("n2").state.map.partition_of(b"k7")
    epoch = cluster.node("n2").identity.actor_epoch
    cluster.hosts["n2"].storage.corrupt(partition, b"k7")
    whole = cluster.copies("k8")
    storage = cluster.hosts["n2"].storage
    assert cluster.run_until(lambda: readable(storage, partition, b"k7") is not None, 60)
    assert len(set(cluster.copies("k7").values())) == 1 and cluster.copies("k8") == whole
    assert cluster.node("n2").identity.actor_epoch > epoch
    assert cluster.run_until(lambda: not cluster.node("n2").state.replica.merkle.damaged, 5)


def test_a_damaged_record_that_a_read_meets_is_repaired_within_seconds_even_if_nobody_reads_again():
    cluster = VirtualCluster(3)
    for number in range(30):
        cluster.put("n1", f"k{number}", f"v{number}", w=3)
    storage = cluster.hosts["n2"].storage
    state = cluster.node("n2").state
    partition = state.map.partition_of(b"k7")
    # The read itself must not mend it: only what follows from having met the damage may.
    cluster.tap = lambda _, __, message: not isinstance(message, ReplicaPut)
    storage.corrupt(partition, b"k7")
    assert values(cluster.get("n1", "k7")) == ["v7"]
    assert cluster.run_until(lambda: readable(storage, partition, b"k7") is not None, 5)
    state.replica.merkle.check_invariants(storage)


def test_the_trees_equal_their_recomputation_after_a_busy_hour_of_everything():
    cluster = VirtualCluster(
        5, mode="sloppy", seed=11, repair=RepairConfig(compare_interval_ms=2000)
    )
    for number in range(200):
        via = f"n{number % 3 + 1}"
        value = None if number % 7 == 0 else f"v{number}"
        cluster.put(via, f"k{number % 40}", value, kind=PutKind(2 * (number % 5 == 0)))
        if number in (50, 120):
            cluster.kill("n4")
        if number in (80, 150):
            cluster.start("n4")
    wipe(cluster, "n5")
    cluster.run_for(60)
    for name, host in cluster.hosts.items():
        cluster.node(name).state.replica.merkle.check_invariants(host.storage)
    for number in range(40):
        assert len(set(cluster.copies(f"k{number}").values())) == 1
