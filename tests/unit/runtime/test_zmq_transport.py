"""A node's sockets on loopback: what is dropped and counted, and that the rest is served."""

from __future__ import annotations

import select
import socket
from pathlib import Path

import pytest
import zmq

from kvctl_node.outbox import Outbox
from kvctl_node.protocol.client_messages import (
    ClientDescribe,
    ClientGet,
    GetDone,
    QuorumSet,
)
from kvctl_node.protocol.codec import (
    PROTOCOL_VERSION,
    decode_peer_frame,
    decode_requests,
    encode_peer_frame,
)
from kvctl_node.protocol.messages import (
    PeerFrame,
    ReplicaGetReply,
    ReplicaPut,
    ReplicaPutAck,
)
from kvctl_node.protocol.repair_messages import (
    HandoffAck,
)
from kvctl_node.runtime import frame_splitting, zmq_transport
from kvctl_node.runtime.security import (
    create_keys,
    key_path,
)
from tests.unit.runtime.runtime_fixtures import (
    DEADLINE_S,
    wait_until,
)
from tests.unit.runtime.transport_rig import SMALL, Cluster, ask, linked

# ------------------------------------------------------------------ rubbish

VERSION = bytes([PROTOCOL_VERSION])
GOOD = encode_peer_frame(PeerFrame("n2", 1, [ReplicaPutAck(1)]))
RUBBISH = {
    "empty": b"",
    "version": b"\x09\x90",
    "truncated": GOOD[:-1],
    "unknown_message": VERSION + b"\x93\xa2n2\x00\x91\x92\x63\x01",
    "malformed": VERSION + b"garbage" * 20,
}


def test_rubbish_on_the_peer_socket_is_counted_by_reason_and_the_rest_is_served(
    cluster: Cluster,
) -> None:
    served = cluster.serve("n1")
    peer = cluster.connect(cluster.config.node("n1").peer_endpoint, cluster.key("n2"))
    for data in RUBBISH.values():
        peer.socket.send(data)
    peer.socket.send_multipart([b"a", b"b", b"c"])
    peer.socket.send(encode_peer_frame(PeerFrame("n1", 1, [])))
    peer.socket.send(GOOD)
    wait_until(lambda: bool(served.node.frames), served.turn)
    assert served.node.frames == [decode_peer_frame(GOOD)]
    reasons = [*RUBBISH, "multipart", "impostor"]
    assert served.transport.peer_traffic.malformed == dict.fromkeys(reasons, 1)
    assert served.transport.peer_traffic.frames_in == 1


def test_rubbish_on_the_client_socket_is_counted_by_reason_and_the_rest_is_served(
    cluster: Cluster,
) -> None:
    served = cluster.serve("n1")
    client = cluster.client()
    rubbish = {
        **RUBBISH,
        "unknown_message": VERSION + b"\x91\x92\x63\x01",
        "truncated": VERSION + b"\x91",
    }
    for data in rubbish.values():
        client.socket.send(data)
    client.socket.send_multipart([b"", decode_and_back()])
    ask(client, served, 7)
    ask(cluster.client(), served, 8)
    assert served.transport.client_traffic.malformed == dict.fromkeys([*rubbish, "multipart"], 1)


def decode_and_back() -> bytes:
    """A good frame, which is not good behind an empty delimiter."""
    data = VERSION + b"\x91\x92\x04\x01"
    assert decode_requests(data) == [ClientDescribe(1)]
    return data


def test_a_frame_over_the_limit_closes_its_connection_and_no_other(
    small_cluster: Cluster,
) -> None:
    served = small_cluster.serve("n1")
    good, greedy = small_cluster.client(), small_cluster.client()
    ask(good, served, 1)
    ask(greedy, served, 2)
    greedy.socket.send(VERSION + b"x" * 4 * SMALL.frame_bytes_max)
    gone: list[int] = []

    def watch() -> None:
        while greedy.monitor.poll(0):
            event = int.from_bytes(greedy.monitor.recv_multipart()[0][:2], "little")
            if event == zmq.EVENT_DISCONNECTED:
                gone.append(event)

    wait_until(lambda: bool(gone), served.turn, watch)
    ask(good, served, 3)
    assert ClientDescribe(3) in served.node.requests
    assert not served.transport.client_traffic.malformed


