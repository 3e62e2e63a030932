"""Copies of keys that this node holds nothing of, many at once.

Whoever fills a store brings new keys, and to a new key there is little to do: nothing is there to
merge with, to supersede, or to report. What is left is done for all of them step by step instead of
key by key, so that most steps run without the interpreter:

    keys ──▶ partitions ──▶ none of them held? ──▶ contents ──▶ digests ──▶ records
                                                        └──▶ storage, Merkle leaves

The outcome is that of `Replica.mint` and `Replica.apply`, one by one.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from kvctl_node.causality.causal_context import EMPTY_CONTEXT, Dot
from kvctl_node.causality.recent_requests import RecentRequests, check_all_recent, encode_recent
from kvctl_node.causality.siblings import (
    Sibling,
    StoredObject,
    decode_objects,
    digest_of,
    encode_object,
)
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Record
from kvctl_node.protocol.client_messages import ClientPut
from kvctl_node.replication.replica import Minted
from kvctl_node.ring.placed_keys import PlacedKeys


def may_be_held(state: NodeState, placed: PlacedKeys) -> Collection[int]:
    """Which of these keys, by index, are perhaps not new here; or are named twice."""
    keys = placed.keys
    return range(len(keys)) if len(set(keys)) < len(keys) else state.storage.may_hold(placed)


def mint_new(
    state: NodeState, placed: PlacedKeys, requests: Sequence[ClientPut], stamp_ms: int
) -> list[Minted]:
    """Coordinate puts of new keys: each is the first write of its key, by this node's actor."""
    actor = state.identity.actor
    dot = Dot(actor, 1)
    context = EMPTY_CONTEXT.with_dot(*dot, stamp_ms)
    contents = [
        encode_object(
            StoredObject(context, (Sibling(actor, 1, put.value, put.client, put.sequence),))
        )
        for put in requests
    ]
    digests = map(digest_of, contents)
    recents = [
        encode_recent(RecentRequests(0, ((stamp_ms, put.client, put.sequence, actor, 1, 0, 0),)))
        for put in requests
    ]
    records = [
        Record(content, digest, recent, actor)
        for content, digest, recent in zip(contents, digests, recents, strict=True)
    ]
    _keep(state, placed, records, [1] * len(records))
    return [Minted(record, dot, b"", 0, 1, context) for record in records]


def apply_new(
    state: NodeState,
    placed: PlacedKeys,
    contents: Sequence[bytes],
    recents: Sequence[bytes],
) -> None:
    """Store what another replica sends of new keys.

    Raises `ProtocolError` on bytes that are no object; nothing is stored then.
    """
    siblings = [len(stored.siblings) for stored in decode_objects(contents)]
    check_all_recent(recents)
    records = list(map(Record, contents, map(digest_of, contents), recents))
    _keep(state, placed, records, siblings)


def _keep(
    state: NodeState, placed: PlacedKeys, records: Sequence[Record], siblings: Sequence[int]
) -> None:
    replica = state.replica
    if replica.conflicted or max(siblings) > 1:
        for key, count in zip(placed.keys, siblings, strict=True):
            replica.note_siblings(key, count)
    state.storage.put_new(placed, records)
    replica.merkle.on_new(placed, records)
