"""Operators' commands to nodes: the same question to several of them, all at once.

A node that does not answer is left out of the result; what that means is for the caller to say. A
node that refuses raises the error of the kind it named.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kvctl.cluster.admin import AdminConnections
from kvctl.cluster.directory import ClusterDirectory
from kvctl.errors import ClusterUnreachableError
from kvctl_node.config import ClusterConfig
from kvctl_node.errors import ERROR_BY_FAILURE, InvalidRequestError
from kvctl_node.protocol.client_messages import (
    AdminDone,
    ClientAdmin,
    Failed,
)

ANSWER_TIMEOUT_S = 1.0
"""How long a node may take to answer a command; each only starts work or looks something up."""

Answers = dict[str, dict[str, Any]]


class NodeCommands:
    """Connections to all nodes of a cluster; a context manager. Raises `ConfigError`."""

    def __init__(
        self,
        directory: ClusterDirectory,
        config: ClusterConfig,
        *,
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        self.names = tuple(spec.name for spec in config.nodes)
        self.connections = AdminConnections(config.nodes, directory.keys)
        self._timeout_s = timeout_s

    def __enter__(self) -> NodeCommands:
        return self

    def __exit__(self, *exception: object) -> None:
        self.connections.close()

    def ask_all(self, command: str, arguments: Mapping[str, Any] | None = None) -> Answers:
        """Ask every node. Raises `ClusterUnreachableError` if none answers."""
        answers = self.ask(dict.fromkeys(self.names, arguments or {}), command)
        if not answers:
            raise ClusterUnreachableError(
                "no node answers.", hint="kvctl status shows which run; kvctl up starts them."
            )
        return answers

    def ask_one(self, node: str, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Ask one node. Raises `ClusterUnreachableError` if it does not answer."""
        answers = self.ask({node: arguments}, command)
        if node not in answers:
            raise ClusterUnreachableError(
                f"{node} does not answer.", hint="kvctl status shows why."
            )
        return answers[node]

    def ask(self, arguments: Mapping[str, Mapping[str, Any]], command: str) -> Answers:
        """Ask each named node with arguments of its own; the answers that came."""
        requests = {name: ClientAdmin(0, command, dict(each)) for name, each in arguments.items()}
        replies = self.connections.ask(requests, timeout_s=self._timeout_s)
        answers: Answers = {}
        for name, reply in replies.items():
            if isinstance(reply, AdminDone):
                answers[name] = reply.result
            elif isinstance(reply, Failed):
                raise _error(name, reply)
        return answers

    def silent(self, answers: Iterable[str]) -> tuple[str, ...]:
        """The nodes that are not among those that answered."""
        answered = set(answers)
        return tuple(name for name in self.names if name not in answered)


def _error(node: str, failed: Failed) -> Exception:
    kind = ERROR_BY_FAILURE.get(failed.kind, InvalidRequestError)
    return kind(f"{node} refuses: {failed.message}", hint=failed.hint)
