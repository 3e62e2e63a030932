"""Simulated clients: each does one thing after another, retries honestly, and notes what happened.

They behave as the client library does. A request is asked of one node; a definite refusal is taken
to another node under the same attempt number; silence ends the attempt, whose deadline the nodes
know, and the next attempt carries a higher number. Each client has a wall clock of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import count
from typing import Protocol

import msgspec

from kvctl_node.causality.causal_context import EMPTY_CONTEXT, CausalContext
from kvctl_node.causality.context_token import encode_token
from kvctl_node.causality.siblings import decode_context, decode_object, encode_context
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientReply,
    Failed,
    GetDone,
    PutDone,
    PutKind,
    RepairMode,
)
from tests.simulation.history import Outcome, Read, Write
from tests.simulation.options import Action, Options
from tests.virtual_hosts import WALL_START_MS
from tests.virtual_time import VirtualTime

ATTEMPT_SHARE = 0.5
ATTEMPT_LEAST_S = 0.1
REFUSALS_MAX = 5
LATENCY_S = 0.0005

_ANOTHER_MAY_DO_BETTER = (FailureKind.UNAVAILABLE, FailureKind.OVERLOADED)
_KINDS = {
    Action.OVERWRITE: PutKind.OVERWRITE,
    Action.BLIND: PutKind.BLIND,
    Action.CONTEXT: PutKind.CONTEXT,
    Action.READ_MODIFY_WRITE: PutKind.CONTEXT,
}


class Cluster(Protocol):
    """What a client needs of the world."""

    time: VirtualTime

    def hand_over(self, via: str, request: ClientGet | ClientPut, client: Client) -> None:
        """Bring a request to a node; its answers come to `client.on_reply`."""

    def on_write_begins(self, write: Write) -> None: ...
    def on_put_done(self, write: Write, reply: PutDone) -> None: ...
    def on_write_ended(self, write: Write) -> None: ...
    def on_read(self, read: Read) -> None: ...


class Client:
    """One client of the cluster, busy until there is nothing left to do."""

    def __init__(
        self,
        number: int,
        cluster: Cluster,
        options: Options,
        rng: random.Random,
        next_action: Callable[[], bool],
        ids: count[int],
    ) -> None:
        self.number = number
        self.idle = False
        """Nothing is left to do."""
        self._cluster = cluster
        self._options = options
        self._rng = rng
        self._next_action = next_action
        """False once enough was done."""
        self._ids = ids
        skew_ms = options.timing.clock_skew_ms // 2
        self._ahead_ms = rng.randint(-skew_ms, skew_ms) if options.skewed else 0
        self._contexts: dict[bytes, CausalContext] = {}
        self._sequence = 0
        self._request: ClientGet | ClientPut | None = None
        self._via = ""
        self._write: Write | None = None
        self._read_began_s = 0.0
        self._deadline_s = 0.0
        self._refused_by: list[str] = []
        self._then: Callable[[bytes | None], None] | None = None
        """What a finished read goes on with: the content, or None if it failed."""

    # ------------------------------------------------------------ one action after another

    def begin(self) -> None:
        """Do the next thing in a while."""
        wait_s = self._rng.expovariate(1 / self._options.think_s)
        self._cluster.time.after(wait_s, self._act)

    def _act(self) -> None:
        if not self._next_action():
            self.idle = True
            return
        actions = self._options.actions
        action = self._rng.choices(list(actions), list(actions.values()))[0]
        key = f"k{self._rng.randint(1, self._options.keys)}".encode()
        if action in (Action.GET, Action.BLOCKING_GET):
            self._get(key, blocking=action is Action.BLOCKING_GET)
        elif action is Action.READ_MODIFY_WRITE:
            self._get(key, blocking=False, then=lambda content: self._modify(key, content))
        elif action is Action.DELETE:
            kind = PutKind.CONTEXT if self._rng.random() < 0.5 else PutKind.OVERWRITE
            self._put(key, kind, delete=True)
        else:
            self._put(key, _KINDS[action], delete=False)

    def _modify(self, key: bytes, content: bytes | None) -> None:
        if content is None:
            self.begin()
        else:
            self._put(key, PutKind.CONTEXT, delete=False)

    # ------------------------------------------------------------ requests

    def _get(
        self, key: bytes, *, blocking: bool, then: Callable[[bytes | None], None] | None = None
    ) -> None:
        r = self._options.quorum.r
        if self._rng.random() < 0.2:
            r = self._rng.randint(1, self._options.quorum.n)
        self._write = None
        self._then = then
        self._read_began_s = self._cluster.time.time_s
        repair = RepairMode.BLOCKING if blocking else RepairMode.ASYNC
        self._submit(ClientGet(next(self._ids), key, 0, r=r, repair=repair))

    def _put(self, key: bytes, kind: PutKind, *, delete: bool) -> None:
        self._sequence += 1
        seen = self._contexts.get(key, EMPTY_CONTEXT) if kind is PutKind.CONTEXT else EMPTY_CONTEXT
        w = self._options.quorum.w
        if self._rng.random() < 0.2:
            w = self._rng.randint(w if self._options.expendable else 1, self._options.quorum.n)
        now_s = self._cluster.time.time_s
        value = None if delete else f"v{self.number}.{self._sequence}".encode()
        self._write = Write(
            request=(self.number, self._sequence),
            key=key,
            value=value,
            kind=kind,
            seen=seen,
            w=w,
            strict=self._options.quorum.mode == "strict",
            started_s=now_s,
        )
        self._cluster.on_write_begins(self._write)
        self._submit(
            ClientPut(
                id=next(self._ids),
                key=key,
                value=value,
                kind=kind,
                deadline_ms=0,
                client=self.number,
                sequence=self._sequence,
                started_ms=self._wall_ms(now_s),
                context=encode_token(encode_context(seen), cluster_id="simulation", key=key),
                w=w,
            )
        )

    def _wall_ms(self, time_s: float) -> int:
        return WALL_START_MS + int(time_s * 1000) + self._ahead_ms

    def _submit(self, request: ClientGet | ClientPut) -> None:
        self._request = request
        self._refused_by = []
        self._deadline_s = self._cluster.time.time_s + self._options.timeout_s
        self._attempt()

    def _attempt(self) -> None:
        """Ask a node, and give it a part of the time that is left."""
        request = self._request
        assert request is not None
        now_s = self._cluster.time.time_s
        names = [one for one in self._options.doors if one not in self._refused_by]
        self._via = self._rng.choice(names or self._options.names)
        left_s = self._deadline_s - now_s
        skew_s = self._options.timing.clock_skew_ms / 1000
        attempt_s, node_s = left_s * ATTEMPT_SHARE, left_s * ATTEMPT_SHARE - skew_s
        if node_s < ATTEMPT_LEAST_S:
            attempt_s = node_s = left_s
        # Ids are new for each attempt only here, so that a stale answer is known for what it is.
        request = msgspec.structs.replace(
            request, id=next(self._ids), deadline_ms=self._wall_ms(now_s + node_s)
        )
        self._request = request
        self._cluster.hand_over(self._via, request, self)
        ends_s = now_s + attempt_s
        self._cluster.time.at(ends_s, lambda: self._on_silence(request.id))

    def _on_silence(self, request_id: int) -> None:
        request = self._request
        if request is None or request.id != request_id:
            return
        if self._write is not None:
            self._write.unanswered = True
        if self._cluster.time.time_s >= self._deadline_s - ATTEMPT_LEAST_S:
            self._fail()
            return
        if isinstance(request, ClientPut):
            self._request = msgspec.structs.replace(request, attempt=request.attempt + 1)
        self._attempt()

    def on_broken(self, name: str) -> None:
        """The connection to a node broke: its answer will not come, another node may know."""
        if self._request is None or self._via != name:
            return
        request_id = self._request.id
        self._cluster.time.after(LATENCY_S, lambda: self._on_silence(request_id))

    # ------------------------------------------------------------ answers

    def on_reply(self, reply: ClientReply) -> None:
        """A node answered, perhaps an attempt that was given up."""
        request = self._request
        if request is None or reply.id != request.id:
            return
        if isinstance(reply, PutDone):
            self._on_put_done(reply)
        elif isinstance(reply, GetDone):
            self._on_get_done(reply)
        else:
            assert isinstance(reply, Failed), reply
            self._on_failed(reply)

    def _on_failed(self, failed: Failed) -> None:
        self._refused_by.append(self._via)
        time_left = self._cluster.time.time_s < self._deadline_s - ATTEMPT_LEAST_S
        if (
            failed.kind in _ANOTHER_MAY_DO_BETTER
            and len(self._refused_by) < min(REFUSALS_MAX, self._options.nodes)
            and time_left
        ):
            self._attempt()
        elif failed.kind == FailureKind.INDETERMINATE and self._write is not None:
            self._write.unanswered = True
            self._fail()
        else:
            self._fail()

    def _fail(self) -> None:
        self._request = None
        write, then = self._write, self._then
        if write is not None:
            write.ended_s = self._cluster.time.time_s
            write.outcome = Outcome.UNKNOWN if write.unanswered else Outcome.REFUSED
            self._cluster.on_write_ended(write)
        elif then is not None:
            self._then = None
            then(None)
            return
        self.begin()

    def _on_put_done(self, reply: PutDone) -> None:
        write = self._write
        assert write is not None
        self._request = None
        write.ended_s = self._cluster.time.time_s
        write.outcome = Outcome.ACKED
        self._cluster.on_put_done(write, reply)
        self._contexts[write.key] = decode_context(reply.context)
        self.begin()

    def _on_get_done(self, reply: GetDone) -> None:
        request, then = self._request, self._then
        assert isinstance(request, ClientGet)
        self._request = None
        context = decode_object(reply.content).context if reply.content else EMPTY_CONTEXT
        read = Read(
            key=request.key,
            r=request.r,
            strict=self._options.quorum.mode == "strict",
            blocking=request.repair == RepairMode.BLOCKING,
            started_s=self._read_began_s,
            ended_s=self._cluster.time.time_s,
            content=reply.content,
            context=context,
            replied=reply.replied,
        )
        self._cluster.on_read(read)
        self._contexts[request.key] = context
        self._then = None
        if then is None:
            self.begin()
        else:
            then(reply.content)
