"""One request: what is asked, where its attempts went, and what may be concluded from them.

A request keeps its identity (client, sequence) over all attempts, so a node that sees it again
applies it once. Who retries has to be honest about the end, though:

* success, from whichever attempt, is success;
* a put of which *any* attempt ended without an answer (closed connection, silence) and that never
  succeeded is `IndeterminateError`, whatever later attempts said: the lost one may yet appear;
* if nothing was ever sent, nothing was stored: `ClusterUnreachableError`;
* everything else is what the node said, or for a read that ran out of time, `UnavailableError`.

A put that is given up must not be acted upon later: a node that was paused would apply it after
its retry, over writes that came since. So every attempt of a put carries a deadline of its own,
which ends, the nodes' clock skew allowed for, before the next attempt begins (`plan_attempt`).

`attempt` on the wire counts the attempts that may have been applied; it stays 0 while all earlier
ones were definitely refused, and then the nodes need not look for the request before storing it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import msgspec

from kvctl.client.results import GetResult, PutResult
from kvctl.errors import ClusterUnreachableError
from kvctl_node.errors import (
    ERROR_BY_FAILURE,
    FailureKind,
    IndeterminateError,
    StoreError,
    UnavailableError,
)
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientReply,
    ClientRequest,
    ClientScan,
    Description,
    Failed,
    GetDone,
    PutDone,
    QuorumSet,
    ScanDone,
    StatusDone,
)

if TYPE_CHECKING:
    from kvctl.client.connection import Connection

_HINT_INDETERMINATE = "read the key to see whether it was stored; putting it again is safe."
_ABOUT_THE_KEY = "kvctl resolve KEY"
_HINT_UNREACHABLE = "kvctl status shows which nodes run; kvctl up starts them."


GRACE_SHARE = 0.02
"""How much longer than the node's deadline the client waits: so that the answer of a node that ran
out of time, which knows what was stored, arrives before the client concludes less."""
ATTEMPT_SHARE = 0.5
"""An attempt may take this part of the time that is left before another node is tried."""
ATTEMPT_LEAST_S = 0.2
"""A node gets at least so long for an attempt; with less left than that, it gets all of it."""


def plan_attempt(left_s: float, *, writes: bool, skew_s: float) -> tuple[float, float]:
    """How an attempt spends the time that is left: (seconds until another node may be tried,
    seconds until the node must not act on the request any more).

    A read can be answered late without harm. Nodes accept a request up to `skew_s` past its
    deadline, so a put's deadline is that much before its attempt ends; where the time is too short
    for that, there is one attempt and no second.
    """
    share_s = left_s * ATTEMPT_SHARE
    node_s = share_s - skew_s if writes else share_s
    if node_s < ATTEMPT_LEAST_S:
        return left_s, left_s / (1 + GRACE_SHARE)
    return share_s, node_s if writes else left_s / (1 + GRACE_SHARE)


class Driver(Protocol):
    """Whoever moves requests along while somebody waits for one (the request loop)."""

    cluster_id: str

    def wait(self, pending: Pending) -> None:
        """Return once `pending.done`."""
        ...


class Pending(msgspec.Struct, eq=False):
    """A request on its way, or finished. Times are monotonic seconds.

    A struct, because one is made for every request: msgspec fills it in without running Python.
    """

    answer: ClassVar[tuple[type[ClientReply], ...]] = (
        ScanDone,
        Description,
        StatusDone,
        QuorumSet,
    )
    """The replies that succeed."""
    writes: ClassVar[bool] = False
    """Whether an attempt without an answer may have changed something."""

    driver: Driver
    request: ClientRequest
    key: bytes
    started_at: float
    deadline: float
    attempt_ends: float
    """When to give up on the node being asked and try another."""
    via: str | None = None
    content_bytes: int = 0
    """Bounds the size of what the request carries besides its fixed fields."""
    connection: Connection | None = None
    """Where the current attempt is, None while no node can be asked."""
    avoided: tuple[Connection, ...] = ()
    """Nodes that refused this request or did not answer it."""
    uncertain: bool = False
    """True once an attempt that had been sent was given up without an answer."""
    refusal: Failed | None = None
    """The last definite refusal, while another node is tried."""
    reply: ClientReply | None = None
    error: StoreError | None = None
    done: bool = False
    finished_at: float = 0.0
    next: Pending | None = None
    """The request that waits for this one, where the order per key is kept."""
    on_done: Callable[[Pending], None] | None = None
    """The user's callback, called once when done."""
    on_settled: Callable[[Pending], None] | None = None
    """The bookkeeping of a batch, called before `on_done`; both at the end of a pass."""

    def wait(self) -> None:
        """Block until done, without raising the request's error."""
        if not self.done:
            self.driver.wait(self)

    def answered(self) -> ClientReply:
        """Block until done; the reply as it came, or raises the request's error."""
        if not self.done:
            self.driver.wait(self)
        if self.error is not None:
            raise self.error
        assert self.reply is not None
        return self.reply

    def result(self) -> Any:
        """Block until done; the result, or raises the request's error."""
        return self.answered()

    def shift_clock(self, by_ms: int) -> None:
        """The client's clock was wrong by so much: the request's times with it."""
        request = self.request
        if isinstance(request, ClientPut):
            self.request = msgspec.structs.replace(
                request,
                deadline_ms=request.deadline_ms + by_ms,
                started_ms=request.started_ms + by_ms,
            )
        elif isinstance(request, ClientGet | ClientScan):
            self.request = msgspec.structs.replace(request, deadline_ms=request.deadline_ms + by_ms)

    def fits(self, wall_ms: int, *, skew_ms: int) -> bool:
        """Whether a node whose clock shows this would act on the request."""
        request = self.request
        if isinstance(request, ClientPut) and request.started_ms > wall_ms + skew_ms:
            return False
        if isinstance(request, ClientPut | ClientGet | ClientScan):
            return request.deadline_ms > wall_ms
        return True

    def give_up_attempt(self) -> None:
        """The current attempt was sent and will not be waited for any longer."""
        self.uncertain = True
        if isinstance(self.request, ClientPut):
            self.request = msgspec.structs.replace(self.request, attempt=self.request.attempt + 1)


