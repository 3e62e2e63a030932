"""What clients and nodes say to each other: requests in, replies out, on the client socket.

`messages` has the rules that all messages keep.
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


class PutsDone(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=41):
    """Writes that came together and have the same reply, as those of new keys do."""

    ids: list[int]
    done: PutDone
    """The reply to each of them, but for its id."""


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
    """A node's snapshot of itself (see `kvctl_node.status` for the fields)."""

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
    wall_ms: int = 0
    """The cluster's clock, where the request's times do not fit it; else 0. From it a client learns
    how far off its own clock is."""


class AdminDone(msgspec.Struct, array_like=True, frozen=True, gc=False, tag=40):
    """The result of a `ClientAdmin` command."""

    id: int
    result: dict[str, Any]


ClientReply = (
    PutDone | GetDone | ScanDone | Description | StatusDone | QuorumSet | Failed | AdminDone
)
"""What one request comes to."""
ReplyMessage = ClientReply | PutsDone
"""What a node sends: the reply to one request, or to several."""