def test_the_largest_frame_allowed_is_served(small_cluster: Cluster) -> None:
    served = small_cluster.serve("n1")
    client = small_cluster.client()
    client.socket.send(VERSION + b"x" * (SMALL.frame_bytes_max - 1))
    wait_until(lambda: served.transport.client_traffic.malformed.total() == 1, served.turn)
    assert served.transport.client_traffic.malformed == {"malformed": 1}
    ask(client, served, 1)


# ------------------------------------------------------------------ links


def test_links_come_up_and_go_down_with_the_peers_process(cluster: Cluster) -> None:
    n1, n2 = linked(cluster)
    assert n1.node.links == [("n2", True)]
    cluster.opened.remove(n2.transport)
    n2.transport.close()
    wait_until(lambda: len(n1.node.links) == 2, n1.turn)
    assert n1.node.links[-1] == ("n2", False)
    again = cluster.serve("n2")
    wait_until(lambda: len(n1.node.links) == 3, n1.turn, again.turn)
    assert n1.node.links[-1] == ("n2", True)
    assert n1.transport.snapshot()["links"] == {"n2": {"connected": True, "connections": 2}}


def test_a_peer_that_refuses_our_key_is_not_a_link(cluster: Cluster, tmp_path: Path) -> None:
    n2 = cluster.serve("n2")
    own = key_path(cluster.keys, "n1")
    create_keys(tmp_path / "elsewhere", ["n1"])
    listed = own.read_bytes()
    own.write_bytes(key_path(tmp_path / "elsewhere", "n1").read_bytes())
    n1 = cluster.serve("n1")
    own.write_bytes(listed)
    wait_until(lambda: n2.transport.snapshot()["handshakes_refused"] != 0, n1.turn, n2.turn)
    assert n1.node.links == []


def test_a_link_recovers_from_another_program_on_the_peers_port(cluster: Cluster) -> None:
    n1 = cluster.serve("n1")
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", cluster.config.node("n2").peer_port))
        other.listen()
        other.settimeout(DEADLINE_S)
        connection, _ = other.accept()
        connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n" * 9)
        wait_until(lambda: n1.transport.snapshot()["handshakes_failed"] != 0, n1.turn)
        connection.close()
    n2 = cluster.serve("n2")
    wait_until(lambda: n1.node.links == [("n2", True)], n1.turn, n2.turn)


def test_a_handshake_that_is_cut_short_is_left_to_the_reconnection(cluster: Cluster) -> None:
    n1 = cluster.serve("n1")
    with socket.socket() as starting:
        starting.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        starting.bind(("127.0.0.1", cluster.config.node("n2").peer_port))
        starting.listen()
        starting.settimeout(DEADLINE_S)
        for _ in range(2):
            connection, _ = starting.accept()
            connection.close()
            n1.turn()
    n2 = cluster.serve("n2")
    wait_until(lambda: n1.node.links == [("n2", True)], n1.turn, n2.turn)
    assert n1.transport.snapshot()["handshakes_failed"] == 0


def test_messages_to_a_peer_arrive_in_one_frame_in_order(cluster: Cluster) -> None:
    n1, n2 = linked(cluster)
    messages = [HandoffAck(10_000 + number) for number in range(50)]
    outbox = Outbox()
    for message in messages:
        outbox.send("n2", message)
    n1.transport.send(outbox, 9)
    wait_until(lambda: bool(n2.node.frames), n2.turn)
    assert n2.node.frames == [PeerFrame("n1", 9, messages)]
    assert n1.transport.peer_traffic.messages_out == 50
    assert n2.transport.peer_traffic.messages_in == 50
    assert n1.transport.peer_traffic.bytes_out == n2.transport.peer_traffic.bytes_in > 50 * 4


