"""Frames with several requests for scenarios, and what became of them."""

from __future__ import annotations

from collections import Counter

from kvctl_node.causality.causal_context import EMPTY_CONTEXT
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientReply,
    PutKind,
)
from kvctl_node.protocol.messages import (
    PeerMessage,
)
from tests.virtual_cluster import VirtualCluster

KEYS = [f"k{number}" for number in range(8)]


class Tap:
    """Counts messages by kind, and loses those that it is told to."""

    def __init__(self, cluster: VirtualCluster) -> None:
        self.kinds: Counter[type] = Counter()
        self.lost: set[type] = set()
        cluster.tap = self._on_message

    def _on_message(self, _sender: str, _receiver: str, message: PeerMessage) -> bool:
        self.kinds[type(message)] += 1
        return type(message) not in self.lost


def gets(
    cluster: VirtualCluster, *keys: str, r: int = 0, timeout_s: float = 5.0
) -> list[ClientGet]:
    deadline_ms = cluster.now.wall_ms + int(timeout_s * 1000)
    return [
        ClientGet(1000 + number, key.encode(), deadline_ms, r=r) for number, key in enumerate(keys)
    ]


def puts(
    cluster: VirtualCluster, *keys: str, value: str = "v", kind: PutKind = PutKind.OVERWRITE
) -> list[ClientPut]:
    return [cluster.put_request(key, f"{value} of {key}", kind=kind) for key in keys]


def ask(cluster: VirtualCluster, *requests: ClientGet | ClientPut) -> list[ClientReply]:
    """The answers to a frame sent to n1, in the order of its requests."""
    for one in requests:
        cluster.replies.pop(one.id, None)
    cluster.send("n1", *requests)
    return [cluster.answer(one.id) for one in requests]


def write_behind_back(cluster: VirtualCluster, name: str, key: str, value: bytes) -> None:
    """A version that only one replica holds."""
    state = cluster.node(name).state
    encoded = key.encode()
    state.replica.mint(
        state.map.partition_of(encoded),
        encoded,
        value,
        seen=EMPTY_CONTEXT,
        request=(77, 1),
        stamp_ms=cluster.now.wall_ms,
    )
    cluster.hosts[name].storage.commit()


def in_flight(cluster: VirtualCluster) -> int:
    return cluster.node("n1")._coordination.in_flight


def batch_of(cluster: VirtualCluster) -> int:
    """The id of the batch that n1 has in flight."""
    requests = cluster.node("n1")._coordination._requests.values()
    (batch_id,) = [one.id for one in requests if one.size > 1]
    return batch_id
