"""Forgetting tombstones: only when nobody holds anything older, and never so that a key revives."""

import pytest

from kvctl_node.causality.siblings import decode_object, encode_object
from kvctl_node.config import RepairConfig, TimingConfig
from kvctl_node.protocol.client_messages import (
    PutDone,
    PutKind,
)
from kvctl_node.protocol.messages import (
    ReplicaPut,
)
from kvctl_node.protocol.repair_messages import (
    HandoffPut,
    ReapAnswer,
    ReapDone,
    ReapOrder,
    ReapQuestion,
)
from tests.scenarios.answers import values
from tests.virtual_cluster import VirtualCluster

GRACE_S = 20
TIMING = TimingConfig(hint_ttl_ms=5_000, retry_window_ms=5_000)
REPAIR = RepairConfig(reap_grace_ms=GRACE_S * 1000, reap_interval_ms=5_000)


def cluster_of(nodes, **options):
    return VirtualCluster(nodes, timing=TIMING, repair=REPAIR, **options)


def everywhere(cluster, key):
    """Every disk's copy of a key, stand-ins included."""
    partition = cluster.node("n1").state.map.partition_of(key.encode())
    return [host.storage.get(partition, key.encode()) for host in cluster.hosts.values()]


def reaped(cluster, key):
    return everywhere(cluster, key) == [None] * len(cluster.hosts)


def delete(cluster, key, via="n1"):
    assert isinstance(cluster.put(via, key, "old"), PutDone)
    assert isinstance(cluster.put(via, key, None), PutDone)


def test_a_tombstone_is_forgotten_everywhere_after_its_grace_and_not_before():
    cluster = cluster_of(5)
    delete(cluster, "k")
    cluster.run_for(GRACE_S - 1)
    assert all(decode_object(copy).deleted for copy in cluster.copies("k").values())
    assert cluster.run_until(lambda: reaped(cluster, "k"), 60)
    assert values(cluster.get("n2", "k")) == []
    counts = [fields["count"] for _, kind, fields in cluster.events if kind == "tombstone_reaped"]
    assert sum(counts) == 3


def test_many_tombstones_are_forgotten_in_batches_and_values_stay():
    cluster = cluster_of(3)
    for number in range(200):
        cluster.put("n1", f"k{number}", "v", w=3)
        if number % 4:
            cluster.put("n1", f"k{number}", None, w=3)
    epochs = {name: cluster.node(name).identity.actor_epoch for name in cluster.hosts}
    assert cluster.run_until(
        lambda: all(reaped(cluster, f"k{n}") for n in range(200) if n % 4), 120
    )
    for number in range(0, 200, 4):
        assert values(cluster.get("n2", f"k{number}", r=3)) == ["v"]
    for name, epoch in epochs.items():
        raised = cluster.node(name).identity.actor_epoch - epoch
        assert raised < 20, "the epoch is raised once a batch, not once a key"


def test_nothing_is_forgotten_while_a_member_is_away():
    cluster = cluster_of(5)
    delete(cluster, "k")
    outsider = next(name for name in cluster.hosts if name not in cluster.copies("k"))
    cluster.kill(outsider)
    cluster.run_for(3 * GRACE_S)
    assert all(copy is not None for copy in cluster.copies("k").values())
    cluster.start(outsider)
    assert cluster.run_until(lambda: reaped(cluster, "k"), 60)


def test_nothing_is_forgotten_while_some_primary_holds_something_else():
    cluster = cluster_of(3)
    cluster.put("n1", "k", "old", w=3)
    cluster.tap = lambda _, to, message: (
        not (to == "n3" and isinstance(message, ReplicaPut | HandoffPut))
    )
    cluster.put("n1", "k", None)
    asked = []
    lost = cluster.tap

    def no_repair_either(sender, receiver, message):
        asked.append(message)
        return lost(sender, receiver, message) and type(message).__name__ != "RepairKeys"

    cluster.tap = no_repair_either
    cluster.run_for(3 * GRACE_S)
    assert any(isinstance(message, ReapQuestion) for message in asked)
    assert not any(isinstance(message, ReapOrder) for message in asked)
    assert decode_object(cluster.copies("k")["n1"]).deleted
    cluster.tap = None
    assert cluster.run_until(lambda: reaped(cluster, "k"), 120)
    assert values(cluster.get("n1", "k")) == []