def test_a_message_to_an_absent_peer_is_dropped_counted_and_never_delivered_later(
    cluster: Cluster,
) -> None:
    n1 = cluster.serve("n1")
    outbox = Outbox()
    outbox.send("n2", ReplicaPutAck(1))
    outbox.send("n7", ReplicaPutAck(1))
    n1.transport.send(outbox, 1)
    assert n1.transport.peer_traffic.dropped == {"peer_unreachable": 2}
    n2 = cluster.serve("n2")
    wait_until(lambda: bool(n1.node.links), n1.turn, n2.turn)
    fresh = Outbox()
    fresh.send("n2", ReplicaPutAck(2))
    n1.transport.send(fresh, 1)
    wait_until(lambda: bool(n2.node.frames), n2.turn)
    assert n2.node.frames == [PeerFrame("n1", 1, [ReplicaPutAck(2)])]


def test_a_peer_that_reads_nothing_costs_a_bounded_queue_and_counted_drops(
    small_cluster: Cluster,
) -> None:
    n1, n2 = linked(small_cluster)
    dropped = n1.transport.peer_traffic.dropped
    content = b"v" * 2000

    def send() -> None:
        outbox = Outbox()
        outbox.send("n2", ReplicaPut(1, b"k", content, b"", 2))
        n1.transport.send(outbox, 1)

    wait_until(lambda: dropped["peer_queue_full"] >= 10, send)
    sent = n1.transport.peer_traffic.frames_out
    wait_until(lambda: len(n2.node.frames) == sent, n2.turn)


# ------------------------------------------------------------------ sizes and bounds


def test_a_frame_that_would_get_too_large_is_split_in_order(small_cluster: Cluster) -> None:
    n1, n2 = linked(small_cluster)
    messages = [ReplicaPut(number, b"k", b"v" * 900, b"", 2) for number in range(17)]
    messages.insert(5, ReplicaPut(99, b"k", b"v" * 5000, b"", 2))
    outbox = Outbox()
    for message in messages:
        outbox.send("n2", message)
    n1.transport.send(outbox, 1)
    wait_until(lambda: sum(len(frame.messages) for frame in n2.node.frames) == 18, n2.turn)
    assert [message for frame in n2.node.frames for message in frame.messages] == messages
    assert len(n2.node.frames) > 4
    for frame in n2.node.frames:
        assert len(encode_peer_frame(frame)) <= SMALL.frame_bytes_max // 2 or (
            len(frame.messages) == 1
        )


def test_one_message_over_the_frame_limit_is_dropped_and_the_others_are_sent(
    small_cluster: Cluster,
) -> None:
    n1, n2 = linked(small_cluster)
    outbox = Outbox()
    for number, size in ((1, 10), (2, SMALL.frame_bytes_max), (3, 10)):
        outbox.send("n2", ReplicaGetReply(number, 1, b"v" * size))
    n1.transport.send(outbox, 1)
    wait_until(lambda: sum(len(frame.messages) for frame in n2.node.frames) == 2, n2.turn)
    assert [one.id for frame in n2.node.frames for one in frame.messages] == [1, 3]
    assert n1.transport.peer_traffic.dropped == {"oversized": 1}
    assert n1.node.links == [("n2", True)]


def test_more_messages_than_a_frame_may_hold_are_split(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_splitting, "MESSAGES_PER_FRAME_MAX", 3)
    n1, n2 = linked(cluster)
    outbox = Outbox()
    for number in range(10):
        outbox.send("n2", HandoffAck(number))
    n1.transport.send(outbox, 1)
    wait_until(lambda: sum(len(frame.messages) for frame in n2.node.frames) == 10, n2.turn)
    assert [one.id for frame in n2.node.frames for one in frame.messages] == list(range(10))
    assert max(len(frame.messages) for frame in n2.node.frames) <= 3


