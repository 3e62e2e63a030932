"""The last act of a run: one user alone on a healed cluster.

Reads, modifies and writes each key, overwrites it, deletes every other one; then all processes die
and start again. One user never meets a sibling, and what was deleted stays so.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from kvctl_node.causality.causal_context import EMPTY_CONTEXT
from kvctl_node.causality.context_token import encode_token
from kvctl_node.causality.siblings import decode_context, decode_object, encode_context
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    GetDone,
    PutDone,
    PutKind,
)
from tests.simulation.history import Outcome, Read, Write
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.simulation import Simulation

ASK_TIMEOUT_S = 2.0
READ_ATTEMPTS = 5


class Epilogue:
    """One user alone on a healed cluster."""

    CLIENT = 99

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._rng = random.Random(f"{simulation.options.seed} epilogue")
        self._sequence = 0

    def play(self) -> None:
        """Raises `Violation`."""
        simulation = self._simulation
        for key in sorted(simulation.oracle.keys):
            self._modify_twice(key)
        deleted = [key for key in sorted(simulation.oracle.keys) if self._rng.random() < 0.5]
        for key in deleted:
            self._delete(key)
        simulation.converge()
        for name in simulation.running():
            simulation.kill(name)
        simulation.time.run_until(lambda: len(simulation.running()) == simulation.options.nodes, 5)
        simulation.time.run_until(lambda: False, 2)
        for key in sorted(simulation.oracle.keys):
            content = self._read(key)
            alive = [] if not content else decode_object(content).siblings
            values = [one.value for one in alive if one.value is not None]
            if key in deleted and values:
                raise Violation(8, key, f"{values} came back after a delete and a restart.")
            if key not in deleted and len(values) != 1:
                raise Violation(6, key, f"one user's last put reads as {values}.")
        simulation.judge_settled()

    def _via(self) -> str:
        return self._rng.choice(self._simulation.options.names)

    def _read(self, key: bytes) -> bytes:
        """R = N; the first attempts may find damaged records, which are repaired by that."""
        simulation, n = self._simulation, self._simulation.config.quorum.n
        for _ in range(READ_ATTEMPTS):
            began_s = simulation.time.time_s
            request = ClientGet(simulation.next_id(), key, self._deadline_ms(), r=n)
            reply = simulation.ask(self._via(), request)
            if isinstance(reply, GetDone):
                break
            simulation.time.run_until(lambda: False, 1.0)
        else:
            raise Violation(17, key, f"a healed cluster does not answer a get: {reply}.")
        context = decode_object(reply.content).context if reply.content else EMPTY_CONTEXT
        now_s = simulation.time.time_s
        read = Read(key, n, True, False, began_s, now_s, reply.content, context, reply.replied)
        simulation.on_read(read)
        return reply.content

    def _deadline_ms(self) -> int:
        host = self._simulation.hosts["n1"]
        return self._simulation.now_of(host).wall_ms + int(ASK_TIMEOUT_S * 1000)

    def _put(self, key: bytes, kind: PutKind, value: bytes | None, seen: bytes) -> PutDone:
        simulation = self._simulation
        self._sequence += 1
        context = decode_object(seen).context if seen else EMPTY_CONTEXT
        write = Write(
            request=(self.CLIENT, self._sequence),
            key=key,
            value=value,
            kind=kind,
            seen=context,
            w=simulation.config.quorum.n,
            strict=True,
            started_s=simulation.time.time_s,
        )
        simulation.on_write_begins(write)
        now_ms = simulation.now_of(simulation.hosts["n1"]).wall_ms
        token = encode_token(encode_context(context), cluster_id="simulation", key=key)
        request = ClientPut(
            simulation.next_id(),
            key,
            value,
            kind,
            self._deadline_ms(),
            self.CLIENT,
            self._sequence,
            now_ms,
            context=token,
            w=write.w,
        )
        reply = simulation.ask(self._via(), request)
        if not isinstance(reply, PutDone):
            raise Violation(17, key, f"a healed cluster does not take a put: {reply}.")
        write.ended_s, write.outcome = simulation.time.time_s, Outcome.ACKED
        simulation.on_put_done(write, reply)
        return reply

    def _modify_twice(self, key: bytes) -> None:
        """Read, modify, write; overwrite; each leaves exactly one value."""
        done = self._put(key, PutKind.CONTEXT, b"modified", self._read(key))
        if done.siblings != 1:
            raise Violation(6, key, f"{done.siblings} siblings after read, modify, write.")
        done = self._put(key, PutKind.OVERWRITE, b"overwritten", b"")
        if done.siblings != 1:
            raise Violation(6, key, f"{done.siblings} siblings after an overwriting put.")
        decode_context(done.context).check_invariants()

    def _delete(self, key: bytes) -> None:
        self._put(key, PutKind.OVERWRITE, None, b"")
        content = self._read(key)
        if content and not decode_object(content).deleted:
            raise Violation(8, key, "a deleted key is read.")