def test_nothing_is_forgotten_while_anybody_keeps_a_hint_or_a_copy_of_the_key():
    cluster = cluster_of(5, mode="sloppy")
    primaries = list(cluster.copies("k"))
    cluster.kill(primaries[2])
    cluster.run_for(6)
    cluster.put(primaries[0], "k", "old")
    holders = [name for name, host in cluster.hosts.items() if host.storage.hints.holds(b"k")]
    assert holders
    for name in cluster.hosts:
        if name != primaries[2]:
            cluster.node(name).state.handoff.hold(True)
    cluster.start(primaries[2])
    cluster.run_for(6)
    cluster.put(primaries[0], "k", None, w=3)
    cluster.run_for(3 * GRACE_S)
    assert all(decode_object(copy).deleted for copy in cluster.copies("k").values())
    for name in cluster.hosts:
        cluster.node(name).state.handoff.hold(False)
    assert cluster.run_until(lambda: reaped(cluster, "k"), 120)
    assert values(cluster.get("n1", "k")) == []


@pytest.mark.parametrize("kind", [ReapQuestion, ReapAnswer, ReapOrder, ReapDone])
def test_a_lost_step_ends_the_attempt_and_the_deleted_key_stays_deleted(kind):
    cluster = cluster_of(3)
    delete(cluster, "k")
    lost = []

    def losing_one(sender, receiver, message):
        if isinstance(message, kind) and not lost:
            lost.append(message)
            return False
        return True

    cluster.tap = losing_one
    assert cluster.run_until(lambda: bool(lost), 60)
    assert not reaped(cluster, "k")
    for _ in range(30):
        assert values(cluster.get("n2", "k")) == []
        cluster.run_for(2)
    assert cluster.run_until(lambda: reaped(cluster, "k"), 240)


def test_a_key_deleted_while_a_replica_was_down_stays_deleted_before_and_after_the_reap():
    cluster = cluster_of(5, mode="sloppy")
    primaries = list(cluster.copies("k"))
    cluster.put(primaries[0], "k", "old", w=3)
    cluster.kill(primaries[2])
    cluster.run_for(6)
    cluster.put(primaries[0], "k", None)
    cluster.run_for(2 * GRACE_S)
    assert not reaped(cluster, "k"), "a member is away"
    cluster.start(primaries[2])
    cluster.run_for(0.1)
    while not reaped(cluster, "k"):
        assert values(cluster.get(primaries[0], "k")) == []
        cluster.run_for(1)
        assert cluster.time_s < 300
    for name in cluster.hosts:
        assert values(cluster.get(name, "k", r=1)) == []
    cluster.run_for(60)
    assert reaped(cluster, "k"), "nobody had anything left to bring it back"


def test_a_key_created_again_after_the_reap_repeats_no_dot_and_survives_late_copies():
    cluster = cluster_of(3)
    cluster.put("n1", "k", "old", w=3)
    old = decode_object(cluster.copies("k")["n1"])
    cluster.put("n1", "k", None, w=3)
    assert cluster.run_until(lambda: reaped(cluster, "k"), 60)
    cluster.put("n1", "k", "new", w=3)
    new = decode_object(cluster.copies("k")["n1"])
    assert {one.dot for one in new.siblings}.isdisjoint({one.dot for one in old.siblings})
    node = cluster.node("n3")
    partition = node.state.map.partition_of(b"k")
    node.state.replica.apply(partition, b"k", encode_object(old), b"", b"")
    cluster.run_for(2)
    assert "new" in values(cluster.get("n2", "k", r=3))


def test_a_key_written_between_the_questions_is_not_dropped():
    cluster = cluster_of(3)
    delete(cluster, "k")
    seen = []

    def write_when_asked_twice(sender, receiver, message):
        if isinstance(message, ReapOrder) and not seen:
            seen.append(message)
            request = cluster.put_request("k", "new", kind=PutKind.OVERWRITE)
            cluster.time.after(0.0, lambda: cluster.send(receiver, request))
        return True

    cluster.tap = write_when_asked_twice
    assert cluster.run_until(lambda: bool(seen), 60)
    cluster.run_for(3 * GRACE_S)
    assert values(cluster.get("n1", "k", r=3)) == ["new"]
    assert len(set(cluster.copies("k").values())) == 1


def test_a_second_copy_of_a_delivered_hint_that_comes_after_the_reap_is_refused():
    cluster = cluster_of(5, mode="sloppy")
    primaries = list(cluster.copies("k"))
    cluster.kill(primaries[2])
    cluster.run_for(6)
    cluster.put(primaries[0], "k", "old")
    repeated = []

    def remember(sender, receiver, message):
        if isinstance(message, HandoffPut):
            repeated.append((sender, receiver, message))
        return True

    cluster.tap = remember
    cluster.start(primaries[2])
    assert cluster.run_until(lambda: bool(repeated), 60)
    cluster.run_for(2)
    cluster.put(primaries[0], "k", None, w=3)
    assert cluster.run_until(lambda: reaped(cluster, "k"), 120)
    sender, receiver, message = repeated[0]
    cluster.network.send(sender, receiver, cluster.node(sender).ring_epoch, [message], b"")
    cluster.run_for(2)
    assert reaped(cluster, "k")
    assert values(cluster.get(primaries[2], "k", r=1)) == []