class PendingPut(Pending):
    """A put or delete."""

    answer = (PutDone,)
    writes = True

    def result(self) -> PutResult:
        """Block until done; the result, or raises the request's error."""
        reply = self.answered()
        assert isinstance(reply, PutDone)
        return PutResult(self.key, reply, cluster_id=self.driver.cluster_id)


class PendingGet(Pending):
    """A get."""

    answer = (GetDone,)

    def result(self) -> GetResult:
        """Block until done; the result, or raises the request's error."""
        reply = self.answered()
        assert isinstance(reply, GetDone)
        return GetResult(
            self.key,
            reply.content,
            cluster_id=self.driver.cluster_id,
            coordinator=reply.coordinator,
            replied=reply.replied,
            degraded=reply.degraded,
            explanation=reply.explanation,
        )


class PendingQuorum(Pending):
    """A change of a node's quorum."""

    answer = (QuorumSet,)
    writes = True


def may_try_another(failed: Failed) -> bool:
    """Whether the refusal is definite and one node's own, so that another may do better."""
    return failed.kind in (FailureKind.UNAVAILABLE, FailureKind.OVERLOADED)


def error_of_refusal(pending: Pending, failed: Failed) -> StoreError:
    """What a failed answer means for the whole request."""
    hint = failed.hint
    if _ABOUT_THE_KEY in hint:
        from kvctl.text.shown_commands import kvctl_command

        # A node does not know how a key is written in a command.
        hint = hint.replace(_ABOUT_THE_KEY, kvctl_command("resolve", pending.key.decode()))
    error = ERROR_BY_FAILURE.get(failed.kind, StoreError)(failed.message, hint=hint)
    if pending.writes and pending.uncertain and not isinstance(error, IndeterminateError):
        return IndeterminateError(
            f"an earlier attempt went unanswered and may have been applied; then: {failed.message}",
            hint=_HINT_INDETERMINATE,
        )
    return error


def error_of_silence(pending: Pending, sent: bool, circumstances: str) -> StoreError:
    """What it means that the request got no answer and nobody is left, or no time, to ask.

    `sent`: the current attempt was sent. `circumstances` says what each node did, for people.
    """
    sent = sent or pending.uncertain
    if pending.writes and sent:
        return IndeterminateError(
            f"no answer in time, the write may have been applied ({circumstances}).",
            hint=_HINT_INDETERMINATE,
        )
    if pending.refusal is not None:
        return error_of_refusal(pending, pending.refusal)
    if sent:
        return UnavailableError(f"no answer in time ({circumstances}).", hint=_HINT_UNREACHABLE)
    return ClusterUnreachableError(
        f"no node could be asked: {circumstances}."
        if pending.via is None
        else f"{pending.via} could not be asked: {circumstances}.",
        hint=_HINT_UNREACHABLE,
    )
