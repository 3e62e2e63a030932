"""What the dashboard does to a cluster of this machine: the commands of `kvctl`, as blocking calls.

Everything goes through the same supervisor and client as the command line, so locks, run state and
errors are the same. All that takes a while to load, and the first deed loads it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from kvctl.client import GetResult, PutResult, connect
from kvctl.cluster.comparisons import repair
from kvctl.cluster.directory import cluster_directory
from kvctl.cluster.faults import FaultOptions
from kvctl.cluster.node_commands import NodeCommands
from kvctl.cluster.supervisor import Supervisor
from kvctl.errors import ClusterUnreachableError, ConflictError
from kvctl.tui.cluster_handle import ChangedMeanwhileError, Choice, Dot
from kvctl.view.observation import OperationSeen

LOCK_WAIT_S = 10.0
REQUEST_TIMEOUT_S = 3.0


class LocalClusterHandle:
    """Acts on a cluster of this machine's user."""

    def __init__(self, name: str, home: Path | None = None) -> None:
        self._name = name
        self._home = home
        self._supervisor = Supervisor(home, lock_wait_s=LOCK_WAIT_S, command="kvctl dashboard")

    def kill(self, node: str) -> None:
        """SIGKILL."""
        self._supervisor.kill(self._name, [node])

    def start(self, node: str) -> None:
        """Spawn it; the picture shows when it serves."""
        self._supervisor.start(self._name, [node], wait=False)

    def stop(self, node: str) -> None:
        """SIGTERM, and wait for its end."""
        self._supervisor.stop(self._name, [node])

    def pause(self, node: str) -> None:
        """SIGSTOP."""
        self._supervisor.pause(self._name, [node])

    def resume(self, node: str) -> None:
        """SIGCONT."""
        self._supervisor.resume(self._name, [node])

    def restart(self, node: str) -> None:
        """Stop and start; the picture shows when it serves."""
        self._supervisor.restart(self._name, [node], wait=False)

    def set_quorum(self, *, n: int | None, r: int | None, w: int | None, mode: str | None) -> None:
        """Live, at every node that answers, and for good."""
        self._supervisor.set_quorum(self._name, n=n, r=r, w=w, mode=mode)

    def partition(self, groups: Sequence[Sequence[str]]) -> str:
        """Cut the links between the groups."""
        return self._supervisor.network(self._name).partition(groups).fault.id

    def isolate(self, nodes: Sequence[str]) -> str:
        """Cut the nodes off."""
        return self._supervisor.network(self._name).isolate(nodes).fault.id

    def cut_links(self, links: Sequence[str]) -> str:
        """Drop everything on these links."""
        options = FaultOptions(drop=True)
        return self._supervisor.network(self._name).link(links, options).fault.id

    def heal(self, fault_id: str) -> int:
        """Lift one fault, or all."""
        return len(self._supervisor.network(self._name).heal(fault_id).faults)

    def hold_hints(self, held: bool) -> None:
        """At every node that answers."""
        with self._nodes() as nodes:
            nodes.ask_all("hints_hold", {"held": held})

    def push_hints(self, holders: Sequence[str]) -> int:
        """Wake the deliveries; the picture shows how they go."""
        with self._nodes() as nodes:
            answers = nodes.ask({name: {} for name in holders or nodes.names}, "handoff")
        if not answers:
            raise ClusterUnreachableError("none of the holders answers.")
        return sum(queue["count"] for answer in answers.values() for queue in answer["queues"])

    def compare(self, one: str, other: str) -> None:
        """The picture shows how it goes."""
        with self._nodes() as nodes:
            nodes.ask_one(one, "merkle", {"peer": other})

    def repair(self, nodes: Sequence[str]) -> None:
        """The picture shows how it goes; pairs of nodes that do not answer are left out."""
        with self._nodes() as asked:
            next(iter(repair(asked, nodes, timeout_s=None)))

    def _nodes(self) -> NodeCommands:
        directory = cluster_directory(self._name, self._home)
        return NodeCommands(directory, directory.load())

    def settle(self, key: str, shown: Sequence[Dot], choose: Choice) -> OperationSeen:
        """Read, compare with what was shown, and write with the context of that very read."""
        began_s = time.monotonic()
        with connect(self._name, home=self._home, timeout_s=REQUEST_TIMEOUT_S) as client:
            found = client.get(key)
            if sorted(version.dot for version in found.siblings) != sorted(shown):
                raise ChangedMeanwhileError(
                    f"{key} has changed since it was shown; nothing was written.",
                    hint="look at its versions again, then choose.",
                )
            value = choose({version.dot: version.value for version in found.siblings})
            if value is None:
                result = client.delete(key, context=found.context)
            else:
                result = client.put(key, value, context=found.context)
        return _operation("put" if value is not None else "del", key, result, began_s)

    def put(self, key: str, value: str) -> OperationSeen:
        """Overwrite."""
        return self._wrote("put", key, lambda client: client.put(key, value))

    def delete(self, key: str) -> OperationSeen:
        """Put a tombstone."""
        return self._wrote("del", key, lambda client: client.delete(key))

    def get(self, key: str) -> tuple[OperationSeen, str]:
        """Read, siblings and all."""
        began_s = time.monotonic()
        with connect(self._name, home=self._home, timeout_s=REQUEST_TIMEOUT_S) as client:
            result = client.get(key)
        operation = OperationSeen(
            _now_ms(),
            "get",
            key,
            result.coordinator,
            tuple(result.replied),
            outcome=_outcome_of(result),
            took_ms=_since_ms(began_s),
        )
        return operation, _shown(result)

    def _wrote(self, op: str, key: str, write: Callable[..., PutResult]) -> OperationSeen:
        began_s = time.monotonic()
        with connect(self._name, home=self._home, timeout_s=REQUEST_TIMEOUT_S) as client:
            result = write(client)
        return _operation(op, key, result, began_s)


def _operation(op: str, key: str, result: PutResult, began_s: float) -> OperationSeen:
    return OperationSeen(
        _now_ms(),
        op,
        key,
        result.coordinator,
        tuple(result.acked),
        dict(result.hinted),
        "degraded" if result.degraded else "ok",
        _since_ms(began_s),
    )


def _outcome_of(result: GetResult) -> str:
    if not result.found:
        return "not found"
    if len(result.siblings) > 1:
        return "conflict"
    return "degraded" if result.degraded else "ok"


def _shown(result: GetResult) -> str:
    try:
        value = result.value
    except ConflictError:
        return f"{len(result.siblings)} siblings"
    return "not found" if value is None else value.decode("utf-8", "backslashreplace")


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _since_ms(began_s: float) -> float:
    return round((time.monotonic() - began_s) * 1000, 2)
