"""A scripted cluster one of whose nodes is busy for as long as a test likes."""

from __future__ import annotations

import threading

from kvctl.client.client import Client
from kvctl.client.connection import Connection, ConnectionState
from kvctl.client.request import Pending, PendingGet, PendingPut
from kvctl_node.protocol.client_messages import ClientPut, ClientReply, ClientRequest
from tests.unit.client.scripted_node import (
    DEADLINE_S,
    ScriptedCluster,
    ScriptedNode,
    wait_until,
)


class Busy:
    """A client of a cluster whose n1 answers no put before `free` is called."""

    def __init__(self, cluster: ScriptedCluster) -> None:
        self.client: Client = cluster.client(timeout_s=2 * DEADLINE_S)
        self.loop = self.client._loop
        self.node: ScriptedNode = cluster.nodes["n1"]
        self.connection: Connection = self.loop.router.connections["n1"]
        wait_until(self._is_connected_everywhere, "every node is connected")
        self.pendings: list[Pending] = []
        self._keys = (
            key
            for key in (f"key{number}" for number in range(10**6))
            if cluster.store.ring.owners_of(cluster.store.ring.partition_of(key.encode()))[0]
            == "n1"
        )
        self._gate = threading.Event()
        self.node.on_request = self._on_request

    def _is_connected_everywhere(self) -> bool:
        with self.client.batch() as batch:
            for number in range(64):
                batch.put(f"warm{number}", b"v")  # some of them for each
        connections = self.loop.router.connections.values()
        return all(one.state is ConnectionState.READY for one in connections)

    def _on_request(self, request: ClientRequest) -> ClientReply:
        if isinstance(request, ClientPut):
            assert self._gate.wait(DEADLINE_S)
        return self.node.answer(request)

    def next_put(self, *, blind: bool = False) -> PendingPut:
        """A put of a key whose first owner is n1, not submitted."""
        return self.client._builder.put(next(self._keys), b"v", blind=blind)

    def next_get(self) -> PendingGet:
        """A get of such a key, not submitted."""
        return self.client._builder.get(next(self._keys))

    def submit(self, count: int) -> None:
        """Overwrites, which n1 has to do, and passes of the loop until another node has answered
        something."""
        for _ in range(count):
            pending = self.next_put()
            self.loop.submit(pending)
            self.pendings.append(pending)
        elsewhere = self.client._builder.get("key", via="n2")
        self.loop.submit(elsewhere)
        self.loop.wait(elsewhere)

    def free(self) -> None:
        self._gate.set()

    def finish(self) -> None:
        """Everything is answered."""
        self.free()
        for pending in self.pendings:
            self.loop.wait(pending)
            assert pending.error is None
