"""Injecting network faults into a running cluster, listing them, and healing.

A fault is told to every node at either end of its links; the nodes carry it out, keep it, and lift
it when its time is over (`kvctl_node.protocol.link_fault`). kvctl only gives out the ids and says
who is concerned, so nothing depends on it staying alive.

A node that does not answer (it is down, paused, or hangs) has the fault written into its
`faults.json`, where it finds it when it next starts or goes on. The same with healing. So `heal`
leaves no fault behind, whoever set it, and needs nothing kvctl remembers.

What is active is what the nodes say, and for a node that does not answer, what its file says. The
run state remembers faults to give out each id once.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from kvctl.cluster.directory import ClusterDirectory, make_private_directory, write_private_file
from kvctl.cluster.node_commands import Answers, NodeCommands
from kvctl.cluster.observe import locate
from kvctl.cluster.processes import ProcessState, state_of
from kvctl.cluster.run_state import ClusterRun, Registry
from kvctl.errors import HomeError
from kvctl_node.config import ClusterConfig
from kvctl_node.errors import InvalidRequestError, StoreError
from kvctl_node.protocol.link_fault import (
    FAULTS_FILE_NAME,
    Link,
    LinkFault,
    decode_faults,
    encode_faults,
)

_NUMBER = re.compile(r"f(\d+)\Z")


class FaultOptions(NamedTuple):
    """What a new fault does; see `LinkFault`. `for_s` seconds from now it is over."""

    drop: bool = False
    loss: float = 0.0
    delay_ms: int = 0
    jitter_ms: int = 0
    duplicate: float = 0.0
    for_s: float | None = None


class Injected(NamedTuple):
    """What became of a new fault."""

    fault: LinkFault
    told: tuple[str, ...]
    """Nodes at which it is in force."""
    later: tuple[str, ...]
    """Nodes that do not answer; they take it from their directory when they start or go on."""


class Healed(NamedTuple):
    """What was lifted, with the hits of all nodes together."""

    faults: tuple[LinkFault, ...]
    later: tuple[str, ...]
    """Nodes that have a process and do not answer; they find it lifted when they go on."""


class NetworkFaults:
    """The faults of one cluster. Whoever calls `inject` or `heal` holds the faults' lock.

    It is not the lock of the cluster: partitions are made while nodes join, and `heal` must not
    wait for a command that waits for nodes to see each other.
    """

    def __init__(self, directory: ClusterDirectory, config: ClusterConfig, home: Path) -> None:
        self.names = tuple(spec.name for spec in config.nodes)
        self._directory = directory
        self._config = config
        self._registry = Registry(home)

    def inject(self, kind: str, links: Iterable[Link], options: FaultOptions) -> Injected:
        """Put a fault in force; on return it is, at every node that answers.

        Raises `InvalidRequestError` if it makes no sense or a node refuses; then it is nowhere.
        """
        expires_ms = None
        if options.for_s is not None:
            expires_ms = _now_ms() + round(options.for_s * 1000)
        fault = LinkFault(
            id=self._next_id(),
            kind=kind,
            links=tuple(links),
            drop=options.drop,
            loss=options.loss,
            delay_ms=options.delay_ms,
            jitter_ms=options.jitter_ms,
            duplicate=options.duplicate,
            expires_ms=expires_ms,
        )
        fault.validate()
        self._remember(fault)
        concerned = [name for name in self.names if fault.touches(name)]
        arguments = {name: msgspec.to_builtins(fault.at(name)) for name in concerned}
        try:
            answers = self._ask("fault_set", arguments)
        except StoreError:
            self.heal(fault.id)
            raise
        later = tuple(name for name in concerned if name not in answers)
        for name in later:
            path = self._file_of(name)
            _rewrite(path, [*_kept(path), fault.at(name)])
        return Injected(fault, tuple(name for name in concerned if name in answers), later)

    def active(self) -> tuple[LinkFault, ...]:
        """Those in force, oldest first: links of all nodes united, hits of all nodes summed."""
        answers = self._ask("faults", {name: {} for name in self.names})
        found = [one for answer in answers.values() for one in _faults_of(answer["faults"])]
        for name in _node_directories(self._directory):
            if name not in answers:
                found.extend(_kept(self._file_of(name)))
        now_ms = _now_ms()
        return united(one for one in found if one.expires_ms is None or one.expires_ms > now_ms)

    def heal(self, fault_id: str = "") -> Healed:
        """Lift one fault, or all; on return they are, wherever somebody answers or nobody runs.

        Raises `InvalidRequestError` if there is no fault of that id, `HomeError`.
        """
        if fault_id:
            self._check_known(fault_id)
        answers = self._ask("fault_lift", {name: {"id": fault_id} for name in self.names})
        lifted = [one for answer in answers.values() for one in _faults_of(answer["lifted"])]
        for name in _node_directories(self._directory):
            if name not in answers:
                lifted.extend(_lift_in_file(self._file_of(name), fault_id))
        self._registry.update(self._directory.name, lambda run: _without(run, fault_id))
        silent = [name for name in self.names if name not in answers]
        later = locate(self._directory, self._registry.read(self._directory.name), silent)
        return Healed(united(lifted), tuple(later))

    def _next_id(self) -> str:
        known = [_number(fault.id) for fault in self.active()]
        return f"f{1 + max([self._registry.read(self._directory.name).faults_made, *known])}"

    def _remember(self, fault: LinkFault) -> None:
        self._registry.update(
            self._directory.name,
            lambda run: msgspec.structs.replace(
                run, faults={**run.faults, fault.id: fault}, faults_made=_number(fault.id)
            ),
        )

    def _check_known(self, fault_id: str) -> None:
        active = [fault.id for fault in self.active()]
        remembered = self._registry.read(self._directory.name).faults
        if fault_id not in active and fault_id not in remembered:
            raise InvalidRequestError(
                f"there is no fault {fault_id!r}.",
                hint=f"the faults are {', '.join(active)}." if active else "no fault is active.",
            )

    def _ask(self, command: str, arguments: Mapping[str, dict[str, Any]]) -> Answers:
        """Ask those of the nodes that may answer: they have a process that is not paused."""
        run = self._registry.read(self._directory.name)
        processes = locate(self._directory, run, arguments)
        running = {
            name: arguments[name]
            for name, identity in processes.items()
            if state_of(identity) is ProcessState.RUNNING
        }
        if not running:
            return {}
        with NodeCommands(self._directory, self._config) as nodes:
            return nodes.ask(running, command)

    def _file_of(self, name: str) -> Path:
        return self._directory.node(name) / FAULTS_FILE_NAME


def _without(run: ClusterRun, fault_id: str) -> ClusterRun:
    """The run state without one fault, or without any."""
    left = {one: fault for one, fault in run.faults.items() if fault_id and one != fault_id}
    return msgspec.structs.replace(run, faults=left)


def united(parts: Iterable[LinkFault]) -> tuple[LinkFault, ...]:
    """One fault per id from what the nodes at its ends know of it, in the order of the ids."""
    by_id: dict[str, LinkFault] = {}
    for part in parts:
        whole = by_id.get(part.id)
        if whole is None:
            by_id[part.id] = part
        else:
            links = tuple(sorted({*whole.links, *part.links}))
            hits = whole.hits + part.hits
            by_id[part.id] = msgspec.structs.replace(whole, links=links, hits=hits)
    return tuple(sorted(by_id.values(), key=lambda fault: (_number(fault.id), fault.id)))


# ------------------------------------------------------------------ nodes that cannot be asked


def _node_directories(directory: ClusterDirectory) -> list[str]:
    """Every node that has a directory, also one that the configuration does not name any more."""
    try:
        return sorted(path.name for path in (directory.path / "nodes").iterdir() if path.is_dir())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise HomeError(f"cannot read {directory.path}/nodes: {error.strerror}.") from error


def _kept(path: Path) -> tuple[LinkFault, ...]:
    """The faults in a node's file; none if it is missing or damaged, as the node sees it."""
    try:
        return decode_faults(path.read_bytes())
    except (FileNotFoundError, InvalidRequestError):
        return ()
    except OSError as error:
        raise HomeError(f"cannot read {path}: {error.strerror}.") from error


def _lift_in_file(path: Path, fault_id: str) -> list[LinkFault]:
    """Take one fault, or all, out of a node's file; those taken out."""
    kept = _kept(path)
    lifted = [fault for fault in kept if fault_id in ("", fault.id)]
    if lifted:
        _rewrite(path, [fault for fault in kept if fault not in lifted])
    return lifted


def _rewrite(path: Path, faults: list[LinkFault]) -> None:
    if faults:
        make_private_directory(path.parent)
        write_private_file(path, encode_faults(faults))
        return
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise HomeError(f"cannot remove {path}: {error.strerror}.") from error


def _faults_of(documents: Iterable[dict[str, Any]]) -> list[LinkFault]:
    return [msgspec.convert(document, LinkFault) for document in documents]


def _number(fault_id: str) -> int:
    matched = _NUMBER.match(fault_id)
    return int(matched.group(1)) if matched else 0


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