def test_a_turn_takes_in_a_bounded_number_of_frames_and_the_next_the_rest(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq_transport, "FRAMES_PER_TURN_MAX", 4)
    served = cluster.serve("n1")
    client = cluster.client()
    ask(client, served, 0)
    for number in range(1, 11):
        client.send([ClientDescribe(number)])
    taken: list[int] = []

    def turn() -> None:
        before = len(served.node.requests)
        served.turn()
        taken.append(len(served.node.requests) - before)

    wait_until(lambda: len(served.node.requests) == 11, turn)
    assert max(taken) <= 4
    assert [one.id for one in served.node.requests] == list(range(11))


def test_a_turn_takes_in_a_bounded_number_of_bytes(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq_transport, "BYTES_PER_TURN_MAX", 2500)
    served = cluster.serve("n1")
    client = cluster.client()
    for number in range(9):
        client.send([ClientGet(number, b"k" * 1000, 1)])
    taken: list[int] = []

    def turn() -> None:
        before = len(served.node.requests)
        served.turn()
        taken.append(len(served.node.requests) - before)

    wait_until(lambda: len(served.node.requests) == 9, turn)
    assert max(taken) <= 3


def test_what_a_turn_left_makes_the_next_poll_return_at_once(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zmq_transport, "FRAMES_PER_TURN_MAX", 1)
    served = cluster.serve("n1")
    client = cluster.client()
    ask(client, served, 0)
    for number in range(1, 6):
        client.send([ClientDescribe(number)])
    wait_until(lambda: bool(served.transport._clients.get(zmq.EVENTS) & zmq.POLLIN))
    served.transport._readiness.ask_again(served.transport._clients_descriptor)
    for number in range(1, 6):
        assert served.transport.poll(10_000)
        ((_, requests),) = served.transport.receive_client_requests()
        assert [one.id for one in requests] == [number]


def test_a_request_that_came_while_answers_were_sent_is_found(cluster: Cluster) -> None:
    """Sending takes in what the socket has been told, and its descriptor falls silent."""
    served = cluster.serve("n1")
    transport, client = served.transport, cluster.client()
    ask(client, served, 0)
    client.send([ClientDescribe(1)])
    wait_until(lambda: transport.poll(100) and transport._clients_wait)
    ((identity, _),) = transport.receive_client_requests()
    client.send([ClientDescribe(2)])
    silent = select.poll()
    silent.register(transport._clients_descriptor, select.POLLIN)
    assert silent.poll(10_000)
    outbox = Outbox()
    outbox.reply(identity, QuorumSet(1))
    # libzmq looks at what it was told only now and then while it sends.
    wait_until(lambda: not silent.poll(0), lambda: transport.send(outbox, 1))
    assert transport.poll(10_000)
    ((_, requests),) = transport.receive_client_requests()
    assert requests == [ClientDescribe(2)]


# ------------------------------------------------------------------ replies


def test_a_reply_to_a_client_that_left_is_counted(cluster: Cluster) -> None:
    served = cluster.serve("n1")
    outbox = Outbox()
    outbox.reply(b"\x00gone", QuorumSet(1))
    served.transport.send(outbox, 1)
    assert served.transport.client_traffic.dropped == {"client_gone": 1}
    ask(cluster.client(), served, 1)


def test_a_client_that_reads_nothing_costs_a_bounded_queue_and_counted_drops(
    small_cluster: Cluster,
) -> None:
    served = small_cluster.serve("n1")
    idle = small_cluster.client()
    identities: list[bytes] = []

    def learn() -> None:
        served.transport.poll(5)
        identities.extend(one for one, _ in served.transport.receive_client_requests())

    idle.send([ClientDescribe(1)])
    wait_until(lambda: bool(identities), learn)
    dropped = served.transport.client_traffic.dropped

    def reply() -> None:
        outbox = Outbox()
        outbox.reply(identities[0], GetDone(1, b"v" * 2000, "n1", ("n1",)))
        served.transport.send(outbox, 1)

    wait_until(lambda: dropped["client_queue_full"] >= 10, reply)
    ask(small_cluster.client(), served, 2)
