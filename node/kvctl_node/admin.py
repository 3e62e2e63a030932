"""Operators' commands to a running node, by name.

The parts of a node register what an operator may ask of them ("gossip", "hints", "repair"); the
node only looks the name up. A command takes a dictionary of plain data and returns one, or raises a
`StoreError` whose sentence the operator gets to read. Long work is started here and followed by
asking again: no command blocks the loop.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvctl_node.errors import FailureKind, InvalidRequestError, StoreError
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    AdminDone,
    ClientAdmin,
    Failed,
)

Command = Callable[[dict[str, Any], Instant], dict[str, Any]]


class AdminCommands:
    """The commands this node understands."""

    def __init__(self) -> None:
        self._commands: dict[str, Command] = {}

    def register(self, name: str, command: Command) -> None:
        """Offer a command under a name of its own."""
        assert name not in self._commands, f"the command {name} is registered twice"
        self._commands[name] = command

    def run(self, request: ClientAdmin, now: Instant) -> AdminDone | Failed:
        """Run a command; an unknown one, or one that refuses, answers with the reason."""
        command = self._commands.get(request.command)
        if command is None:
            known = ", ".join(sorted(self._commands))
            return Failed(
                request.id,
                FailureKind.INVALID,
                f"this node knows no command {request.command!r}.",
                f"it knows {known}.",
            )
        try:
            return AdminDone(request.id, command(request.arguments, now))
        except StoreError as error:
            return Failed(request.id, FailureKind.INVALID, error.message, error.hint)


def text_argument(arguments: dict[str, Any], name: str, default: str | None = None) -> str:
    """A string argument; raises `InvalidRequestError` if it is missing or of another type."""
    value = arguments.get(name, default)
    if not isinstance(value, str):
        raise InvalidRequestError(f"the argument {name} must be text.")
    return value
