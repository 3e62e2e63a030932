"""What was lost of a disk comes back: wiped, put back to an older state, damaged in places."""

import pytest

from kvctl_node.config import RepairConfig
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    Failed,
    GetDone,
    PutKind,
)
from kvctl_node.protocol.messages import (
    ReplicaGetReply,
    ReplicaPut,
    ReplicaState,
)
from kvctl_node.protocol.repair_messages import (
    MerkleQuery,
    MerkleReply,
)
from kvctl_node.replication.key_listing import readable
from tests.scenarios.answers import values
from tests.scenarios.repairing import (
    drop_hints,
)
from tests.virtual_cluster import VirtualCluster


def wipe(cluster, name, *, registry_too=False):
    """An empty disk under the old name; `registry_too`: only the peers remember the old one."""
    cluster.kill(name)
    cluster.wipe(name)
    if registry_too:
        cluster.hosts[name].known_generation = cluster.hosts[name].known_actor_epoch = 0
    cluster.start(name)


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
    assert "fewer than R=2 replicas can vouch for the key; n2 cannot" in reply.message
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
