"""What a replica makes of the messages of one frame, however they are mixed."""

from __future__ import annotations

import pytest

from kvctl_node.causality.causal_context import EMPTY_CONTEXT
from kvctl_node.causality.siblings import EMPTY_OBJECT, digest_of, encode_object, put_version
from kvctl_node.errors import FailureKind
from kvctl_node.node import Node
from kvctl_node.protocol.messages import (
    PeerFrame,
    PeerMessage,
    ReplicaGet,
    ReplicaGetReply,
    ReplicaGets,
    ReplicaPut,
    ReplicaPutAck,
    ReplicaPutReport,
    ReplicaPuts,
    ReplicaRefused,
    ReplicaSame,
    ReplicaState,
)
from tests.virtual_cluster import VirtualCluster


@pytest.fixture
def cluster() -> VirtualCluster:
    return VirtualCluster(3)


def content_of(value: bytes, counter: int = 1) -> bytes:
    """An object with one version, the counter-th of n2's."""
    stored = EMPTY_OBJECT
    for _ in range(counter):
        stored, _ = put_version(
            stored, value, actor="n2#1", seen=stored.context or EMPTY_CONTEXT, stamp_ms=1
        )
    return encode_object(stored)


def put(cluster: VirtualCluster, number: int, key: bytes, content: bytes) -> ReplicaPut:
    return ReplicaPut(number, key, content, b"", cluster.now.wall_ms + 1000)


def get(cluster: VirtualCluster, number: int, key: bytes, known: bytes = b"") -> ReplicaGet:
    return ReplicaGet(number, key, known, cluster.now.wall_ms + 1000)


def answers(cluster: VirtualCluster, *messages: PeerMessage) -> list[PeerMessage]:
    """What n1 answers to a frame of n2."""
    node: Node = cluster.node("n1")
    node.outbox.clear()
    node.on_peer_frame(PeerFrame("n2", node.ring_epoch, list(messages)), cluster.now)
    return node.outbox.to_peers.get("n2", [])


def test_a_bad_message_is_dropped_and_those_around_it_are_handled(cluster: VirtualCluster) -> None:
    node = cluster.node("n1")
    good = content_of(b"v")
    told = answers(
        cluster,
        put(cluster, 1, b"a", good),
        put(cluster, 2, b"b", b"no object"),
        put(cluster, 3, b"c", b"nor this"),
        put(cluster, 4, b"d", good),
        get(cluster, 5, b"d", digest_of(good)),
    )
    assert told == [ReplicaPutAck(1), ReplicaPutAck(4), ReplicaSame(5)]
    assert node.refused_messages == 2
    assert [event.kind for event in node.outbox.events].count("message_refused") == 2
    held = {
        key: node.state.replica.read(node.state.map.partition_of(key), key)
        for key in (b"a", b"b", b"c", b"d")
    }
    assert {key for key, record in held.items() if record is not None} == {b"a", b"d"}


def test_messages_of_one_frame_are_handled_in_their_order(cluster: VirtualCluster) -> None:
    first, second = content_of(b"v"), content_of(b"v", counter=2)
    told = answers(
        cluster,
        get(cluster, 1, b"k"),
        put(cluster, 2, b"k", first),
        get(cluster, 3, b"k", digest_of(first)),
        put(cluster, 4, b"k", second),
        get(cluster, 5, b"k", digest_of(first)),
    )
    assert told == [
        ReplicaGetReply(1, ReplicaState.ABSENT),
        ReplicaPutAck(2),
        ReplicaSame(3),
        ReplicaPutAck(4),
        ReplicaGetReply(5, ReplicaState.DIFFERENT, second, b""),
    ]


def test_what_is_past_its_deadline_is_left_and_the_rest_is_done(cluster: VirtualCluster) -> None:
    node, content = cluster.node("n1"), content_of(b"v")
    over_ms = cluster.now.wall_ms - node.state.timing.clock_skew_ms - 1
    told = answers(
        cluster,
        ReplicaPut(1, b"late", content, b"", over_ms),
        put(cluster, 2, b"k", content),
        ReplicaGet(3, b"k", b"", over_ms),
        ReplicaGet(4, b"k", digest_of(content), over_ms + 1),
    )
    assert [type(message) for message in told] == [ReplicaRefused, ReplicaPutAck, ReplicaSame]
    assert told[1:] == [ReplicaPutAck(2), ReplicaSame(4)]
    assert node.state.stale_requests == 2
    assert node.state.replica.read(node.state.map.partition_of(b"late"), b"late") is None


