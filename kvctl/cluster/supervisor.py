"""The front door of cluster management: each method is one command, done when it returns.

A command that changes a cluster takes the cluster's lock, loads its configuration and run state,
and hands them to the module that knows how (`creation`, `lifecycle`, `deferred`, ...). Observing
takes no lock. There is no state between two calls but what is on disk, so any number of
supervisors, in any number of processes, may be used on the same home.
"""

from __future__ import annotations

import errno
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import msgspec

from kvctl.cluster import deferred, lifecycle
from kvctl.cluster.creation import create_cluster, open_existing, start_fresh
from kvctl.cluster.directory import (
    ClusterDirectory,
    cluster_directories,
    cluster_directory,
    home_directory,
    make_private_directory,
)
from kvctl.cluster.doctor import Doctor
from kvctl.cluster.facts import (
    ClusterStatus,
    ClusterSummary,
    DownReport,
    Finding,
    QuorumChange,
    UpReport,
)
from kvctl.cluster.foreground import run_in_foreground
from kvctl.cluster.held_cluster import HeldCluster
from kvctl.cluster.lifecycle import GRACE_S
from kvctl.cluster.locking import hold_lock
from kvctl.cluster.network import Network
from kvctl.cluster.observe import locate, observe
from kvctl.cluster.options import UpOptions
from kvctl.cluster.processes import ProcessState, end_processes, find_deferred, find_nodes, state_of
from kvctl.cluster.quorum_change import change_quorum
from kvctl.cluster.run_state import ClusterRun, Registry, RegistryError
from kvctl.cluster.strays import clear_place, end_unclaimed, unclaimed_by_others
from kvctl.errors import CopiedClusterError, HomeError, NewerFormatError
from kvctl_node.config import ClusterConfig
from kvctl_node.errors import ConfigError, StoreError


def _tell_nobody(sentence: str) -> None:
    """The default for `notify`."""


@contextmanager
def _on_a_full_disk(*, go_on: bool) -> Iterator[None]:
    """What cannot be noted for want of room need not be, where it is deleted in a moment."""
    try:
        yield
    except RegistryError:
        if not go_on:
            raise
    except OSError as error:
        if not go_on or error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise


