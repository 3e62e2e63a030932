"""Handing a request once to a node that holds the key.

A node that is not in the key's preference list passes the request to a reachable member of it and
passes the answer back. The target never forwards again. Whether a forwarded put was applied cannot
be known when the target falls silent, so that is `indeterminate`; a get is merely `unavailable`.
"""

from __future__ import annotations

from typing import NamedTuple

from kvctl_node.errors import FailureKind
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    Failed,
)
from kvctl_node.protocol.messages import (
    Forward,
    ForwardReply,
)
from kvctl_node.replication.slots import Slots
from kvctl_node.timers import DeadlineWheel

REPLY_ALLOWANCE_MS = 250
"""How much longer than the target the forwarder waits, so that the target's own word arrives."""


class Pending(NamedTuple):
    """A request handed to `target`, whose answer belongs to `client`."""

    client: bytes
    target: str
    request: ClientPut | ClientGet


class Forwarding:
    """Requests this node passed on and whose answers it awaits."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self.pending: dict[int, Pending] = {}
        """By the id under which each was handed on."""
        self._deadlines = DeadlineWheel()

    def forward(
        self, client: bytes, request: ClientPut | ClientGet, slots: Slots, now: Instant
    ) -> None:
        """Send the request to a node that fills a slot of the key, or say that there is none."""
        state = self._state
        primaries = [node for node in slots.by_node if not slots.stands_for(node)]
        targets = primaries or list(slots.by_node)
        if not targets:
            failed = Failed(
                request.id,
                FailureKind.UNAVAILABLE,
                f"{state.name} can reach none of the key's replicas; nothing was stored.",
                "`kvctl status` shows which nodes are down.",
            )
            state.outbox.reply(client, failed)
            return
        target = state.rng.choice(targets)
        forward_id = state.next_id()
        self.pending[forward_id] = Pending(client, target, request)
        wait_ms = state.timing.replica_timeout_ms + REPLY_ALLOWANCE_MS
        wait_ms = min(request.deadline_ms - now.wall_ms, wait_ms)
        self._deadlines.add(forward_id, int(now.monotonic_s * 1000) + wait_ms)
        watch = state.detector.watched.get(target)
        generation = 0 if watch is None else watch.generation
        state.outbox.send(target, Forward(forward_id, request, generation))

    def on_reply(self, message: ForwardReply) -> None:
        """The target answered: pass it on. Late answers find nobody waiting."""
        pending = self.pending.pop(message.id, None)
        if pending is not None:
            self._state.outbox.reply(pending.client, message.reply)

    def on_refused(self, forward_id: int, kind: int, reason: str) -> None:
        """The target would not take the request: definitely not applied."""
        pending = self.pending.pop(forward_id, None)
        if pending is not None:
            self._state.outbox.reply(
                pending.client, Failed(pending.request.id, kind, f"{pending.target}: {reason}.")
            )

    def on_link_lost(self, peer: str) -> None:
        """Nothing more will come from the peer."""
        for forward_id in [one for one, it in self.pending.items() if it.target == peer]:
            self._give_up(forward_id)

    def on_tick(self, now: Instant) -> None:
        """Give up on what is overdue."""
        for forward_id in self._deadlines.due(int(now.monotonic_s * 1000)):
            self._give_up(forward_id)

    def next_ms(self) -> int | None:
        """When something may be overdue."""
        return self._deadlines.next_ms

    def _give_up(self, forward_id: int) -> None:
        pending = self.pending.pop(forward_id, None)
        if pending is None:
            return
        if isinstance(pending.request, ClientPut):
            kind, consequence = FailureKind.INDETERMINATE, "the value may or may not be stored"
        else:
            kind, consequence = FailureKind.UNAVAILABLE, "nothing was read"
        message = f"{pending.target} did not answer a forwarded request; {consequence}."
        self._state.outbox.reply(pending.client, Failed(pending.request.id, kind, message))
