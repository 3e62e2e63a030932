"""What every coordinated request has in common.

A coordinator is created for one client request, lives in the node's table of requests in flight
under its `id`, and is told of answers, lost links and its deadline until it says it is `done`. It
may go on collecting after it has answered its client (`answered`): late answers are what repair and
handoff live on.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from kvctl_node.errors import FailureKind, StoreError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientReply,
    Failed,
    GetDone,
    PutDone,
)
from kvctl_node.protocol.messages import (
    ForwardReply,
    ReplicaGetReply,
    ReplicaPutReport,
    ReplicaRefused,
    ReplicaScanReply,
)
from kvctl_node.replication.slots import Slots


class Origin(msgspec.Struct, frozen=True, gc=False):
    """Where an answer goes: to a client (by socket identity), or back to a forwarding node."""

    client: bytes
    request_id: int
    forwarded_by: str = ""
    forward_id: int = 0


class Subject(NamedTuple):
    """What a request is about, for people who watch."""

    op: str
    """`put`, `get` or `del`."""
    key: bytes
    partition: int
    slots: Slots
    """Who was asked."""


class RequestCoordinator(ABC):
    """A client request, or several alike, in flight at the node that coordinates it."""

    __slots__ = (
        "_began_wall_ms",
        "answered",
        "began_s",
        "deadline_ms",
        "done",
        "id",
        "origin",
        "state",
    )
    size = 1
    """How many client requests this stands for."""

    def __init__(self, state: NodeState, origin: Origin, deadline_ms: int, now: Instant) -> None:
        self.state = state
        self.origin = origin
        self.id = state.next_id()
        latest_ms = now.wall_ms + state.timing.replica_timeout_ms
        self.deadline_ms = deadline_ms if deadline_ms < latest_ms else latest_ms
        """On the wall clock, as the other nodes are told."""
        self.began_s = now.monotonic_s
        self._began_wall_ms = now.wall_ms
        self.answered = False
        self.done = False

    @property
    def due_ms(self) -> int:
        """The deadline on the monotonic clock, which no step of the wall clock moves."""
        return int(self.began_s * 1000) + self.deadline_ms - self._began_wall_ms

    def is_over(self, now: Instant) -> bool:
        """Whether the deadline has passed."""
        return now.monotonic_s * 1000 > self.due_ms

    @abstractmethod
    def start(self, now: Instant) -> None:
        """Check, then store and send what the first step needs."""

    @abstractmethod
    def on_link_lost(self, peer: str, now: Instant) -> None:
        """The peer's answer, if outstanding, cannot be counted on any more."""

    @abstractmethod
    def on_deadline(self, now: Instant) -> None:
        """Time is over: answer with what is known, and be done, or have a later deadline."""

    # Not abstract: a request that asked for no such answer ignores a late or stray one.

    def on_replica_get_reply(self, sender: str, message: ReplicaGetReply, now: Instant) -> None:  # noqa: B027
        """A replica's answer to a read."""

    def on_replica_same(self, sender: str, now: Instant) -> None:  # noqa: B027
        """A replica's copy is the one it was asked to compare with."""

    def on_replica_same_but(self, sender: str, but: Sequence[int], now: Instant) -> None:  # noqa: B027
        """So are all copies it was asked to compare with, but for those at some places."""

    def on_replica_put_ack(self, sender: str, now: Instant) -> None:  # noqa: B027
        """A replica stored what it was sent."""

    def on_replica_put_ack_but(self, sender: str, but: Sequence[int], now: Instant) -> None:  # noqa: B027
        """So it did with all that it was sent, but for those at some places it says more."""

    def on_replica_put_report(self, sender: str, message: ReplicaPutReport, now: Instant) -> None:  # noqa: B027
        """A replica stored what it was sent, and says what it held before."""

    def on_replica_scan_reply(self, sender: str, message: ReplicaScanReply, now: Instant) -> None:  # noqa: B027
        """A replica's page of a scan."""

    def on_replica_refused(self, sender: str, message: ReplicaRefused, now: Instant) -> None:
        """A replica will not do what it was asked."""
        self.on_link_lost(sender, now)

    def subject(self) -> Subject | None:
        """The one key this is about, and who was asked; None if it is about many."""
        return None

    def answer(self, reply: ClientReply) -> None:
        """Answer the client, once."""
        assert not self.answered, "a request is answered once"
        self.answered = True
        state, origin = self.state, self.origin
        if origin.forwarded_by:
            assert isinstance(reply, PutDone | GetDone | Failed)
            state.outbox.send(origin.forwarded_by, ForwardReply(origin.forward_id, reply))
        else:
            state.outbox.reply(origin.client, reply)
        if state.trace is not None:
            state.trace.on_answer(self, reply)

    def fail(self, kind: FailureKind, message: str, hint: str = "") -> None:
        """Answer with a failure and be done."""
        self.refuse(Failed(self.origin.request_id, kind, message, hint))

    def refuse(self, failed: Failed) -> None:
        """Answer with this failure and be done."""
        self.done = True
        self.answer(failed)

    def fail_with(self, error: StoreError, kind: FailureKind) -> None:
        """Answer with the failure that an error describes."""
        self.fail(kind, error.message, error.hint)
