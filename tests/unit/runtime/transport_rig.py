"""A served transport, and the clusters of them that tests of its sockets open."""

from __future__ import annotations

from pathlib import Path

from kvctl_node.config import ClusterConfig, LimitsConfig
from kvctl_node.protocol.client_messages import (
    ClientDescribe,
    QuorumSet,
)
from kvctl_node.runtime.security import (
    CurveKey,
    key_path,
    load_key,
)
from kvctl_node.runtime.zmq_transport import ZmqTransport
from tests.unit.runtime.runtime_fixtures import (
    Client,
    EchoNode,
    client_of,
    make_config,
    make_keys,
    open_transport,
    wait_until,
)

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

    def __init__(
        self,
        directory: Path,
        limits: LimitsConfig | None = None,
        names: tuple[str, ...] = ("n1", "n2"),
    ) -> None:
        self.config = make_config(names, limits)
        self.keys = make_keys(directory, names)
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
