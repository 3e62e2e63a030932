"""Read repair: sending the merge of a read to the replicas that turned out to hold less.

A repair is an ordinary replica write of the merged object. It needs no acknowledgement to be safe:
merging is idempotent, and whoever misses it is found by the next read.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvctl_node.causality.recent_requests import RecentRequests, encode_recent
from kvctl_node.node_state import NodeState
from kvctl_node.protocol.messages import (
    ReplicaPut,
)


def send_repairs(
    state: NodeState,
    *,
    partition: int,
    key: bytes,
    content: bytes,
    recent: RecentRequests,
    stale: Sequence[str],
    message_id: int,
    deadline_ms: int,
) -> list[str]:
    """Bring every node of `stale` (this one too) up to `content`.

    Returns the nodes sent to or mended here; acknowledgements carry `message_id`, for whoever wants
    to count them.
    """
    encoded_recent = encode_recent(recent)
    sent = []
    for node in stale:
        if node != state.name:
            message = ReplicaPut(message_id, key, content, encoded_recent, deadline_ms)
            state.outbox.send(node, message)
            sent.append(node)
        elif state.storage.accepts_writes():
            state.replica.apply(partition, key, content, encoded_recent, b"")
            sent.append(node)
    if sent:
        state.outbox.record("read_repaired", key=key.decode("utf-8", "replace"), nodes=sent)
    return sent