def test_several_gets_in_one_message_are_answered_as_one_but_for_those_that_differ(
    cluster: VirtualCluster,
) -> None:
    held = content_of(b"v")
    answers(cluster, put(cluster, 1, b"a", held), put(cluster, 2, b"b", held))
    digest = digest_of(held)
    asked = [(b"a", digest), (b"b", b"another digest"), (b"none", digest)]
    deadline_ms = cluster.now.wall_ms + 1000
    assert answers(cluster, ReplicaGets(3, asked[:1], deadline_ms)) == [ReplicaSame(3)]
    assert answers(cluster, ReplicaGets(4, asked, deadline_ms)) == [
        ReplicaGetReply(4, ReplicaState.DIFFERENT, held, b"", 1),
        ReplicaGetReply(4, ReplicaState.ABSENT, at=2),
        ReplicaSame(4, [1, 2]),
    ]


def test_several_gets_past_their_deadline_are_all_counted(cluster: VirtualCluster) -> None:
    node = cluster.node("n1")
    over_ms = cluster.now.wall_ms - node.state.timing.clock_skew_ms - 1
    assert not answers(cluster, ReplicaGets(1, [(b"a", b""), (b"b", b"")], over_ms))
    assert node.state.stale_requests == 2


def test_several_puts_in_one_message_are_stored_in_their_order_and_acknowledged_as_one(
    cluster: VirtualCluster,
) -> None:
    node, first, second = cluster.node("n1"), content_of(b"v"), content_of(b"w", counter=2)
    puts = [
        (b"k", first, b"", b"", 0),
        (b"other", first, b"", b"", 0),
        (b"k", second, b"", digest_of(first), 0),
    ]
    message = ReplicaPuts(1, puts, cluster.now.wall_ms + 1000)
    assert answers(cluster, message) == [ReplicaPutAck(1)]
    for key, content in ((b"k", second), (b"other", first)):
        record = node.state.replica.read(node.state.map.partition_of(key), key)
        assert record is not None
        assert record.content == content


def test_of_several_puts_those_that_met_another_copy_are_reported(cluster: VirtualCluster) -> None:
    older, newer = content_of(b"v"), content_of(b"w", counter=2)
    answers(cluster, put(cluster, 1, b"b", older))
    puts = [(b"a", newer, b"", b"", 0), (b"b", newer, b"", b"", 0), (b"c", newer, b"", b"", 0)]
    message = ReplicaPuts(2, puts, cluster.now.wall_ms + 1000, report=True)
    assert answers(cluster, message) == [
        ReplicaPutReport(2, ReplicaState.DIFFERENT, older, b"", 1),
        ReplicaPutAck(2, [1]),
    ]


def test_several_puts_with_a_bad_one_among_them_are_not_acknowledged(
    cluster: VirtualCluster,
) -> None:
    good = content_of(b"v")
    puts = [(b"a", good, b"", b"", 0), (b"b", b"no object", b"", b"", 0)]
    message = ReplicaPuts(1, puts, cluster.now.wall_ms + 1000)
    assert answers(cluster, message) == []
    assert cluster.node("n1").refused_messages == 1


def test_several_puts_are_refused_together(
    cluster: VirtualCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = cluster.node("n1")
    put_a = (b"a", content_of(b"v"), b"", b"", 0)
    over_ms = cluster.now.wall_ms - node.state.timing.clock_skew_ms - 1
    (late,) = answers(cluster, ReplicaPuts(1, [put_a, put_a], over_ms))
    monkeypatch.setattr(node.state.storage, "accepts_writes", lambda: False)
    (full,) = answers(cluster, ReplicaPuts(2, [put_a, put_a], over_ms + 1000))
    for told, number, kind in (
        (late, 1, FailureKind.UNAVAILABLE),
        (full, 2, FailureKind.OVERLOADED),
    ):
        assert isinstance(told, ReplicaRefused)
        assert (told.id, told.kind) == (number, kind)
    assert node.state.replica.read(node.state.map.partition_of(b"a"), b"a") is None
