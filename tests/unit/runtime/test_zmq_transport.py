"""A node's sockets on loopback: who gets in, what is dropped, and that the others are served on."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import zmq

from node.config import ClusterConfig, LimitsConfig
from node.errors import ConfigError
from node.outbox import Outbox
from node.protocol.client_messages import (
    ClientDescribe,
    ClientGet,
    GetDone,
    QuorumSet,
)
from node.protocol.codec import decode_peer_frame, decode_requests, encode_peer_frame
from node.protocol.messages import (
    PeerFrame,
    ReplicaGetReply,
    ReplicaPut,
    ReplicaPutAck,
)
from node.protocol.repair_messages import (
    HandoffAck,
)
from node.runtime import authenticator, zmq_transport
from node.runtime.curve_sockets import PortTakenError
from node.runtime.security import (
    CurveKey,
    create_keys,
    key_path,
    load_key,
    read_public_keys,
)
from node.runtime.zmq_transport import ZmqTransport
from tests.unit.runtime.runtime_fixtures import (
    DEADLINE_S,
    Client,
    EchoNode,
    client_of,
    make_config,
    make_keys,
    open_transport,
    wait_until,
)

NAMES = ("n1", "n2")
SMALL = LimitsConfig(value_bytes_max=2048, frame_bytes_max=8192, frames_queued_max=20)


class Served:
    """A transport whose client requests are answered; peer frames and links are kept."""

    def __init__(self, config: ClusterConfig, keys: Path, name: str) -> None:
        self.transport = open_transport(config, keys, name)
        self.node = EchoNode()

    def turn(self) -> None:
        transport, node = self.transport, self.node
        transport.poll(5)
        node.links.extend(transport.receive_link_changes())
        node.frames.extend(transport.receive_peer_frames())
        for client, requests in transport.receive_client_requests():
            node.requests.extend(requests)
            for request in requests:
                node.outbox.reply(client, QuorumSet(request.id))
        transport.send(node.outbox, 1)
        node.outbox.clear()


class Cluster:
    """What a test opened, to be closed after it."""

    def __init__(self, directory: Path, limits: LimitsConfig | None = None) -> None:
        self.config = make_config(NAMES, limits)
        self.keys = make_keys(directory, NAMES)
        self.opened: list[ZmqTransport | Client] = []

    def serve(self, name: str) -> Served:
        served = Served(self.config, self.keys, name)
        self.opened.append(served.transport)
        return served

    def client(self, node: str = "n1", key: CurveKey | None = None) -> Client:
        client = client_of(self.config, self.keys, node, key)
        self.opened.append(client)
        return client

    def connect(self, endpoint: str, key: CurveKey | None) -> Client:
        client = Client(endpoint, load_key(key_path(self.keys, "n1")), key)
        self.opened.append(client)
        return client

    def key(self, name: str) -> CurveKey:
        return load_key(key_path(self.keys, name))

    def close(self) -> None:
        for one in self.opened:
            one.close()


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


@pytest.fixture
def small_cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, SMALL)
    yield made
    made.close()


def ask(client: Client, served: Served, request_id: int) -> None:
    """One request and its answer: the node serves this client."""
    client.send([ClientDescribe(request_id)])
    answers: list[object] = []
    wait_until(lambda: bool(answers), served.turn, lambda: answers.extend(client.replies() or []))
    assert answers == [QuorumSet(request_id)]


def linked(cluster: Cluster) -> tuple[Served, Served]:
    """Two nodes that see each other."""
    n1, n2 = cluster.serve("n1"), cluster.serve("n2")
    wait_until(lambda: bool(n1.node.links and n2.node.links), n1.turn, n2.turn)
    return n1, n2


# ------------------------------------------------------------------ who gets in


def test_the_clients_key_opens_the_client_socket(cluster: Cluster) -> None:
    served = cluster.serve("n1")
    ask(cluster.client(), served, 1)
    assert served.transport.snapshot()["handshakes_accepted"] == 1


@pytest.mark.parametrize("impostor", ["stranger", "n1", "n2"])
def test_no_other_key_opens_the_client_socket(
    cluster: Cluster, tmp_path: Path, impostor: str
) -> None:
    create_keys(tmp_path / "elsewhere", ["stranger"])
    key = load_key(
        key_path(tmp_path / "elsewhere", "stranger")
        if impostor == "stranger"
        else key_path(cluster.keys, impostor)
    )
    served = cluster.serve("n1")
    intruder = cluster.client(key=key)
    intruder.send([ClientDescribe(1)])
    wait_until(lambda: served.transport.snapshot()["handshakes_refused"] == 1, served.turn)
    ask(cluster.client(), served, 2)
    assert intruder.replies() is None
    assert served.node.requests == [ClientDescribe(2)]


def test_a_client_without_a_key_gets_nothing(cluster: Cluster) -> None:
    served = cluster.serve("n1")
    endpoint = cluster.config.node("n1").client_endpoint
    plain = cluster.connect(endpoint, None)
    plain.send([ClientDescribe(1)])
    refused: list[int] = []

    def watch() -> None:
        while plain.monitor.poll(0):
            event = int.from_bytes(plain.monitor.recv_multipart()[0][:2], "little")
            if event & (zmq.EVENT_DISCONNECTED | zmq.EVENT_HANDSHAKE_FAILED_PROTOCOL):
                refused.append(event)

    wait_until(lambda: bool(refused), served.turn, watch)
    ask(cluster.client(), served, 2)
    assert plain.replies() is None
    assert served.node.requests == [ClientDescribe(2)]


def test_the_clients_key_opens_no_peer_socket(cluster: Cluster) -> None:
    served = cluster.serve("n1")
    posing = cluster.connect(cluster.config.node("n1").peer_endpoint, cluster.key("client"))
    posing.socket.send(encode_peer_frame(PeerFrame("n2", 1, [])))
    wait_until(lambda: served.transport.snapshot()["handshakes_refused"] == 1, served.turn)
    assert served.node.frames == []


def test_events_are_for_holders_of_the_clients_key(cluster: Cluster) -> None:
    served = cluster.serve("n1")
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    heard: list[str] = []
    for name in ("n2", "client"):
        key, server = cluster.key(name), cluster.key("n1")
        subscriber = context.socket(zmq.SUB)
        subscriber.setsockopt(zmq.CURVE_SERVERKEY, server.public.encode())
        subscriber.setsockopt(zmq.CURVE_PUBLICKEY, key.public.encode())
        subscriber.setsockopt(zmq.CURVE_SECRETKEY, key.secret.encode())
        subscriber.setsockopt(zmq.SUBSCRIBE, b"hint")
        subscriber.connect(cluster.config.node("n1").event_endpoint)

        def turn(subscriber: zmq.Socket[bytes] = subscriber, name: str = name) -> None:
            served.turn()
            served.transport.publish(b"other", b"{}")
            served.transport.publish(b"hint_stored", b"{1}")
            if subscriber.poll(0):
                assert subscriber.recv_multipart() == [b"hint_stored", b"{1}"]
                heard.append(name)

        if name == "client":
            wait_until(lambda: bool(heard), turn)
        else:
            wait_until(lambda: served.transport.snapshot()["handshakes_refused"] == 1, turn)
    context.destroy(linger=0)
    assert heard[0] == "client"


def test_a_node_whose_key_came_later_is_let_in(cluster: Cluster) -> None:
    n1 = cluster.serve("n1")
    key_path(cluster.keys, "n2").unlink()
    create_keys(cluster.keys, ["n2"])
    n2 = cluster.serve("n2")
    wait_until(lambda: n2.node.links == [("n1", True)], n1.turn, n2.turn)
    outbox = Outbox()
    outbox.send("n1", ReplicaPutAck([1]))
    n2.transport.send(outbox, 1)
    wait_until(lambda: bool(n1.node.frames), n1.turn)
    assert n1.node.frames == [PeerFrame("n2", 1, [ReplicaPutAck([1])])]


def test_strangers_do_not_make_a_node_read_its_keys_over_and_over(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = cluster.serve("n1")
    reads: list[Path] = []

    def count(keys_dir: Path) -> tuple[dict[bytes, str], list[ConfigError]]:
        reads.append(keys_dir)
        return read_public_keys(keys_dir)

    monkeypatch.setattr(authenticator, "REREAD_INTERVAL_S", 3600.0)
    monkeypatch.setattr(authenticator, "read_public_keys", count)
    create_keys(tmp_path / "elsewhere", ["stranger"])
    stranger = load_key(key_path(tmp_path / "elsewhere", "stranger"))
    for _ in range(5):
        cluster.client(key=stranger).send([ClientDescribe(1)])
    wait_until(lambda: served.transport.snapshot()["handshakes_refused"] == 5, served.turn)
    assert reads == []


def test_a_taken_port_is_named_together_with_the_node(cluster: Cluster) -> None:
    cluster.serve("n1")
    port = cluster.config.node("n1").peer_port
    with pytest.raises(PortTakenError, match=f"port {port} of n1 is taken"):
        open_transport(cluster.config, cluster.keys, "n1")


def test_a_missing_peer_key_is_a_config_error(cluster: Cluster) -> None:
    key_path(cluster.keys, "n2").unlink()
    with pytest.raises(ConfigError, match=r"n2\.key"):
        open_transport(cluster.config, cluster.keys, "n1")


# ------------------------------------------------------------------ rubbish

GOOD = encode_peer_frame(PeerFrame("n2", 1, [ReplicaPutAck([1])]))
RUBBISH = {
    "empty": b"",
    "version": b"\x09\x90",
    "truncated": GOOD[:-1],
    "unknown_message": b"\x02\x93\xa2n2\x00\x91\x92\x63\x01",
    "malformed": b"\x02" + b"garbage" * 20,
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
    rubbish = {**RUBBISH, "unknown_message": b"\x02\x91\x92\x63\x01", "truncated": b"\x02\x91"}
    for data in rubbish.values():
        client.socket.send(data)
    client.socket.send_multipart([b"", decode_and_back()])
    ask(client, served, 7)
    ask(cluster.client(), served, 8)
    assert served.transport.client_traffic.malformed == dict.fromkeys([*rubbish, "multipart"], 1)


def decode_and_back() -> bytes:
    """A good frame, which is not good behind an empty delimiter."""
    data = b"\x02\x91\x92\x04\x01"
    assert decode_requests(data) == [ClientDescribe(1)]
    return data


def test_a_frame_over_the_limit_closes_its_connection_and_no_other(
    small_cluster: Cluster,
) -> None:
    served = small_cluster.serve("n1")
    good, greedy = small_cluster.client(), small_cluster.client()
    ask(good, served, 1)
    ask(greedy, served, 2)
    greedy.socket.send(b"\x02" + b"x" * 4 * SMALL.frame_bytes_max)
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
    client.socket.send(b"\x02" + b"x" * (SMALL.frame_bytes_max - 1))
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
    outbox.send("n2", ReplicaPutAck([1]))
    outbox.send("n7", ReplicaPutAck([1]))
    n1.transport.send(outbox, 1)
    assert n1.transport.peer_traffic.dropped == {"peer_unreachable": 2}
    n2 = cluster.serve("n2")
    wait_until(lambda: bool(n1.node.links), n1.turn, n2.turn)
    fresh = Outbox()
    fresh.send("n2", ReplicaPutAck([2]))
    n1.transport.send(fresh, 1)
    wait_until(lambda: bool(n2.node.frames), n2.turn)
    assert n2.node.frames == [PeerFrame("n1", 1, [ReplicaPutAck([2])])]


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
    monkeypatch.setattr(zmq_transport, "MESSAGES_PER_FRAME_MAX", 3)
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
