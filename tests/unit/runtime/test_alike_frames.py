"""What a turn sends to several peers alike is encoded once, and is right for each of them."""

from __future__ import annotations

import pytest

from kvctl_node.outbox import Outbox
from kvctl_node.protocol.messages import PeerFrame, PeerMessage, ReplicaPut, ReplicaPutAck
from kvctl_node.runtime import zmq_transport
from tests.unit.runtime.runtime_fixtures import wait_until
from tests.unit.runtime.transport_rig import SMALL, Cluster, Served

PUT = ReplicaPut(1, b"k", b"v", b"", 2)


class Encodings:
    """Counts the frames that are encoded."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.frames: list[PeerFrame] = []
        self._encode = zmq_transport.encode_peer_frame
        monkeypatch.setattr(zmq_transport, "encode_peer_frame", self.encode)

    def encode(self, frame: PeerFrame) -> bytes:
        self.frames.append(frame)
        return self._encode(frame)


@pytest.fixture
def encodings(monkeypatch: pytest.MonkeyPatch) -> Encodings:
    return Encodings(monkeypatch)


@pytest.fixture
def nodes(small_cluster_of_three: Cluster) -> tuple[Served, Served, Served]:
    """Three nodes, the first of which sees the others."""
    n1, n2, n3 = (small_cluster_of_three.serve(name) for name in ("n1", "n2", "n3"))
    wait_until(lambda: len(n1.node.links) == 2, n1.turn, n2.turn, n3.turn)
    return n1, n2, n3


def send(sender: Served, *, ring_epoch: int = 1, **messages: list[PeerMessage]) -> None:
    """Send to each named peer its messages, as one turn."""
    outbox = Outbox()
    for peer, queue in messages.items():
        for message in queue:
            outbox.send(peer, message)
    sender.transport.send(outbox, ring_epoch)


def received(receiver: Served, count: int) -> list[PeerFrame]:
    """The next frames of a node."""
    wait_until(lambda: len(receiver.node.frames) >= count, receiver.turn)
    taken, receiver.node.frames = receiver.node.frames, []
    return taken


def test_the_same_messages_to_two_peers_are_encoded_once(
    nodes: tuple[Served, Served, Served], encodings: Encodings
) -> None:
    n1, n2, n3 = nodes
    send(n1, n2=[PUT], n3=[PUT])
    assert len(encodings.frames) == 1
    (left,), (right,) = received(n2, 1), received(n3, 1)
    assert left == right
    assert left.messages == [PUT]
    assert n1.transport.peer_traffic.messages_out == 2


def test_other_messages_to_another_peer_are_encoded_for_it(
    nodes: tuple[Served, Served, Served], encodings: Encodings
) -> None:
    n1, n2, n3 = nodes
    send(n1, n2=[PUT], n3=[PUT, ReplicaPutAck(7)])
    assert len(encodings.frames) == 2
    assert received(n2, 1)[0].messages == [PUT]
    assert received(n3, 1)[0].messages == [PUT, ReplicaPutAck(7)]


def test_the_same_messages_in_another_turn_carry_its_epoch_and_clock(
    nodes: tuple[Served, Served, Served], encodings: Encodings
) -> None:
    n1, n2, n3 = nodes
    send(n1, ring_epoch=1, n2=[PUT])
    send(n1, ring_epoch=2, n3=[PUT])
    assert len(encodings.frames) == 2
    assert received(n2, 1)[0].ring_epoch == 1
    assert received(n3, 1)[0].ring_epoch == 2


def test_a_message_too_large_for_two_peers_is_counted_for_each(
    nodes: tuple[Served, Served, Served],
) -> None:
    n1, n2, n3 = nodes
    queue: list[PeerMessage] = [PUT, ReplicaPut(2, b"k", b"v" * SMALL.frame_bytes_max, b"", 2)]
    send(n1, n2=queue, n3=queue)
    assert n1.transport.peer_traffic.dropped == {"oversized": 2}
    assert received(n2, 1)[0].messages == [PUT]
    assert received(n3, 1)[0].messages == [PUT]
