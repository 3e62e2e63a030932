"""Who the members are and who owns what, as one node described it.

Any node serves any client, so a map only saves a hop: a stale one costs a forward, never a wrong
answer.
"""

from __future__ import annotations

from typing import NamedTuple

from kvctl_node.config import QuorumConfig
from kvctl_node.protocol.client_messages import (
    Description,
)
from kvctl_node.ring.partition_map import PartitionMap


class ClusterMap(NamedTuple):
    """A description of a running cluster."""

    cluster_id: str
    name: str
    ring: PartitionMap
    quorum: QuorumConfig
    """The N, R, W and mode that the describing node uses for requests that name none."""
    clients: dict[str, str]
    """Member → the endpoint it serves clients on."""

    @property
    def members(self) -> tuple[str, ...]:
        """The names of the members, sorted."""
        return tuple(sorted(self.clients))

    @property
    def epoch(self) -> int:
        """The version of the ring."""
        return self.ring.epoch

    def owners_of(self, key: bytes) -> tuple[str, ...]:
        """The nodes that hold a key, primary first."""
        return self.ring.owners_of(self.ring.partition_of(key))


def map_from_description(reply: Description) -> ClusterMap:
    """Decode and validate a node's answer; raises `ProtocolError`."""
    n, r, w, mode = reply.quorum
    return ClusterMap(
        cluster_id=reply.cluster_id,
        name=reply.name,
        ring=PartitionMap.from_document(reply.ring),
        quorum=QuorumConfig(n=n, r=r, w=w, mode=mode),
        clients=dict(reply.clients),
    )