class Supervisor:
    """Creates, runs, signals and observes the clusters of one home directory.

    Wherever nodes are named, no name at all means every node, an unknown one raises `ConfigError`.
    Every method that needs an existing cluster raises `ClusterNotFoundError`; every one that
    changes it raises `LockedError` if another command keeps it locked.
    """

    def __init__(
        self,
        home: Path | None = None,
        *,
        notify: Callable[[str], None] = _tell_nobody,
        lock_wait_s: float = 30.0,
        command: str = "",
    ) -> None:
        """`home`: as `directory.home_directory()` if None. `notify` is told, in one sentence, whom
        a command waits for when the lock is held; it waits up to `lock_wait_s` seconds. Others that
        wait for this one are told `command` ("": the command line).
        """
        self.home = home_directory() if home is None else home.absolute()
        self._notify = notify
        self._lock_wait_s = lock_wait_s
        self._command = command
        self._rng = random.Random()

    # ------------------------------------------------------------------ whole clusters

    def up(
        self,
        name: str,
        options: UpOptions | None = None,
        *,
        wait: bool = True,
        timeout_s: float = 30.0,
    ) -> UpReport:
        """Make the cluster if there is none, start or resume what does not run, and wait until
        every node serves and sees every other (not with `wait=False`).

        Idempotent. Raises `ContradictionError` naming an option that contradicts the cluster,
        `ConfigError`, `PortTakenError`, `NodeStartError`, `WaitTimeoutError`.
        """
        began_s = time.monotonic()
        wanted = UpOptions() if options is None else options
        directory = cluster_directory(name, self.home)
        with self._created(directory, wanted) as (held, created, announcements):
            resumed = lifecycle.resume_nodes(held, ())
            if created:
                started = start_fresh(held, wanted, rng=self._rng, wait=wait, timeout_s=timeout_s)
            else:
                started = lifecycle.start_nodes(held, (), wait=wait, timeout_s=timeout_s)
            if wanted.ttl_s is not None:
                expiry = deferred.defer(held, deferred.DOWN, wanted.ttl_s)
                held.remember_cluster(msgspec.structs.replace(held.run, expiry=expiry))
            rebuilding = tuple(
                f"{node} is being rebuilt from its peers: {reason}."
                for node, reason in sorted(held.rebuilding.items())
            )
            return UpReport(
                name=name,
                created=created,
                started=tuple(one for one in held.names if one in started or one in resumed),
                announcements=announcements + rebuilding,
                config=held.config,
                seconds=time.monotonic() - began_s,
            )

    def run_in_foreground(
        self,
        name: str,
        options: UpOptions,
        *,
        ready: Callable[[UpReport], None],
        timeout_s: float = 30.0,
    ) -> None:
        """`up`, call `ready`, stay until interrupted, `down`; in the main thread only.

        Raises `KeyboardInterrupt` when interrupted, and what `up` raises; returns only when the
        cluster was stopped from elsewhere.
        """
        run_in_foreground(self, name, options, ready=ready, timeout_s=timeout_s)

    @contextmanager
    def _created(
        self, directory: ClusterDirectory, options: UpOptions
    ) -> Iterator[tuple[HeldCluster, bool, tuple[str, ...]]]:
        """Hold the cluster, made now if need be; yields it, whether it is new, and announcements.

        A cluster that could not be made leaves no directory behind.
        """
        make_private_directory(self.home)
        make_private_directory(directory.path.parent)
        directory.refuse_foreign()
        is_new = not directory.path.exists()
        make_private_directory(directory.path)
        with self._locked(directory.lock_path):
            ended = clear_place(directory, grace_s=GRACE_S)
            created = not directory.exists()
            announcements: tuple[str, ...] = ()
            if created:
                directory.check_format()
                _refuse_orphaned_data(directory)
                try:
                    config, announcements = create_cluster(
                        directory, options, home=self.home, rng=self._rng
                    )
                except StoreError:
                    if is_new:
                        directory.remove()
                    raise
                held = HeldCluster(directory, config, self.home)
                held.remember_cluster(
                    ClusterRun(
                        cluster_id=config.cluster_id,
                        created_ms=time.time_ns() // 1_000_000,
                        ephemeral=bool(options.ephemeral),
                    )
                )
            else:
                held, announcements = open_existing(
                    directory, options, home=self.home, rng=self._rng
                )
            yield held, created, ((ended,) if ended else ()) + announcements

    def down(self, name: str, *, purge: bool = False, grace_s: float = GRACE_S) -> DownReport:
        """Stop every process of the cluster, those kvctl had forgotten too. Idempotent.

        `purge`, and an ephemeral cluster, delete its directory with all data. SIGKILL ends a node
        that outlives `grace_s` seconds.
        """
        directory = cluster_directory(name, self.home)
        directory.refuse_foreign()
        if not directory.path.exists():
            left = end_unclaimed(directory, grace_s=grace_s)
            if left is not None:
                return left
        with self._locked(directory.lock_path):
            config = _load_if_usable(directory)
            stopped: tuple[str, ...] = ()
            killed: tuple[str, ...] = ()
            ephemeral = False
            if config is not None:
                held = HeldCluster(directory, config, self.home)
                ephemeral = held.run.ephemeral
                with _on_a_full_disk(go_on=purge or ephemeral):
                    stopped, killed = lifecycle.stop_nodes(held, (), grace_s=grace_s)
                    held.remember_cluster(msgspec.structs.replace(held.run, expiry=None))
            strays = unclaimed_by_others(directory)
            helpers = [one for one in find_deferred(directory.path) if one.pid != os.getpid()]
            stubborn = end_processes([node.identity for node in strays] + helpers, grace_s=grace_s)
            stopped += tuple(node.name for node in strays)
            killed += tuple(node.name for node in strays if node.identity in stubborn)
            if purge or ephemeral:
                directory.remove()
                Registry(self.home).forget(name)
        return DownReport(name=name, stopped=stopped, killed=killed, purged=purge or ephemeral)

    def list_clusters(self) -> list[ClusterSummary]:
        """Every cluster of this home, by name, unreadable ones with the reason."""
        found = find_nodes()
        remembered = Registry(self.home).read_all()
        summaries = []
        for directory in cluster_directories(self.home):
            if not directory.exists():
                continue
            run = remembered.get(directory.name, ClusterRun())
            names, problem = [], ""
            try:
                config = directory.load()
                names = [spec.name for spec in config.nodes]
                run = run.of(config.cluster_id)
            except CopiedClusterError as error:
                run, problem = ClusterRun(), error.message
            except StoreError as error:
                problem = error.message
            summaries.append(
                ClusterSummary(
                    name=directory.name,
                    nodes=len(names),
                    running=len(locate(directory, run, names, search=lambda: found)),
                    ephemeral=run.ephemeral,
                    expires_ms=run.expiry.due_ms if run.expiry else 0,
                    directory=str(directory.path),
                    problem=problem,
                )
            )
        return summaries

    def status(self, name: str, *, timeout_s: float = 1.0) -> ClusterStatus:
        """The facts about a cluster; a node that does not answer costs `timeout_s`, once."""
        directory = cluster_directory(name, self.home)
        config = directory.load()
        run = Registry(self.home).read(name).of(config.cluster_id)
        return observe(directory, config, run, timeout_s=timeout_s)

    def doctor(self, *, fix: bool = False) -> list[Finding]:
        """What is left over or damaged in this home; with `fix`, mended where that is safe."""
        return Doctor(self.home, lock_wait_s=self._lock_wait_s).examine(fix=fix)

    def set_quorum(
        self,
        name: str,
        *,
        n: int | None = None,
        r: int | None = None,
        w: int | None = None,
        mode: str | None = None,
    ) -> QuorumChange:
        """Change R, W or mode: in cluster.json, and live in every node that answers.

        Raises `ContradictionError` if N would change, which needs data moved; `ConfigError` if the
        numbers contradict each other.
        """
        with self._held(name) as held:
            return change_quorum(held, n=n, r=r, w=w, mode=mode)

    # ------------------------------------------------------------------ single nodes

    def start(
        self, name: str, nodes: Sequence[str] = (), *, wait: bool = True, timeout_s: float = 30.0
    ) -> tuple[str, ...]:
        """Start nodes; on return they serve and the running nodes see them. Returns those started.

        Raises `ContradictionError` for a paused node, `PortTakenError`, `NodeStartError`,
        `WaitTimeoutError`.
        """
        with self._held(name) as held:
            return lifecycle.start_nodes(held, nodes, wait=wait, timeout_s=timeout_s)

    def stop(
        self,
        name: str,
        nodes: Sequence[str] = (),
        *,
        for_s: float | None = None,
        grace_s: float = GRACE_S,
    ) -> tuple[str, ...]:
        """Stop nodes cleanly; they are gone on return. Returns those that ran.

        With `for_s` they are started again after so many seconds, by a detached process.
        """
        with self._held(name) as held:
            stopped, _ = lifecycle.stop_nodes(held, nodes, grace_s=grace_s)
            _defer(held, stopped, deferred.START, for_s)
            return stopped

    def restart(
        self,
        name: str,
        nodes: Sequence[str] = (),
        *,
        wait: bool = True,
        timeout_s: float = 30.0,
        grace_s: float = GRACE_S,
    ) -> tuple[str, ...]:
        """Stop nodes cleanly and start them; on return they serve. Returns all of them."""
        with self._held(name) as held:
            lifecycle.stop_nodes(held, nodes, grace_s=grace_s)
            return lifecycle.start_nodes(held, nodes, wait=wait, timeout_s=timeout_s)

    def kill(
        self, name: str, nodes: Sequence[str] = (), *, for_s: float | None = None
    ) -> tuple[str, ...]:
        """SIGKILL nodes; they are gone on return, and `dead`. Returns those that ran.

        With `for_s` they are started again after so many seconds, by a detached process.
        """
        with self._held(name) as held:
            killed = lifecycle.kill_nodes(held, nodes)
            _defer(held, killed, deferred.START, for_s)
            return killed

    def pause(
        self, name: str, nodes: Sequence[str] = (), *, for_s: float | None = None
    ) -> tuple[str, ...]:
        """SIGSTOP nodes; they stand still on return. Returns those that did not before.

        With `for_s` they are resumed after so many seconds, by a detached process. Raises
        `ContradictionError` if a named node does not run.
        """
        with self._held(name) as held:
            paused = lifecycle.pause_nodes(held, nodes)
            _defer(held, paused, deferred.RESUME, for_s)
            return paused

    def resume(self, name: str, nodes: Sequence[str] = ()) -> tuple[str, ...]:
        """SIGCONT nodes; they run on return. Returns those that were paused.

        Raises `ContradictionError` if a named node does not run.
        """
        with self._held(name) as held:
            return lifecycle.resume_nodes(held, nodes)

    def wipe(
        self,
        name: str,
        nodes: Sequence[str] = (),
        *,
        wait: bool = True,
        timeout_s: float = 30.0,
        grace_s: float = GRACE_S,
    ) -> tuple[str, ...]:
        """Delete the nodes' data, as a lost disk would; nodes that ran serve again, empty."""
        with self._held(name) as held:
            return lifecycle.wipe_nodes(
                held, nodes, wait=wait, timeout_s=timeout_s, grace_s=grace_s
            )

    # ------------------------------------------------------------------ the network

    def network(self, name: str) -> Network:
        """The links between the nodes of a cluster, to break and heal them."""
        return Network(cluster_directory(name, self.home), self._locked, self.home)

    # ------------------------------------------------------------------ later

    def run_deferred(self, name: str, action_id: str) -> None:
        """Do what was deferred under this id, if it is still meant; else nothing."""
        with self._held(name) as held:
            expired = held.run.expiry is not None and held.run.expiry.id == action_id
            due = [
                (node, known.deferred.action)
                for node, known in held.run.nodes.items()
                if known.deferred is not None and known.deferred.id == action_id
            ]
            to_start = [node for node, action in due if action == deferred.START]
            running = held.processes()
            to_resume = [n for n, action in due if action == deferred.RESUME and n in running]
            if to_start and not expired:
                lifecycle.start_nodes(held, to_start, wait=False, timeout_s=0.0)
            if to_resume and not expired:
                lifecycle.resume_nodes(held, to_resume)
        if expired:
            self.down(name)

    def _locked(self, path: Path) -> AbstractContextManager[None]:
        return hold_lock(
            path,
            wait_s=self._lock_wait_s,
            command=self._command,
            notify=self._notify,
        )

    @contextmanager
    def _held(self, name: str) -> Iterator[HeldCluster]:
        """The existing cluster of that name, locked."""
        directory = cluster_directory(name, self.home)
        directory.load()  # before the lock, so that a missing cluster leaves no lock file behind
        with self._locked(directory.lock_path):
            yield HeldCluster(directory, directory.load(), self.home)

    def running_pids(self, name: str) -> dict[str, int]:
        """Node name → pid of those that have a process, paused ones included."""
        directory = cluster_directory(name, self.home)
        config = directory.load()
        run = Registry(self.home).read(name).of(config.cluster_id)
        found = locate(directory, run, [spec.name for spec in config.nodes])
        return {
            node: identity.pid
            for node, identity in found.items()
            if state_of(identity) is not ProcessState.GONE
        }


def _defer(held: HeldCluster, names: Sequence[str], action: str, for_s: float | None) -> None:
    if for_s is not None and names:
        deferred.defer_for_nodes(held, names, action, for_s)


def _refuse_orphaned_data(directory: ClusterDirectory) -> None:
    """Raises `HomeError` if there is data without the configuration it was written under.

    A new configuration would have another ring, and nodes that look for keys where they are not.
    """
    databases = directory.databases()
    if databases:
        raise HomeError(
            f"{directory.path} holds data of {len(databases)} nodes, and its cluster.json is gone.",
            hint="restore cluster.json, or choose another name with -c; kvctl down --purge deletes "
            "the data.",
        )


def _load_if_usable(directory: ClusterDirectory) -> ClusterConfig | None:
    """The configuration, None if it is damaged or a copy's: processes are ended without it.

    A cluster of a newer format is still refused, since its processes may be another matter.
    """
    try:
        return directory.load()
    except NewerFormatError:
        raise
    except (ConfigError, CopiedClusterError):
        return None
