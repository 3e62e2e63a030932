"""A cluster while a command holds its lock: what every command that changes it works with.

The caller holds the lock for as long as it uses a `HeldCluster`, so configuration and run state
change only through it. Every change of the run state is written before the next step, so that a
command that dies half-way leaves a registry that is right about what was done so far.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from kvctl.cluster.admin import AdminConnections
from kvctl.cluster.directory import ClusterDirectory
from kvctl.cluster.observe import locate
from kvctl.cluster.processes import ProcessIdentity, ProcessState, state_of
from kvctl.cluster.readiness import Snapshots
from kvctl.cluster.run_state import ClusterRun, NodeRun, Registry
from kvctl_node.config import ClusterConfig
from kvctl_node.errors import ConfigError, OpenFilesError

_ASK_S = 0.5


class HeldCluster:
    """One cluster, exclusively."""

    def __init__(self, directory: ClusterDirectory, config: ClusterConfig, home: Path) -> None:
        self.directory = directory
        self.config = config
        self.home = home
        self._registry = Registry(home)
        self.run = self._registry.read(directory.name).of(config.cluster_id)
        self.rebuilding: dict[str, str] = {}
        """Node → why it was being rebuilt when it was last asked."""

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all nodes."""
        return tuple(spec.name for spec in self.config.nodes)

    def chosen(self, wanted: Sequence[str]) -> tuple[str, ...]:
        """The named nodes, without repetition; all if none is named. Raises `ConfigError`."""
        for name in wanted:
            self.config.node(name)
        return tuple(dict.fromkeys(wanted)) or self.names

    def processes(self, names: Iterable[str] | None = None) -> dict[str, ProcessIdentity]:
        """The living processes of the named nodes (default: all)."""
        return locate(self.directory, self.run, self.names if names is None else names)

    def remember(self, changed: Mapping[str, NodeRun]) -> None:
        """Replace what is remembered of some nodes, durably."""
        self.remember_cluster(self.run.with_nodes(changed))

    def remember_cluster(self, run: ClusterRun) -> None:
        """Replace all that is remembered of the cluster, durably, but for its faults.

        Those have a lock of their own, so that `heal` need not wait for a command that is waiting
        for nodes which cannot see each other.
        """

        def keep_faults(known: ClusterRun) -> ClusterRun:
            if known.cluster_id != run.cluster_id:
                return run
            return msgspec.structs.replace(run, faults=known.faults, faults_made=known.faults_made)

        self.run = self._registry.update(self.directory.name, keep_faults)

    def remember_wanted(self, names: Iterable[str], wanted: str) -> None:
        """Note what was asked for, and that what was deferred for these nodes is off."""
        self.remember(
            {
                name: msgspec.structs.replace(self.run.node(name), wanted=wanted, deferred=None)
                for name in names
            }
        )

    def remember_gone(self, names: Iterable[str]) -> None:
        """Note that nodes have no process, and are not to be looked for."""
        self.remember(
            {
                name: msgspec.structs.replace(self.run.node(name), pid=0, started_s=0.0, nonce="")
                for name in names
            }
        )

    def remember_snapshots(self, snapshots: Snapshots) -> None:
        """Note the generations and actor epochs that nodes reported, if they are higher."""
        self.rebuilding = {
            name: str(one["rebuilding"]) for name, one in snapshots.items() if one.get("rebuilding")
        }
        changed = {}
        for name, snapshot in snapshots.items():
            known = self.run.node(name)
            changed[name] = msgspec.structs.replace(
                known,
                generation=max(known.generation, int(snapshot.get("generation", 0))),
                actor_epoch=max(known.actor_epoch, int(snapshot.get("actor_epoch", 0))),
            )
        self.remember(changed)

    def forget(self) -> None:
        """Remember nothing of this cluster any more."""
        self._registry.forget(self.directory.name)

    def ask_running(self, names: Iterable[str] | None = None) -> Snapshots:
        """The snapshots of those of the named nodes that run and answer; none without a key."""
        running = [
            name
            for name, identity in self.processes(names).items()
            if state_of(identity) is ProcessState.RUNNING
        ]
        if not running:
            return {}
        specs = [self.config.node(name) for name in running]
        try:
            with AdminConnections(specs, self.directory.keys) as connections:
                return connections.ask_status(running, timeout_s=_ASK_S)
        except (ConfigError, OpenFilesError):
            return {}  # nodes are stopped and killed by signals, for which nothing is needed
