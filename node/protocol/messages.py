"""Every message, as a typed struct. Handlers are named `on_<message>`.

Structs are encoded as msgpack arrays headed by an integer tag, so a batch of mixed messages is
decoded and validated in one call. Field order *is* the format: append, never reorder.

Two vocabularies, on two sockets: `ClientRequest`/`ClientReply` between clients and a node, and
`PeerMessage` between nodes. Keys and values are bytes. Deadlines are wall-clock milliseconds, since
they travel between processes; correlation `id`s are chosen by the asker and only echoed.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec


class PutKind(IntEnum):
    """What a put supersedes."""

    OVERWRITE = 0
    """Whatever a read quorum holds at the moment."""
    CONTEXT = 1
    """Exactly what the given causal context covers."""
    BLIND = 2
    """Nothing: whatever is there stays as siblings."""


class RepairMode(IntEnum):
    """When a get mends replicas that differ."""

    ASYNC = 0
    """After the answer."""
    BLOCKING = 1
    """Before it, so that reads are monotonic."""


# ---------------------------------------------------------------- client → node


class ClientPut(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=1):
    """Store `value` (None: a tombstone, that is, a delete) under `key`."""

    id: int
    key: bytes
    value: bytes | None
    kind: int
    deadline_ms: int
    client: int
    """Random 63-bit id of the client instance; with `sequence` it names the request for ever."""
    sequence: int
    started_ms: int
    """When the first attempt was made: bounds how far back a retry has to look."""
    attempt: int = 0
    """0 the first time; retries are looked up before anything is stored again."""
    context: bytes = b""
    """The opaque context token, for `PutKind.CONTEXT`."""
    w: int = 0
    """0: the cluster's."""
    mode: int = 0


class ClientGet(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=2):
    """Read all current versions of `key`."""

    id: int
    key: bytes
    deadline_ms: int
    r: int = 0
    mode: int = 0
    repair: int = 0
    explain: bool = False


class ClientScan(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=3):
    """One page of all keys in (partition, key) order, from a given place.

    `conflicts_only` keeps only keys that have more than one sibling.
    """

    id: int
    partition: int
    key: bytes
    prefix: bytes
    limit: int
    deadline_ms: int
    r: int = 0
    keys_only: bool = False
    conflicts_only: bool = False


class ClientDescribe(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=4):
    """Ask for the partition map and the addresses of the members."""

    id: int


class ClientStatus(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=5):
    """Ask a node for a snapshot of itself."""

    id: int


class ClientSetQuorum(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=6):
    """Change the node's default R, W and mode, live. kvctl keeps the durable copy."""

    id: int
    r: int
    w: int
    mode: str


class ClientAdmin(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=7):
    """An operator's command to one node: look at its queues and beliefs, push, hold, repair.

    `arguments` and the result are plain JSON-like data: they travel between people and nodes, and
    each command validates its own.
    """

    id: int
    command: str
    arguments: dict[str, Any] = {}


ClientRequest = (
    ClientPut
    | ClientGet
    | ClientScan
    | ClientDescribe
    | ClientStatus
    | ClientSetQuorum
    | ClientAdmin
)


# ---------------------------------------------------------------- node → client


class PutDone(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=33):
    """The write reached its quorum. `context` is the raw given context plus the new dot."""

    id: int
    context: bytes
    siblings: int
    """How many versions the coordinator's copy is left with."""
    coordinator: str
    acked: tuple[str, ...]
    hinted: dict[str, str] = {}
    """Holder of a hint → the primary it stands for."""
    degraded: bool = False
    """True when some primary did not take part, so that repair has something left to do."""


class GetDone(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=34):
    """The merge of at least R answers. `content` is an encoded object, b"" if no copy exists."""

    id: int
    content: bytes
    coordinator: str
    replied: tuple[str, ...]
    degraded: bool = False
    explanation: dict[str, Any] | None = None


class ScanDone(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=35):
    """A page: (key, encoded object) pairs, and where to go on (partition -1 at the end)."""

    id: int
    entries: tuple[tuple[bytes, bytes], ...]
    next_partition: int
    next_key: bytes


class Description(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=36):
    """Who the members are and who owns what. `ring` is `PartitionMap.to_document()`."""

    id: int
    cluster_id: str
    name: str
    ring: bytes
    quorum: tuple[int, int, int, str]
    """N, R, W, mode."""
    clients: dict[str, str]
    """Member name → client endpoint."""


class StatusDone(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=37):
    """A node's snapshot of itself (see `node.status` for the fields)."""

    id: int
    snapshot: dict[str, Any]


class QuorumSet(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=38):
    """The node now uses the quorum it was given."""

    id: int


class Failed(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=39):
    """The request failed; `kind` is a `FailureKind`."""

    id: int
    kind: int
    message: str
    hint: str = ""


class AdminDone(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=40):
    """The result of a `ClientAdmin` command."""

    id: int
    result: dict[str, Any]


