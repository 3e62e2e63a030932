"""Finding what is left over, damaged or exposed in a home directory, and mending what is safe.

Crashes, reboots, full disks and people leave things behind: a registry that names processes long
gone, a process whose cluster was deleted, a directory that never became a cluster. Nothing of that
loses data, and most commands cope; the doctor says it plainly and, with `fix`, tidies up.

Two rules. Data is never deleted: what holds a node's database is reported and left to a person. And
each cluster is examined under its lock, so that a cluster in the middle of being made, stopped or
wiped is not taken for a broken one.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from kvctl.cluster.diagnosis import Diagnosis, diagnosis, settle
from kvctl.cluster.directory import REMOVED_MARK, ClusterDirectory, cluster_directories
from kvctl.cluster.disk_identity import read_disk_identity
from kvctl.cluster.exposure import (
    foreign_diagnosis,
    permission_diagnoses,
    shared_home_diagnoses,
)
from kvctl.cluster.facts import Finding
from kvctl.cluster.held_cluster import HeldCluster
from kvctl.cluster.lifecycle import GRACE_S, resume_nodes, stop_nodes
from kvctl.cluster.locking import LockHolder, hold_lock, is_held, read_holder
from kvctl.cluster.ports import check_ports
from kvctl.cluster.processes import FoundNode, end_processes, find_nodes
from kvctl.cluster.run_state import RUNNING, ClusterRun, NodeRun, Registry, RegistryError
from kvctl.cluster.spawn import read_exit_note
from kvctl.cluster.strays import is_stray
from kvctl.errors import (
    CopiedClusterError,
    HomeError,
    LockedError,
    NewerFormatError,
    PortTakenError,
)
from kvctl_node.config import ClusterConfig
from kvctl_node.errors import ConfigError
from kvctl_node.runtime.security import CLIENT_KEY_NAME, create_keys, key_path

_OVERDUE_MS = 60_000
"""A deferred action may wait for a lock; past this, whoever should have done it is gone."""


class Doctor:
    """Examines one home directory."""

    def __init__(self, home: Path, *, lock_wait_s: float) -> None:
        """`lock_wait_s`: how long to wait for a cluster that another command is changing."""
        self._home = home
        self._lock_wait_s = lock_wait_s
        self._registry = Registry(home)

    def examine(self, *, fix: bool) -> list[Finding]:
        """Everything found, in a stable order; with `fix`, what could be mended is `fixed`."""
        found = find_nodes()
        if not self._home.exists():
            return settle(self._orphan_diagnoses(found), fix)
        findings = settle(self._home_diagnoses(), fix)
        for directory in cluster_directories(self._home):
            findings += self._examine_cluster(directory, found, fix)
        findings += settle(self._orphan_diagnoses(found), fix)
        return findings

    # ------------------------------------------------------------------ the home

    def _home_diagnoses(self) -> Iterator[Diagnosis]:
        yield from shared_home_diagnoses(self._home)
        for path in sorted((self._home / "clusters").glob(f".*{REMOVED_MARK}*")):
            yield diagnosis(
                "leftover",
                str(path),
                f"{path} is left of an interrupted down --purge.",
                "delete it.",
                lambda path=path: shutil.rmtree(path),  # type: ignore[misc]
            )
        try:
            remembered = self._registry.read_all()
        except RegistryError as error:
            yield diagnosis(
                "unreadable_registry",
                str(self._registry.path),
                error.message,
                "set the file aside and rebuild it from the clusters' directories.",
                self._registry.set_aside,
            )
            return
        for name in remembered:
            if not (self._home / "clusters" / name).exists():
                yield diagnosis(
                    "stale_registry",
                    name,
                    f"the registry remembers a cluster {name}, which has no directory.",
                    "forget it.",
                    lambda name=name: self._registry.forget(name),  # type: ignore[misc]
                )

    def _orphan_diagnoses(self, found: list[FoundNode]) -> Iterator[Diagnosis]:
        """Node processes whose cluster is gone; elsewhere than in this home, only mentioned."""
        for node in found:
            if not is_stray(node):
                continue
            pid = node.identity.pid
            ours = node.directory.parent.parent.resolve() == self._home.resolve()
            message = f"process {pid} is {node.name} of a cluster that is gone: {node.directory}."
            yield diagnosis(
                "orphan_process",
                str(pid),
                message,
                "end it." if ours else f"it belongs to another home; kill {pid} ends it.",
                (lambda node=node: end_processes([node.identity], grace_s=GRACE_S))  # type: ignore[misc]
                if ours
                else None,
            )

    # ------------------------------------------------------------------ one cluster

    def _examine_cluster(
        self, directory: ClusterDirectory, found: list[FoundNode], fix: bool
    ) -> list[Finding]:
        if not directory.exists() and directory.foreign_entries():
            return settle(iter([foreign_diagnosis(directory)]), fix)  # not even a lock is put there
        interrupted = None if is_held(directory.lock_path) else read_holder(directory.lock_path)
        try:
            with hold_lock(directory.lock_path, wait_s=self._lock_wait_s):
                diagnoses = self._cluster_diagnoses(directory, found, interrupted)
                return settle(diagnoses, fix)
        except LockedError as error:
            advice = "look again when that command is done."
            return settle(iter([diagnosis("busy", directory.name, error.message, advice)]), fix)

    def _cluster_diagnoses(
        self,
        directory: ClusterDirectory,
        found: list[FoundNode],
        interrupted: LockHolder | None,
    ) -> Iterator[Diagnosis]:
        name = directory.name
        private = [directory.path, directory.keys, directory.config_path]
        private += sorted(directory.keys.glob("*.key"))
        yield from permission_diagnoses(name, private)
        yield from _leftover_diagnoses(directory)
        if interrupted is not None:
            yield diagnosis(
                "interrupted_command",
                name,
                f"{interrupted} died while it changed the cluster {name}.",
                f"nothing is locked by it any more; kvctl -c {name} status shows what it left.",
                lambda: None,  # holding the lock for this examination has cleared the note
            )
        if not directory.exists():
            yield _half_created(directory)
            return
        config = None
        try:
            config = directory.load()
        except (NewerFormatError, CopiedClusterError) as error:
            yield diagnosis(error.kind, name, error.message, error.hint)
        except HomeError as error:
            yield diagnosis(
                "damaged_format", name, error.message, error.hint, directory.mend_format
            )
        except ConfigError as error:
            advice = (
                f"its data is still there: mend the file by hand. kvctl -c {name} down --purge "
                "deletes both."
            )
            yield diagnosis("unreadable_config", name, error.message, advice)
        if config is not None:
            yield from _key_diagnoses(directory, config)
            try:
                held = HeldCluster(directory, config, self._home)
            except RegistryError:
                return  # found already; without `fix` it is still unreadable
            yield from _registry_diagnoses(held, self._registry.read(name))
            yield from _ended_diagnoses(held)
            yield from _process_diagnoses(held, found)
            yield from _overdue_diagnoses(held, found)
            yield from _port_diagnoses(held, config)


def _leftover_diagnoses(directory: ClusterDirectory) -> Iterator[Diagnosis]:
    """What an interrupted wipe or an interrupted write of a file left behind."""
    for path in sorted((directory.path / "nodes").glob(".*.wiped-*")):
        yield diagnosis(
            "leftover",
            directory.name,
            f"{path} is left of an interrupted wipe.",
            "delete it.",
            lambda path=path: shutil.rmtree(path),  # type: ignore[misc]
        )
    for path in sorted(
        [*directory.path.glob(".cluster.json.*"), *directory.path.glob(".format.*")]
    ):
        yield diagnosis(
            "leftover",
            directory.name,
            f"{path} is left of an interrupted write.",
            "delete it.",
            path.unlink,
        )


def _half_created(directory: ClusterDirectory) -> Diagnosis:
    databases = directory.databases()
    if databases:
        return diagnosis(
            "missing_config",
            directory.name,
            f"{directory.path} holds data of {len(databases)} nodes and no cluster.json.",
            "restore cluster.json, or delete the directory by hand; data is not deleted here.",
        )
    return diagnosis(
        "half_created",
        directory.name,
        f"{directory.path} was begun and never became a cluster.",
        f"delete it; kvctl -c {directory.name} up would complete it instead.",
        directory.remove,
    )


def _key_diagnoses(directory: ClusterDirectory, config: ClusterConfig) -> Iterator[Diagnosis]:
    """Keys that are gone. New ones are as good, once every node has read them."""
    names = [spec.name for spec in config.nodes]
    for name in [*names, CLIENT_KEY_NAME]:
        path = key_path(directory.keys, name)
        if path.exists():
            continue
        advice = "make a new one."
        if name != CLIENT_KEY_NAME:
            restart = f"kvctl -c {directory.name} restart --all"
            advice = f"make a new one; {restart} then lets the nodes use it."
        yield diagnosis(
            "missing_key",
            directory.name,
            f"the key {path} is gone.",
            advice,
            lambda: create_keys(directory.keys, names),
        )


def _registry_diagnoses(held: HeldCluster, remembered: ClusterRun) -> Iterator[Diagnosis]:
    if remembered.cluster_id != held.config.cluster_id:
        yield diagnosis(
            "missing_registry",
            held.config.name,
            f"the registry does not know the cluster {held.config.name}.",
            "rebuild it from the nodes' directories and processes.",
            lambda: _rebuild(held),
        )


def _rebuild(held: HeldCluster) -> None:
    """Note what processes and disks show. A node without a process counts as stopped."""
    processes = held.processes()
    nodes = {}
    for name in held.names:
        running = processes.get(name)
        # The database of a running node is its own; it is asked instead.
        disk = None if running else read_disk_identity(held.directory.node(name))
        nodes[name] = NodeRun(
            wanted=RUNNING if running else NodeRun().wanted,
            generation=disk.generation if disk else 0,
            actor_epoch=disk.actor_epoch if disk else 0,
            **(running._asdict() if running else {}),
        )
    held.remember_cluster(ClusterRun(cluster_id=held.config.cluster_id, nodes=nodes))
    held.remember_snapshots(held.ask_running())


def _ended_diagnoses(held: HeldCluster) -> Iterator[Diagnosis]:
    """Nodes that should run and ended by themselves: why, and what a person can do about it."""
    processes = held.processes()
    for name in held.names:
        known = held.run.node(name)
        note = read_exit_note(held.directory, name, known.nonce)
        if note is not None and known.wanted == RUNNING and name not in processes:
            yield diagnosis("ended_by_itself", name, note.message, note.hint)


def _process_diagnoses(held: HeldCluster, found: list[FoundNode]) -> Iterator[Diagnosis]:
    processes = held.processes()
    for name in held.names:
        known = held.run.node(name)
        actual = processes.get(name)
        if actual is None and known.pid:
            verb = "should run and does not" if known.wanted == RUNNING else "is stopped"
            up = f"kvctl -c {held.config.name} up"
            advice = f"forget the process; {up} starts the node again."
            yield diagnosis(
                "stale_process",
                name,
                f"process {known.pid}, remembered for {name}, is gone; {name} {verb}.",
                advice,
                lambda name=name, known=known: held.remember(  # type: ignore[misc]
                    {name: msgspec.structs.replace(known, pid=0, started_s=0.0, nonce="")}
                ),
            )
        elif actual is not None and actual != known.identity:
            yield diagnosis(
                "unknown_process",
                name,
                f"{name} runs as process {actual.pid}, which the registry does not know.",
                "remember it.",
                lambda name=name, known=known, actual=actual: held.remember(  # type: ignore[misc]
                    {name: msgspec.structs.replace(known, wanted=RUNNING, **actual._asdict())}
                ),
            )
    for node in found:
        is_ours = node.directory == held.directory.path and not is_stray(node)
        if is_ours and node.name not in held.names:
            yield diagnosis(
                "orphan_process",
                str(node.identity.pid),
                f"process {node.identity.pid} is {node.name}, which is no node of the cluster "
                f"{held.config.name}.",
                "end it.",
                lambda node=node: end_processes([node.identity], grace_s=GRACE_S),  # type: ignore[misc]
            )


def _overdue_diagnoses(held: HeldCluster, found: list[FoundNode]) -> Iterator[Diagnosis]:
    late_ms = time.time_ns() // 1_000_000 - _OVERDUE_MS
    expiry = held.run.expiry
    if expiry is not None and expiry.due_ms < late_ms and held.processes():
        yield diagnosis(
            "overdue",
            held.config.name,
            f"the cluster {held.config.name} was to stop itself and still runs.",
            "stop it.",
            lambda: stop_nodes(held, (), grace_s=GRACE_S),
        )
    for name, known in held.run.nodes.items():
        if known.deferred is None or known.deferred.due_ms >= late_ms:
            continue
        if known.deferred.action == "resume":
            yield diagnosis(
                "overdue",
                name,
                f"{name} was to be resumed and is still paused.",
                "resume it.",
                lambda name=name: resume_nodes(held, [name]),  # type: ignore[misc]
            )
        else:
            advice = f"kvctl -c {held.config.name} start {name}"
            yield diagnosis("overdue", name, f"{name} was to be started and was not.", advice)


def _port_diagnoses(held: HeldCluster, config: ClusterConfig) -> Iterator[Diagnosis]:
    """Ports of nodes that are down and that something else took."""
    processes = held.processes()
    for spec in config.nodes:
        if spec.name in processes:
            continue
        try:
            check_ports([spec])
        except PortTakenError as error:
            yield diagnosis("port_taken", spec.name, error.message, error.hint)
