"""What kvctl remembers of its clusters between two commands: the registry.

One document per cluster: which nodes should run, as which process, and the highest generation and
actor epoch each was ever seen with. Nothing here is the only copy of anything that matters. Pids
and nonces are on the command lines of the running processes, generations in the nodes' own
directories; `doctor --fix` rebuilds the registry from those. What a lost registry does lose, it
loses towards safety: a node that is down counts as stopped, an ephemeral cluster as one to keep.

Why sqlitedict here, and not for the nodes' data. Measured per row: the standard library's sqlite3
13.9 µs to write in batches of 64 and 4.3 µs to read, sqlitedict 26.9 µs and 45.8 µs; and it sets
`synchronous=OFF`, which no acknowledged write may depend on, and pickles by default, which runs
whatever a tampered file says. For a dozen small documents that can be rebuilt, its plainness is
worth that: a dictionary in a file, with a JSON encoder in the place of pickle.

Its worker thread dies, and its caller waits for ever, when a commit fails. So a transaction never
meets another one: a file lock beside the registry is held for the few milliseconds of each access,
and the file is looked at before sqlitedict gets it.
"""

from __future__ import annotations

import fcntl
import logging
import os
import sqlite3
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec
from sqlitedict import SqliteDict

from kvctl.cluster.directory import make_private_directory
from kvctl.cluster.processes import ProcessIdentity
from kvctl.errors import HomeError
from kvctl_node.documents import UNREADABLE
from kvctl_node.protocol.link_fault import LinkFault

REGISTRY_NAME = "registry.sqlite"
_TABLE = "run_state"

RUNNING = "running"
STOPPED = "stopped"

# Its errors reach us as exceptions; its log lines, stacks and all, would only repeat them.
logging.getLogger("sqlitedict").setLevel(logging.CRITICAL + 1)


class RegistryError(HomeError):
    """The registry cannot be read or written."""

    kind = "registry"


class DeferredAction(msgspec.Struct, frozen=True):
    """Something a detached process will do later, unless another command comes first."""

    id: str
    action: str
    """`start`, `resume` or `down`."""
    due_ms: int
    """Wall-clock milliseconds."""


class NodeRun(msgspec.Struct, frozen=True):
    """What is remembered of one node."""

    wanted: str = STOPPED
    """`running` or `stopped`: what the last command asked for."""
    pid: int = 0
    started_s: float = 0.0
    nonce: str = ""
    generation: int = 0
    """Highest ever seen. A node that starts with less on its disk has an old disk."""
    actor_epoch: int = 0
    """Highest ever seen; see `kvctl_node.identity`."""
    deferred: DeferredAction | None = None

    @property
    def identity(self) -> ProcessIdentity | None:
        """The process it was last started as."""
        return ProcessIdentity(self.pid, self.started_s, self.nonce) if self.pid else None


class ClusterRun(msgspec.Struct, frozen=True):
    """What is remembered of one cluster. Immutable: the functions below make changed copies."""

    cluster_id: str = ""
    created_ms: int = 0
    ephemeral: bool = False
    expiry: DeferredAction | None = None
    nodes: Mapping[str, NodeRun] = {}
    faults: Mapping[str, LinkFault] = {}
    """Injected faults by id, as they were set; what is in force is what the nodes say."""
    faults_made: int = 0
    """How many there ever were: ids are not given out twice."""

    def node(self, name: str) -> NodeRun:
        """What is remembered of a node; a blank memory if nothing is."""
        return self.nodes.get(name, NodeRun())

    def of(self, cluster_id: str) -> ClusterRun:
        """This, or a blank memory if it is of another cluster that had the name before."""
        return self if self.cluster_id == cluster_id else ClusterRun(cluster_id=cluster_id)

    def with_nodes(self, changed: Mapping[str, NodeRun]) -> ClusterRun:
        """A copy in which these nodes are replaced or added."""
        return msgspec.structs.replace(self, nodes={**self.nodes, **changed})

    def of_a_copy(self, former_id: str, cluster_id: str) -> ClusterRun:
        """What holds of a copy of the cluster `former_id` that has an id of its own now: how far
        its disks had come, and what was broken; its processes are the other's."""
        if self.cluster_id != former_id:
            return ClusterRun(cluster_id=cluster_id)
        nodes = {
            name: NodeRun(generation=node.generation, actor_epoch=node.actor_epoch)
            for name, node in self.nodes.items()
        }
        return msgspec.structs.replace(self, cluster_id=cluster_id, expiry=None, nodes=nodes)


class Registry:
    """The run state of all clusters of one home directory."""

    def __init__(self, home: Path) -> None:
        self._home = home
        self.path = home / REGISTRY_NAME

    def read(self, cluster: str) -> ClusterRun:
        """What is remembered of a cluster; a blank memory if nothing is. Raises `RegistryError`."""
        return self.read_all().get(cluster, ClusterRun())

    def read_all(self) -> dict[str, ClusterRun]:
        """Everything, by cluster name. Raises `RegistryError`."""
        if not self.path.exists():
            return {}
        with self._opened() as table:
            return {str(name): run for name, run in table.items()}

    def write(self, cluster: str, run: ClusterRun) -> None:
        """Remember this of a cluster. Raises `RegistryError`."""
        with self._opened() as table:
            table[cluster] = run
            if table[cluster] != run:  # also makes the worker thread report a failed write
                raise RegistryError(f"{self.path} does not hold what was just written to it.")

    def update(self, cluster: str, change: Callable[[ClusterRun], ClusterRun]) -> ClusterRun:
        """Replace what is remembered by a changed copy, in one step. Raises `RegistryError`."""
        with self._opened() as table:
            changed = change(table.get(cluster, ClusterRun()))
            table[cluster] = changed
            if table[cluster] != changed:
                raise RegistryError(f"{self.path} does not hold what was just written to it.")
        return changed

    def forget(self, cluster: str) -> None:
        """Remember nothing of a cluster. Raises `RegistryError`."""
        if not self.path.exists():
            return
        with self._opened() as table:
            table.pop(cluster, None)

    def set_aside(self) -> None:
        """Move an unreadable registry out of the way, keeping it for whoever wants to look."""
        self.path.replace(self.path.with_suffix(".unreadable"))

    @contextmanager
    def _opened(self) -> Iterator[SqliteDict]:
        make_private_directory(self._home)
        with _exclusively(self.path.with_suffix(".lock")):
            try:
                _check_database(self.path)
                with SqliteDict(
                    str(self.path),
                    tablename=_TABLE,
                    autocommit=True,
                    encode=_encode,
                    decode=_decode,
                    outer_stack=False,
                ) as table:
                    yield table
            except (sqlite3.Error, OSError, *UNREADABLE) as error:
                raise RegistryError(
                    f"{self.path} cannot be used: {error}.",
                    hint="free some disk space, then try again."
                    if getattr(error, "sqlite_errorcode", 0) == sqlite3.SQLITE_FULL
                    else "kvctl doctor --fix rebuilds it from the clusters' directories.",
                ) from error


def _encode(run: ClusterRun) -> str:
    return msgspec.json.encode(run).decode()


def _decode(document: str) -> ClusterRun:
    return msgspec.json.decode(document, type=ClusterRun)


def _check_database(path: Path) -> None:
    """Raises `sqlite3.Error` if the file is no database; a missing one is made, mode 0600."""
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    connection = sqlite3.connect(path)
    try:
        connection.execute("PRAGMA schema_version").fetchone()
    finally:
        connection.close()


@contextmanager
def _exclusively(path: Path) -> Iterator[None]:
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
