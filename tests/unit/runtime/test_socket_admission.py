"""A node's sockets on loopback: who gets in, and who does not."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
import zmq

from kvctl_node.errors import ConfigError
from kvctl_node.outbox import Outbox
from kvctl_node.protocol.client_messages import (
    ClientDescribe,
)
from kvctl_node.protocol.codec import encode_peer_frame
from kvctl_node.protocol.messages import (
    PeerFrame,
    ReplicaPutAck,
)
from kvctl_node.runtime import authenticator
from kvctl_node.runtime.curve_sockets import PortTakenError
from kvctl_node.runtime.security import (
    create_keys,
    key_path,
    load_key,
    read_public_keys,
)
from tests.unit.runtime.runtime_fixtures import (
    open_transport,
    wait_until,
)
from tests.unit.runtime.transport_rig import Cluster, ask


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
    outbox.send("n1", ReplicaPutAck(1))
    n2.transport.send(outbox, 1)
    wait_until(lambda: bool(n1.node.frames), n1.turn)
    assert n1.node.frames == [PeerFrame("n2", 1, [ReplicaPutAck(1)])]


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


def test_more_handshakes_than_a_turn_answers_wait_for_the_next_and_no_longer(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(authenticator, "HANDSHAKES_PER_TURN_MAX", 2)
    transport = cluster.serve("n1").transport
    wait_until(lambda: not transport.poll(0))
    with transport._context.socket(zmq.DEALER) as knocking:
        knocking.linger = 0
        knocking.connect(authenticator.ZAP_ENDPOINT)
        for number in range(5):
            question = [b"%d" % number, b"peer", b"", b"", b"CURVE", b"key"]
            knocking.send_multipart([b"", authenticator.ZAP_VERSION, *question])
        refused = [0]
        while refused[-1] < 5 and transport.poll(10_000):
            refused.append(transport._authenticator.refused)
    assert refused[-1] == 5
    assert max(later - before for before, later in itertools.pairwise(refused)) <= 2
