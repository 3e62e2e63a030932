"""Starting, stopping, killing, pausing and wiping nodes; each returns when it is done.

    start    the node serves again, and the running nodes and it see each other
    stop     SIGTERM: it finished its turn, committed and is gone; SIGKILL after the grace
    kill     SIGKILL: it is gone, as in a crash, and counts as dead until it is started
    pause    SIGSTOP: it stands still with its sockets open, as a stalled machine does
    resume   SIGCONT: it runs again
    wipe     stopped, its data deleted, started again if it ran or should have run

All functions take a `HeldCluster`, that is, their caller holds the cluster's lock.

A wiped node begins a new storage incarnation under its old name. If it then minted dots its former
self had minted, a dot would name two values and an acknowledged write would vanish; so before its
disk is deleted, the highest actor epoch it ever used is remembered, and handed to it at the start.
"""

from __future__ import annotations

import secrets
import shutil
import signal
from collections.abc import Sequence

import msgspec

from kvctl.cluster.disk_identity import read_disk_identity
from kvctl.cluster.held_cluster import HeldCluster
from kvctl.cluster.ports import check_ports
from kvctl.cluster.processes import (
    ProcessIdentity,
    ProcessState,
    end_processes,
    kill_processes,
    send_signal,
    state_of,
    wait_state,
)
from kvctl.cluster.readiness import wait_until_ready
from kvctl.cluster.run_state import RUNNING, STOPPED
from kvctl.cluster.spawn import spawn_node
from kvctl.cluster.strays import end_displaced
from kvctl.errors import ContradictionError, HomeError, KvctlError, NodeStartError
from kvctl_node.config import ClusterConfig
from kvctl_node.runtime.open_files import check_hard_limit, node_files

LOST_EPOCHS = 1 << 20
"""Added to the last known actor epoch when a disk to be wiped cannot be read: more epochs than a
node begins between two looks at it."""
GRACE_S = 10.0
"""How long a node may take to finish its turn and commit after SIGTERM."""
_SIGNAL_S = 10.0
_KEPT_BY_WIPE = ("node.log", "events.jsonl", "stderr.log", "faults.json")
"""Prefixes of what is a record of the node's past, or of the network's state, not its data."""


def start_nodes(
    held: HeldCluster, wanted: Sequence[str], *, wait: bool, timeout_s: float
) -> tuple[str, ...]:
    """Start those of the nodes that have no process, and wait until all of `wanted` are ready.

    A paused node has a process and is left alone: `resume` is for that. Returns the nodes started.
    Raises `PortTakenError`, `NodeStartError`, `WaitTimeoutError`.
    """
    names = held.chosen(wanted)
    end_displaced(held, names, grace_s=GRACE_S)
    started: list[str] = []
    while True:
        processes = held.processes()
        started += _start_missing(held, names, processes)
        if not wait:
            return tuple(started)
        try:
            snapshots = wait_until_ready(
                held.directory, held.config, processes, names, timeout_s=timeout_s
            )
        except NodeStartError:
            # One that was killed a moment ago may still have seemed to run: it is started as well.
            gone = {name for name in names if state_of(processes[name]) is ProcessState.GONE}
            if not gone or not gone.isdisjoint(started):
                raise
        else:
            held.remember_snapshots(snapshots)
            return tuple(started)


def _start_missing(
    held: HeldCluster, names: Sequence[str], processes: dict[str, ProcessIdentity]
) -> list[str]:
    """Start those of the nodes that are not among `processes`, and add them; returns them."""
    down = [name for name in names if name not in processes]
    _refuse_paused(names, processes)
    if down:
        check_hard_limit(node_files(held.config).total, each_node_of(held.config))
    check_ports([held.config.node(name) for name in down])
    held.remember_wanted(names, RUNNING)
    for name in down:
        known = held.run.node(name)
        processes[name] = spawn_node(
            held.directory,
            name,
            cluster_id=held.config.cluster_id,
            known_generation=known.generation,
            known_actor_epoch=known.actor_epoch,
        )
    _remember_processes(held, processes)
    return down


def each_node_of(config: ClusterConfig) -> str:
    """Who needs something that all nodes need alike, for a sentence."""
    count = len(config.nodes)
    return config.nodes[0].name if count == 1 else f"each of the {count} nodes"


def _refuse_paused(names: Sequence[str], processes: dict[str, ProcessIdentity]) -> None:
    paused = [name for name in names if state_of(processes.get(name)) is ProcessState.PAUSED]
    if paused:
        raise ContradictionError(
            f"{', '.join(paused)} cannot be started: paused, not stopped.",
            hint=f"kvctl resume {' '.join(paused)}",
        )