def test_a_copy_that_was_under_way_during_the_first_question_meets_the_tombstone():
    cluster = cluster_of(3)
    cluster.put("n1", "k", "old", w=3)
    old = cluster.copies("k")["n1"]
    cluster.put("n1", "k", None, w=3)
    late = []

    def send_late(sender, receiver, message):
        if isinstance(message, ReapQuestion) and not late:
            deadline_ms = cluster.now.wall_ms + TIMING.replica_timeout_ms
            late.append(HandoffPut(1, b"k", old, b"", deadline_ms))
            epoch = cluster.node("n2").ring_epoch
            cluster.time.after(
                TIMING.replica_timeout_ms / 1000 - 0.1,
                lambda: cluster.network.send("n2", "n3", epoch, late, b""),
            )
        return True

    cluster.tap = send_late
    assert cluster.run_until(lambda: bool(late) and reaped(cluster, "k"), 120)
    cluster.run_for(3)
    assert reaped(cluster, "k")


def test_an_order_never_drops_anything_but_an_old_tombstone():
    cluster = cluster_of(3)
    cluster.put("n1", "alive", "v", w=3)
    cluster.put("n1", "young", None, w=3)
    state = cluster.node("n2").state
    keys = []
    for key in (b"alive", b"young"):
        record = state.storage.get(state.map.partition_of(key), key)
        keys.append((key, record.digest))
    order = ReapOrder(1, tuple(keys), cluster.now.wall_ms + 1000)
    answers = []
    cluster.tap = lambda _, __, message: answers.append(message) or True
    cluster.network.send("n1", "n2", cluster.node("n1").ring_epoch, [order], b"")
    cluster.run_for(1)
    assert [one.dropped for one in answers if isinstance(one, ReapDone)] == [(False, False)]
    assert None not in cluster.copies("alive").values()
    assert None not in cluster.copies("young").values()


def test_nothing_is_forgotten_while_a_node_that_owns_nothing_of_it_has_an_old_copy():
    cluster = cluster_of(5)
    cluster.put("n1", "k", "old", w=3)
    old = next(iter(cluster.copies("k").values()))
    cluster.put("n1", "k", None, w=3)
    outsider = next(name for name in cluster.hosts if name not in cluster.copies("k"))
    replica = cluster.node(outsider).state.replica
    partition = cluster.node(outsider).state.map.partition_of(b"k")
    replica.apply(partition, b"k", old, b"", b"")
    cluster.run_for(3 * GRACE_S)
    assert None not in cluster.copies("k").values()
    replica.forget(partition, b"k")
    assert cluster.run_until(lambda: reaped(cluster, "k"), 60)


def test_a_hint_that_arrives_after_the_first_answer_is_met_by_the_second_question():
    cluster = cluster_of(3)
    cluster.put("n1", "k", "old", w=3)
    old = cluster.copies("k")["n1"]
    cluster.put("n1", "k", None, w=3)
    ordered, moved = [], []

    def hint_moves(sender, receiver, message):
        ordered.extend([message] if isinstance(message, ReapOrder) else [])
        if isinstance(message, ReapAnswer) and not moved:
            moved.append(sender)
            state = cluster.node(sender).state
            partition = state.map.partition_of(b"k")
            state.handoff.hold(True)
            state.handoff.keep("n1", partition, b"k", old, b"", cluster.now, counted=True)
        return True

    cluster.tap = hint_moves
    assert cluster.run_until(lambda: bool(moved), 60)
    cluster.run_for(30)
    assert ordered == []
    cluster.node(moved[0]).state.handoff.hold(False)
    assert cluster.run_until(lambda: reaped(cluster, "k"), 60)


def test_a_rebuilding_node_clears_nothing():
    cluster = cluster_of(3)
    cluster.put("n1", "k", "old", w=3)
    cluster.put("n1", "k", None, w=3)
    node = cluster.node("n2")
    record = node.state.storage.get(node.state.map.partition_of(b"k"), b"k")
    question = ReapQuestion(1, ((b"k", record.digest),), cluster.now.wall_ms + 1000)
    answers = []
    cluster.tap = lambda _, __, message: answers.append(message) or True
    for unproven in ({63}, set()):
        node.state.replica.unproven = unproven
        node._reaping.on_reap_question("n1", question, cluster.now)
    cluster.run_for(1.5)
    assert [one.clear for one in answers if isinstance(one, ReapAnswer)] == [(False,), (True,)]
