"""The last operations a node has coordinated, kept only while somebody watches.

    dashboard ── "operations" ──▶ node        every second or so; each asking renews the lease
              ◀── rows since ───              op, key, who was asked, who answered, outcome, ms

A request tells the trace of its answer (`RequestCoordinator.answer`), and that is the only place at
which it costs anything: while nobody watches, one comparison with None. The lease runs out by
itself, so a watcher that was killed leaves nothing behind. Even while watched the trace is a sample
of bounded size: a burst of operations is kept whole, a flood only so many a second; those in which
something was out of order have a budget of their own, lest the many good ones crowd them out.

The time an operation took is told to the turn of the loop: from the turn that began it to the one
that answered it. Operations on ranges of keys are not traced.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from kvctl_node.causality.siblings import decode_object
from kvctl_node.errors import FailureKind, InvalidRequestError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientReply,
    Failed,
    GetDone,
    PutDone,
)

if TYPE_CHECKING:
    from kvctl_node.replication.request import RequestCoordinator

LEASE_S = 5.0
"""A watcher that has not asked for so long has gone."""
KEPT_MAX = 64
"""Rows kept for the next question."""
BURST_MAX = 32
"""Operations that are kept in a row before the rate counts; as many again that went wrong."""
SAMPLES_PER_S = 8
KEY_BYTES_MAX = 128
"""So much of a key is kept."""


class Budget:
    """How many operations may still be kept: a bucket that fills with time, up to a burst."""

    __slots__ = ("left",)

    def __init__(self) -> None:
        self.left = float(BURST_MAX)

    def refill(self, elapsed_s: float) -> None:
        """So much time has passed."""
        self.left = min(float(BURST_MAX), self.left + elapsed_s * SAMPLES_PER_S)

    def take(self) -> bool:
        """Use up one, if there is one."""
        if self.left < 1.0:
            return False
        self.left -= 1.0
        return True


class _Answered(NamedTuple):
    """An operation answered in this turn, which has not been given its time yet."""

    request: RequestCoordinator
    reply: PutDone | GetDone | Failed


class OperationTrace:
    """Samples the operations of one node while a lease on it is held."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._until_s = 0.0
        self._ticked_s = 0.0
        self._usual, self._unusual = Budget(), Budget()
        self._number = 0
        """Of the row kept last; counts on over leases, so that a watcher can say what it knows."""
        self._answered = 0
        """Operations answered while watched, kept or not."""
        self._rows: deque[dict[str, Any]] = deque(maxlen=KEPT_MAX)
        self._this_turn: list[_Answered] = []

    @property
    def watched(self) -> bool:
        """Whether anybody's lease is running."""
        return self._state.trace is self

    def on_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """`{"after": number}`: renew the lease; the rows after that number, oldest first.

        A number this node has not reached yet is one of an earlier life: all rows are told. Raises
        `InvalidRequestError` if it is no number.
        """
        after = arguments.get("after", 0)
        if not isinstance(after, int):
            raise InvalidRequestError("the argument after must be a number.")
        if not self.watched:
            self._usual, self._unusual = Budget(), Budget()
            self._ticked_s = now.monotonic_s
            self._state.trace = self
        self._until_s = now.monotonic_s + LEASE_S
        known = after if after <= self._number else 0
        rows = [row for row in self._rows if row["number"] > known]
        return {"operations": rows, "last": self._number, "answered": self._answered}

    def on_answer(self, request: RequestCoordinator, reply: ClientReply) -> None:
        """A request was answered; keep it if there is room for more."""
        if isinstance(reply, PutDone | GetDone):
            budget = self._unusual if reply.degraded else self._usual
        elif isinstance(reply, Failed):
            budget = self._unusual
        else:
            return
        self._answered += 1
        if budget.take():
            self._this_turn.append(_Answered(request, reply))

    def on_tick(self, now: Instant) -> None:
        """The end of a turn: give its operations their time; stop when the lease has run out."""
        for request, reply in self._this_turn:
            self._keep(request, reply, now)
        self._this_turn.clear()
        for budget in (self._usual, self._unusual):
            budget.refill(now.monotonic_s - self._ticked_s)
        self._ticked_s = now.monotonic_s
        if now.monotonic_s >= self._until_s:
            self._rows.clear()
            self._state.trace = None

    def _keep(
        self, request: RequestCoordinator, reply: PutDone | GetDone | Failed, now: Instant
    ) -> None:
        subject = request.subject()
        if subject is None:
            return
        self._number += 1
        key = subject.key[:KEY_BYTES_MAX].decode("utf-8", "backslashreplace")
        self._rows.append(
            {
                "number": self._number,
                "at_ms": now.wall_ms,
                "op": subject.op,
                "key": key,
                "partition": subject.partition,
                "asked": list(subject.slots.by_node),
                "answered": list(_answered_by(reply)),
                "hinted": dict(subject.slots.stand_ins),
                "missing": list(subject.slots.missing),
                "outcome": outcome_of(reply),
                "took_ms": round((now.monotonic_s - request.began_s) * 1000, 2),
            }
        )

    def check_invariants(self) -> None:
        """Assert that nothing is kept for nobody, and nothing waits beyond its turn."""
        assert not self._this_turn
        assert self.watched or not self._rows


def _answered_by(reply: PutDone | GetDone | Failed) -> tuple[str, ...]:
    """Who had answered in favour by then; a failure does not say."""
    if isinstance(reply, PutDone):
        return reply.acked
    return reply.replied if isinstance(reply, GetDone) else ()


def outcome_of(reply: PutDone | GetDone | Failed) -> str:
    """An answer in one word, for people."""
    if isinstance(reply, Failed):
        return FailureKind(reply.kind).name.lower().replace("_", " ")
    if isinstance(reply, GetDone):
        siblings = decode_object(reply.content).siblings if reply.content else ()
        if all(one.value is None for one in siblings):
            return "not found"
        if len(siblings) > 1:
            return "conflict"
    return "degraded" if reply.degraded else "ok"