ClientReply = (
    PutDone | GetDone | ScanDone | Description | StatusDone | QuorumSet | Failed | AdminDone
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


class ReplicaPutAck(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=66):
    """Stored: the `ReplicaPut`s of these ids, all that one turn of the replica made durable."""

    ids: list[int]


class ReplicaPutReport(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=80):
    """Stored, and my copy was not the one you began with: the answer to a put that asked for it.

    `state` is a `ReplicaState`; the copy from before the put comes with `DIFFERENT` and `UNPROVEN`.
    """

    id: int
    state: int
    content: bytes = b""
    recent: bytes = b""


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


class ReplicaSame(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=74):
    """My copy has the digest you know: the answer to the `ReplicaGet`s of these ids."""

    ids: list[int]


class ReplicaGetReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=69):
    """Answer to `ReplicaGet` where the copies differ; `content` and `recent` with `DIFFERENT` and
    `UNPROVEN` only."""

    id: int
    state: int
    content: bytes = b""
    recent: bytes = b""


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
    """20 bytes a member (see `node.membership.digest`)."""
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


class HandoffPut(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=100):
    """A hint goes home: merge this object into your copy, durably."""

    id: int
    key: bytes
    content: bytes
    recent: bytes


class HandoffAck(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=101):
    """Stored: everything that the object of `HandoffPut` `id` held is now on this disk."""

    id: int


class MerkleState(IntEnum):
    """Whether a node can take part in a comparison."""

    READY = 0
    BUILDING = 1
    """Its tree is not complete yet: ask again in a moment."""
    REFUSED = 2
    """It takes no writes now (disk full), so it cannot be repaired."""


class MerkleQuery(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=85):
    """Which of these hashes differ from yours? (`node.replication.merkle_pair` has the levels.)"""

    id: int
    level: int
    parents: tuple[int, ...]
    hashes: bytes
    """Of all children of the parents, 16 bytes each, in order."""
    deadline_ms: int


class MerkleReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=86):
    """The numbers of the children that differ. `state` is a `MerkleState`."""

    id: int
    state: int
    differing: tuple[int, ...] = ()
    proven: bool = True
    """False: the replier is itself rebuilding something the two share."""


class MerkleKeys(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=87):
    """My (key, digest) pairs in some leaves of a partition, from `start` up to `stop`.

    `stop` None: to the end of the partition. Partition -1: only these keys are meant, wherever they
    lie; then nothing else is reported. With `sparse`: all I have in these partitions.
    """

    id: int
    partition: int
    leaves: int
    """Bit i stands for leaf i."""
    start: bytes
    stop: bytes | None
    entries: tuple[tuple[bytes, bytes], ...]
    deadline_ms: int
    sparse: tuple[int, ...] = ()


class MerkleKeysReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=88):
    """Keys that differ with the replier's digests (b"": no readable copy), before `next_key`."""

    id: int
    entries: tuple[tuple[bytes, bytes], ...]
    next_key: bytes | None
    """None: everything up to the `stop` asked for was compared."""
    unlisted: tuple[int, ...] = ()
    """Those of the `sparse` partitions that were not compared: the replier has too much in them."""


class RepairKeys(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=89):
    """Merge these (key, content, recent) copies, and send back what you have more.

    Empty content: the sender has no copy and asks for one.
    """

    id: int
    copies: tuple[tuple[bytes, bytes, bytes], ...]
    deadline_ms: int


class RepairKeysReply(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=90):
    """The replier's copies after the merge, where they are not what it was sent."""

    id: int
    state: int
    copies: tuple[tuple[bytes, bytes, bytes], ...] = ()
    deferred: tuple[bytes, ...] = ()
    """Keys whose copies did not fit: ask for them again."""
    changed: tuple[int, ...] = ()
    """Places in the request of the keys whose copy at the replier changed."""
    unproven: tuple[int, ...] = ()
    """Places of the keys of which the replier's copy, or having none, is no evidence."""


class ReapQuestion(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=91):
    """May the tombstones (key, digest) be forgotten, as far as you are concerned?"""

    id: int
    keys: tuple[tuple[bytes, bytes], ...]
    deadline_ms: int


class ReapAnswer(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=92):
    """One answer per key: a primary holds just that tombstone, and nobody anything else."""

    id: int
    clear: tuple[bool, ...]


class ReapOrder(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=93):
    """Drop the copies that still have these digests: every member cleared them twice."""

    id: int
    keys: tuple[tuple[bytes, bytes], ...]
    deadline_ms: int


class ReapDone(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=94):
    """Whether each key's copy is gone now."""

    id: int
    dropped: tuple[bool, ...]


PeerMessage = (
    ReplicaPut
    | ReplicaPutAck
    | ReplicaPutReport
    | ReplicaRefused
    | ReplicaGet
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
    """What the sender knew of everybody's events (`node.causality.trace_clock`)."""