def _remember_processes(held: HeldCluster, processes: dict[str, ProcessIdentity]) -> None:
    """Note which process each node is, those found by searching included."""
    held.remember(
        {
            name: msgspec.structs.replace(held.run.node(name), **identity._asdict())
            for name, identity in processes.items()
        }
    )


def stop_nodes(
    held: HeldCluster, wanted: Sequence[str], *, grace_s: float
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Stop the nodes cleanly. Returns (those that ran, those of them that had to be killed)."""
    names = held.chosen(wanted)
    held.remember_snapshots(held.ask_running(names))
    held.remember_wanted(names, STOPPED)
    processes = held.processes(names)
    stubborn = end_processes(list(processes.values()), grace_s=grace_s)
    held.remember_gone(names)
    killed = tuple(name for name, identity in processes.items() if identity in stubborn)
    return tuple(processes), killed


def kill_nodes(held: HeldCluster, wanted: Sequence[str]) -> tuple[str, ...]:
    """SIGKILL the nodes; they are gone on return. Returns those that had a process.

    They still count as wanted, hence as dead: a crash is what this is for.
    """
    names = held.chosen(wanted)
    processes = held.processes(names)
    held.remember_wanted(processes, RUNNING)
    kill_processes(list(processes.values()))
    return tuple(processes)


def pause_nodes(held: HeldCluster, wanted: Sequence[str]) -> tuple[str, ...]:
    """SIGSTOP the nodes; they stand still on return. Raises `ContradictionError` if one is down."""
    return _stop_or_continue(held, wanted, signal.SIGSTOP, ProcessState.PAUSED, "pause")


def resume_nodes(held: HeldCluster, wanted: Sequence[str]) -> tuple[str, ...]:
    """SIGCONT the nodes; they run on return. Raises `ContradictionError` if one is down."""
    return _stop_or_continue(held, wanted, signal.SIGCONT, ProcessState.RUNNING, "resume")


def _stop_or_continue(
    held: HeldCluster,
    wanted: Sequence[str],
    number: signal.Signals,
    state: ProcessState,
    verb: str,
) -> tuple[str, ...]:
    """Signal all, wait for all. Returns those whose state changed; without names, of all nodes
    those that have a process.
    """
    processes = held.processes(held.chosen(wanted))
    missing = [name for name in wanted if name not in processes]
    if missing:
        raise ContradictionError(
            f"cannot {verb} {', '.join(missing)}: not running.",
            hint=f"kvctl start {' '.join(missing)}",
        )
    changed = {name: one for name, one in processes.items() if state_of(one) is not state}
    held.remember_wanted(processes, RUNNING)
    for identity in changed.values():
        send_signal(identity, number)
    for name, identity in changed.items():
        if not wait_state(identity, state, timeout_s=_SIGNAL_S):
            raise KvctlError(f"{name} (process {identity.pid}) did not {verb}.")
    return tuple(changed)


def wipe_nodes(
    held: HeldCluster, wanted: Sequence[str], *, wait: bool, timeout_s: float, grace_s: float
) -> tuple[str, ...]:
    """Delete the nodes' data; those that ran, or were dead, run again, empty, on return.

    A dead node is included because a disk too damaged to start from is what a wipe mends. Returns
    all wiped.
    """
    names = held.chosen(wanted)
    should_run = [name for name in names if held.run.node(name).wanted == RUNNING]
    ran, _ = stop_nodes(held, names, grace_s=grace_s)
    for name in names:
        _remember_past(held, name)
        _delete_data(held, name)
    again = [name for name in names if name in ran or name in should_run]
    if again:
        start_nodes(held, again, wait=wait, timeout_s=timeout_s)
    return names


def _remember_past(held: HeldCluster, name: str) -> None:
    """Note the highest generation and actor epoch a stopped node ever used, before it forgets."""
    known = held.run.node(name)
    disk = read_disk_identity(held.directory.node(name))
    if disk is None:
        past = (known.generation, known.actor_epoch + LOST_EPOCHS)
    else:
        past = (max(known.generation, disk.generation), max(known.actor_epoch, disk.actor_epoch))
    held.remember({name: msgspec.structs.replace(known, generation=past[0], actor_epoch=past[1])})


def _delete_data(held: HeldCluster, name: str) -> None:
    """Empty a stopped node's directory but for its logs: all or nothing, by one rename.

    A half-emptied directory would look like a damaged disk rather than a new one.
    """
    path = held.directory.node(name)
    if not path.exists():
        return
    discarded = path.with_name(f".{name}.wiped-{secrets.token_hex(4)}")
    try:
        path.rename(discarded)
        path.mkdir(mode=0o700)
        for entry in discarded.iterdir():
            if entry.name.startswith(_KEPT_BY_WIPE):
                entry.rename(path / entry.name)
        shutil.rmtree(discarded)
    except OSError as error:
        raise HomeError(f"cannot wipe {path}: {error.strerror}.") from error
