"""What a replica makes of the messages of one frame, however they are mixed."""

from __future__ import annotations

import pytest

from node import outbox as outboxes
from node.causality.causal_context import EMPTY_CONTEXT
from node.causality.siblings import EMPTY_OBJECT, digest_of, encode_object, put_version
from node.node import Node
from node.protocol.messages import (
    PeerFrame,
    PeerMessage,
    ReplicaGet,
    ReplicaGetReply,
    ReplicaPut,
    ReplicaPutAck,
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
    assert told == [ReplicaPutAck([1, 4]), ReplicaSame([5])]
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
        ReplicaPutAck([2, 4]),
        ReplicaSame([3]),
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
    assert told[1:] == [ReplicaPutAck([2]), ReplicaSame([4])]
    assert node.state.stale_requests == 2
    assert node.state.replica.read(node.state.map.partition_of(b"late"), b"late") is None


def test_answers_share_messages_of_a_bounded_length(
    cluster: VirtualCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outboxes, "IDS_PER_MESSAGE_MAX", 3)
    content = content_of(b"v")
    puts = [put(cluster, number, b"k%d" % number, content) for number in range(7)]
    bad = put(cluster, 99, b"bad", b"no object")
    told = answers(cluster, *puts[:2], bad, puts[2], bad, *puts[3:])
    assert all(isinstance(message, ReplicaPutAck) for message in told)
    acknowledged = [message.ids for message in told if isinstance(message, ReplicaPutAck)]
    assert [number for ids in acknowledged for number in ids] == list(range(7))
    assert max(map(len, acknowledged)) <= 3
    assert len(acknowledged) == 3
