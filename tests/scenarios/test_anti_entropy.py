"""Anti-entropy on whole virtual clusters: what differs is found, moved, and nothing else is."""

import pytest

from kvctl_node.causality.siblings import decode_object, encode_object
from kvctl_node.config import RepairConfig
from kvctl_node.protocol.client_messages import (
    ClientAdmin,
    Failed,
    PutDone,
    PutKind,
)
from kvctl_node.protocol.messages import (
    ReplicaPut,
)
from kvctl_node.protocol.repair_messages import (
    MerkleKeys,
    MerkleQuery,
    MerkleReply,
    RepairKeys,
    RepairKeysReply,
)
from kvctl_node.replication.merkle_pair import MerkleLevel
from tests.scenarios.repairing import (
    BY_COMMAND_ONLY,
    admin,
    compare,
    drop_hints,
    fill,
    finished_row,
    hold_hints,
    losing,
    put_missing_at,
    repair,
    store,
    version,
    watch,
)
from tests.virtual_cluster import VirtualCluster

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
