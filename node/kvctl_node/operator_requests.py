"""What clients and operators may ask a node about itself, and change while it runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from kvctl_node.admin import AdminCommands
from kvctl_node.config import QuorumConfig
from kvctl_node.errors import ConfigError, FailureKind
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientAdmin,
    ClientDescribe,
    ClientSetQuorum,
    ClientStatus,
    Description,
    Failed,
    QuorumSet,
    StatusDone,
)


class OperatorRequests:
    """Describe, status, live settings, and the commands that other parts register."""

    def __init__(
        self, state: NodeState, admin: AdminCommands, snapshot: Callable[[Instant], dict[str, Any]]
    ) -> None:
        self._state = state
        self._admin = admin
        self._snapshot = snapshot
        admin.register("hints", self.on_hints)
        admin.register("hints_hold", self.on_hints_hold)
        admin.register("handoff", self.on_handoff)

    def on_client_describe(self, client: bytes, request: ClientDescribe, now: Instant) -> None:
        """Who the members are and who owns what."""
        config, quorum = self._state.config, self._state.quorum
        self._state.outbox.reply(
            client,
            Description(
                request.id,
                config.cluster_id,
                config.name,
                self._state.map.to_document(),
                (quorum.n, quorum.r, quorum.w, quorum.mode),
                {spec.name: spec.client_endpoint for spec in config.nodes},
            ),
        )

    def on_client_status(self, client: bytes, request: ClientStatus, now: Instant) -> None:
        """A snapshot of this node."""
        self._state.outbox.reply(client, StatusDone(request.id, self._snapshot(now)))

    def on_client_set_quorum(self, client: bytes, request: ClientSetQuorum, now: Instant) -> None:
        """Change the default R, W and mode; requests in flight keep what they started with."""
        quorum = QuorumConfig(self._state.quorum.n, request.r, request.w, request.mode)
        try:
            quorum.validate()
        except ConfigError as error:
            failed = Failed(request.id, FailureKind.INVALID, error.message, error.hint)
            self._state.outbox.reply(client, failed)
            return
        self._state.set_quorum(quorum)
        self._state.outbox.record("quorum_changed", **msgspec.structs.asdict(quorum))
        self._state.outbox.reply(client, QuorumSet(request.id))

    def on_client_admin(self, client: bytes, request: ClientAdmin, now: Instant) -> None:
        """An operator's command to one of this node's parts."""
        self._state.outbox.reply(client, self._admin.run(request, now))

    def on_hints(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """The hints kept here, by target."""
        handoff = self._state.handoff
        return {"queues": handoff.summary(now), "dropped": handoff.dropped}

    def on_hints_hold(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """Stop deliveries, or with `held` false let them go on."""
        self._state.handoff.hold(bool(arguments.get("held", True)))
        return self.on_hints(arguments, now)

    def on_handoff(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """Push hints now instead of at the next interval."""
        self._state.handoff.wake()
        return self.on_hints(arguments, now)
