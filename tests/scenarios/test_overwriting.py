"""An overwriting put in one round, and in two where a replica held something else."""

from kvctl_node.causality.causal_context import Dot
from kvctl_node.causality.recent_requests import RecentRequests, decode_recent, encode_recent
from kvctl_node.causality.siblings import decode_object
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    Failed,
    PutDone,
)
from kvctl_node.protocol.messages import (
    ReplicaGet,
    ReplicaPut,
    ReplicaPutAck,
    ReplicaPutReport,
)
from tests.virtual_cluster import VirtualCluster


def watch(cluster: VirtualCluster) -> list[tuple[str, str, object]]:
    """Every message about a copy from now on: (sender, receiver, message)."""
    seen: list[tuple[str, str, object]] = []
    kinds = (ReplicaGet, ReplicaPut, ReplicaPutAck, ReplicaPutReport)

    def tap(sender: str, receiver: str, message: object) -> bool:
        if isinstance(message, kinds):
            seen.append((sender, receiver, message))
        return True

    cluster.tap = tap
    return seen


def values(cluster: VirtualCluster, key: str) -> set[bytes | None]:
    """The values alive in any copy."""
    contents = [content for content in cluster.copies(key).values() if content is not None]
    return {one.value for content in contents for one in decode_object(content).siblings}


def test_replicas_that_agree_are_sent_one_message_each():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "old", w=3)
    seen = watch(cluster)
    assert isinstance(cluster.put("n2", "k", "new"), PutDone)
    cluster.run_for(1)
    assert sorted((a, b, type(m)) for a, b, m in seen if isinstance(m, ReplicaPut)) == [
        ("n2", "n1", ReplicaPut),
        ("n2", "n3", ReplicaPut),
    ]
    assert not [m for _, _, m in seen if isinstance(m, ReplicaGet | ReplicaPutReport)]
    assert values(cluster, "k") == {b"new"}


def test_a_replica_that_alone_remembers_a_request_goes_on_remembering_it():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "old", w=3)
    node, key = cluster.node("n2"), b"k"
    partition = node.state.map.partition_of(key)
    copy = node.state.storage.get(partition, key)
    assert copy is not None
    alone = RecentRequests(0, ((1, 4711, 1, "n9", 1, 0, 0),))
    node.state.replica.apply(partition, key, copy.content, encode_recent(alone))
    assert isinstance(cluster.put("n1", "k", "new"), PutDone)
    cluster.run_for(1)
    remembered = {}
    for name in cluster.hosts:
        record = cluster.node(name).state.storage.get(partition, key)
        assert record is not None and record.digest != copy.digest
        remembered[name] = decode_recent(record.recent)
    assert remembered["n2"].find(4711, 1) == Dot("n9", 1)
    assert remembered["n3"] == remembered["n1"]
    assert set(remembered["n1"].applied) < set(remembered["n2"].applied)


def test_a_coordinator_that_slept_through_a_write_supersedes_it_all_the_same():
    cluster = VirtualCluster(3)
    cluster.put("n1", "k", "first", w=3)
    cluster.cut.update({("n1", "n3"), ("n2", "n3")})
    assert isinstance(cluster.put("n1", "k", "second"), PutDone)
    cluster.heal()
    seen = watch(cluster)
    done = cluster.put("n3", "k", "third")
    assert isinstance(done, PutDone) and done.siblings == 1
    reported = {sender for sender, _, message in seen if isinstance(message, ReplicaPutReport)}
    assert reported <= {"n1", "n2"} and reported
    cluster.run_for(5)
    assert values(cluster, "k") == {b"third"}
    assert len(set(cluster.copies("k").values())) == 1


def test_two_coordinators_that_overwrite_each_other_keep_both_values():
    cluster = VirtualCluster(3, latency_s=(0.05, 0.05))
    cluster.put("n1", "k", "base", w=3)
    cluster.kill("n3")  # so that each needs the other's word
    first = cluster.put_request("k", "one", client=1)
    second = cluster.put_request("k", "two", client=2)
    cluster.send("n1", first)
    cluster.send("n2", second)
    for request in (first, second):
        assert isinstance(cluster.answer(request.id), PutDone)
    cluster.start("n3")
    cluster.run_for(10)
    assert values(cluster, "k") == {b"one", b"two"}
    assert len(set(cluster.copies("k").values())) == 1


def test_a_delete_between_the_rounds_of_an_overwrite_is_not_undone():
    cluster = VirtualCluster(3, latency_s=(0.05, 0.05))
    cluster.put("n1", "k", "first", w=3)
    cluster.cut.update({("n1", "n3"), ("n2", "n3")})
    cluster.put("n1", "k", "second")
    cluster.heal()
    overwrite = cluster.put_request("k", "third", client=1)
    cluster.send("n3", overwrite)
    cluster.run_for(0.06)  # the first round has arrived everywhere, the second has not begun
    assert values(cluster, "k") == {b"second", b"third"}
    delete = cluster.put_request("k", None, client=2)
    cluster.send("n1", delete)
    assert isinstance(cluster.answer(overwrite.id), PutDone)
    assert isinstance(cluster.answer(delete.id), PutDone)
    cluster.run_for(5)
    assert values(cluster, "k") == {None}


def test_an_overwrite_that_cannot_know_what_it_replaces_is_indeterminate_in_strict_mode():
    cluster = VirtualCluster(3, w=1, r=3)
    cluster.put("n1", "k", "old", w=3)
    cluster.cut.update({("n3", "n1"), ("n3", "n2")})
    reply = cluster.put("n1", "k", "new")
    assert isinstance(reply, Failed) and reply.kind == FailureKind.INDETERMINATE
