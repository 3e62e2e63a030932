"""Every message between nodes, and the rules of all.

Handlers are named `on_<message>`, or `on_<message>s` where they take several that came together.

Structs are encoded as msgpack arrays headed by an integer tag, so a batch of mixed messages is
decoded and validated in one call. Field order *is* the format: append, never reorder.

Two vocabularies, on two sockets: `ClientRequest`/`ClientReply` between clients and a node
(`client_messages`), and `PeerMessage` between nodes: those of replicas and of members are here,
those of repair in `repair_messages`. Keys and values are bytes. Deadlines are wall-clock
milliseconds, since they travel between processes; correlation `id`s are chosen by the asker and
only echoed.
"""

from __future__ import annotations

from enum import IntEnum

import msgspec

from kvctl_node.protocol.client_messages import ClientGet, ClientPut, Failed, GetDone, PutDone
from kvctl_node.protocol.repair_messages import (
    HandoffAck,
    HandoffPut,
    MerkleKeys,
    MerkleKeysReply,
    MerkleQuery,
    MerkleReply,
    ReapAnswer,
    ReapDone,
    ReapOrder,
    ReapQuestion,
    RepairKeys,
    RepairKeysReply,
)

# ---------------------------------------------------------------- node ↔ node


class ReplicaPut(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=65):
    """Merge this object into your copy of `key`, durably."""

    id: int
    key: bytes
    content: bytes
    recent: bytes
    deadline_ms: int
    base: bytes = b""
    """Digest of the coordinator's copy before its put: a replica whose copy has that digest takes
    `content` as it is, which is the same state transition, clock truncation included."""
    stands_for: str = ""
    """The unreachable primary for which the receiver is to keep a hint, "" for an ordinary copy."""
    report: bool = False
    """Whether to say what the receiver held before, where that was not `base`: an overwriting put
    has to know what it did not supersede."""
    base_recent: int = 0
    """Fingerprint of the requests that the coordinator's copy remembered before its put, 0 for
    none: a replica that remembers the same takes `recent` as it is."""


ObjectPut = tuple[bytes, bytes, bytes, bytes, int]
"""(key, content, recent, base, base_recent), as a `ReplicaPut` has them."""


class ReplicaPuts(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=82):
    """Merge these objects into your copies, durably: several `ReplicaPut`s, in the order in which
    they were made."""

    id: int
    puts: list[ObjectPut]
    deadline_ms: int
    report: bool = False


class ReplicaPutAck(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=66):
    """Stored, and durable: the `ReplicaPut` or `ReplicaPuts` of this id. Of several, those whose
    place is in `but` have a `ReplicaPutReport` each."""

    id: int
    but: list[int] = []


class ReplicaPutReport(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=80):
    """Stored, and my copy was not the one you began with: the answer to a put that asked for it.

    `state` is a `ReplicaState`; the copy from before the put comes with `DIFFERENT` and `UNPROVEN`.
    `at`: the place of the put, where several came in one message.
    """

    id: int
    state: int
    content: bytes = b""
    recent: bytes = b""
    at: int = 0


class ReplicaRefused(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=67):
    """Definitely not done; `kind` is a `FailureKind`, `reason` a word for people."""

    id: int
    kind: int
    reason: str


class ReplicaState(IntEnum):
    """What a replica can say about a key."""

    DIFFERENT = 1
    """Here is my copy."""
    ABSENT = 2
    """I have no copy, and that is evidence."""
    NO_EVIDENCE = 3
    """I cannot say: rebuilding, or my record is damaged."""
    UNPROVEN = 4
    """Here is my copy, which may be older than what I acknowledged: merge it, do not count it."""


class ReplicaGet(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=68):
    """Send your copy of `key`, unless its digest is `known` (a conditional read)."""

    id: int
    key: bytes
    known: bytes
    deadline_ms: int


class ReplicaGets(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=81):
    """Send your copies of these keys, but for those whose digests are the ones known: several
    `ReplicaGet`s."""

    id: int
    gets: list[tuple[bytes, bytes]]
    """(key, known) of each."""
    deadline_ms: int


class ReplicaSame(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=74):
    """My copies have the digests you know: the answer to the `ReplicaGet` or `ReplicaGets` of this
    id. Of several keys it is not true of those whose place is in `but`; they have a
    `ReplicaGetReply` each."""

    id: int
    but: list[int] = []


class ReplicaGetReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=69):
    """Answer where the copies differ; `content` and `recent` with `DIFFERENT` and `UNPROVEN` only.

    `at`: the place of the key, where several were asked for.
    """

    id: int
    state: int
    content: bytes = b""
    recent: bytes = b""
    at: int = 0


class ReplicaScan(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=70):
    """Send a page of what you hold from (partition, key) on."""

    id: int
    partition: int
    key: bytes
    prefix: bytes
    limit: int
    deadline_ms: int


class ReplicaScanReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=71):
    """(partition, key, encoded object) in order, complete up to the next place (-1: the end)."""

    id: int
    entries: tuple[tuple[int, bytes, bytes], ...]
    next_partition: int
    next_key: bytes


class Forward(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=72):
    """A client's request, handed once to a member of the key's preference list."""

    id: int
    request: ClientPut | ClientGet
    target_generation: int = 0
    """The receiver's life this is meant for, as far as the sender knows (0: it does not)."""


class ForwardReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=73):
    """The answer to a forwarded request, to be passed to the client under its own id."""

    id: int
    reply: PutDone | GetDone | Failed


class Ping(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=75):
    """Are you there? Answered at once with `PingAck`, so that both directions are proven."""

    sequence: int
    generation: int
    heartbeat: int
    """The sender's own, as in gossip: a ping is news of the sender, too."""
    storage_uuid: str


class PingAck(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=76):
    """The direct answer to the `Ping` of that sequence number."""

    sequence: int
    generation: int
    heartbeat: int
    storage_uuid: str
    wall_ms: int
    """The sender's own clock (`kvctl_node.membership.cluster_clock`)."""


StateValue = bytes | int
"""Text travels as UTF-8 bytes: msgspec takes only one of the two in a union."""


class MemberDelta(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What one member's record gained after version `since`; complete from there to `version`."""

    member: int
    """The member's 64-bit id."""
    generation: int
    heartbeat: int
    age_ms: int
    """How old that heartbeat is, by the clocks of all who passed it on: news of a death must not
    look like a sign of life, only because it is news."""
    since: int
    version: int
    values: dict[int, tuple[int, StateValue]] = {}
    """`StateKey` → (version, value)."""


class GossipDigest(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=77):
    """How much the sender knows of whom, and what it remembers of the receiver."""

    entries: bytes
    """20 bytes a member (see `kvctl_node.membership.digest`)."""
    complete: bool
    """Whether that is everybody the sender knows, or a slice."""
    your_generation: int = 0
    """The highest ever seen of the receiver: a restored old disk learns that it is old."""
    your_actor_epoch: int = 0
    your_storage_uuid: str = ""
    """The receiver's disk as last seen: a wiped disk learns that there was another."""


class GossipReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=78):
    """What the sender of a digest lacked, and digest entries of what the replier lacks."""

    deltas: tuple[MemberDelta, ...]
    wanted: bytes


class GossipDeltas(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=79):
    """What was wanted, or news that cannot wait for the next round."""

    deltas: tuple[MemberDelta, ...]


MembershipMessage = Ping | PingAck | GossipDigest | GossipReply | GossipDeltas
"""Handled whatever ring the sender is in: that is how it learns of a newer one."""


PeerMessage = (
    ReplicaPut
    | ReplicaPuts
    | ReplicaPutAck
    | ReplicaPutReport
    | ReplicaRefused
    | ReplicaGet
    | ReplicaGets
    | ReplicaSame
    | ReplicaGetReply
    | ReplicaScan
    | ReplicaScanReply
    | Forward
    | ForwardReply
    | Ping
    | PingAck
    | GossipDigest
    | GossipReply
    | GossipDeltas
    | HandoffPut
    | HandoffAck
    | MerkleQuery
    | MerkleReply
    | MerkleKeys
    | MerkleKeysReply
    | RepairKeys
    | RepairKeysReply
    | ReapQuestion
    | ReapAnswer
    | ReapOrder
    | ReapDone
)


class PeerFrame(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All messages of one turn from one node to another."""

    sender: str
    ring_epoch: int
    messages: list[PeerMessage]
    clock: bytes = b""
    """What the sender knew of everybody's events (`kvctl_node.causality.trace_clock`)."""
