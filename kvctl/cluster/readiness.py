"""Waiting until a started node really serves: it answers, it is the right process, it is seen.

"Started" is not "ready". A node is ready when it answers with the nonce it was started with and
every other running node of the cluster has a link to it, and it to them, unless an injected fault
cuts that link; only then does a quorum behave as the configuration says. Nodes whose disks were put
back do not count in reads before they were compared with each other, so that is waited for as well.
While waiting, a process that ends is noticed at once and its own last words become the error.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from kvctl.cluster.admin import AdminConnections
from kvctl.cluster.directory import ClusterDirectory
from kvctl.cluster.processes import ProcessIdentity, ProcessState, state_of
from kvctl.cluster.spawn import last_words, read_exit_note
from kvctl.errors import NodeStartError, PortTakenError, WaitTimeoutError
from kvctl_node.config import ClusterConfig

Snapshots = dict[str, dict[str, Any]]

_ASK_S = 0.25
"""How long one round waits for answers; a starting node is asked again in the next."""
_PAUSE_S = 0.02
PORT_TAKEN_EXIT = 75
"""The exit code of a node that could not bind."""


def wait_until_ready(
    directory: ClusterDirectory,
    config: ClusterConfig,
    processes: Mapping[str, ProcessIdentity],
    awaited: Iterable[str],
    *,
    timeout_s: float,
) -> Snapshots:
    """Wait until every awaited node serves, and it and the other running nodes see each other.

    Also until so few are being rebuilt that every read can have its quorum.

    `processes` are all nodes that run (awaited ones among them). Nodes that run but are paused or
    do not answer at all, and are not awaited, are not waited for. Returns the last snapshots.
    Raises `NodeStartError` if an awaited process ends, `WaitTimeoutError` saying what is missing.
    """
    wanted = list(awaited)
    deadline_s = time.monotonic() + timeout_s
    specs = [config.node(name) for name in processes]
    with AdminConnections(specs, directory.keys) as connections:
        while True:
            running = _running(directory, processes, wanted)
            round_s = min(_ASK_S, max(0.01, deadline_s - time.monotonic()))
            snapshots = connections.ask_status(running, timeout_s=round_s)
            missing = missing_for_readiness(wanted, processes, snapshots)
            missing = missing or missing_for_reads(config, snapshots)
            if not missing:
                return snapshots
            if time.monotonic() >= deadline_s:
                raise WaitTimeoutError(
                    f"the cluster {config.name} was not ready within {timeout_s:g} s: {missing}.",
                    hint="kvctl status and kvctl logs say more; a fault may still be active: "
                    "kvctl faults.",
                )
            time.sleep(_PAUSE_S)


def _running(
    directory: ClusterDirectory, processes: Mapping[str, ProcessIdentity], awaited: Iterable[str]
) -> list[str]:
    """The nodes worth asking. Raises `NodeStartError` if an awaited one is gone."""
    states = {name: state_of(identity) for name, identity in processes.items()}
    for name in awaited:
        if states[name] is ProcessState.GONE:
            raise start_failure(directory, name, processes[name].nonce)
    return [name for name, state in states.items() if state is ProcessState.RUNNING]


def start_failure(directory: ClusterDirectory, name: str, nonce: str = "") -> NodeStartError:
    """The error for a node that ended although it should run, in the node's own words."""
    note = read_exit_note(directory, name, nonce)
    words, hint = last_words(directory, name, nonce)
    reason = words.rstrip(".") or "it left no message"
    kind = PortTakenError if note is not None and note.code == PORT_TAKEN_EXIT else NodeStartError
    return kind(
        f"{name} ended while starting: {reason}.",
        hint=hint or f"its log is in {directory.node(name)}.",
    )


def missing_for_readiness(
    awaited: Iterable[str], processes: Mapping[str, ProcessIdentity], snapshots: Snapshots
) -> str:
    """What is missing, in words ("" if nothing is): `n2 does not answer`, `n1 does not see n3`."""
    wanted = list(awaited)
    for name in wanted:
        snapshot = snapshots.get(name)
        if snapshot is None:
            return f"{name} does not answer"
        if snapshot.get("nonce") != processes[name].nonce:
            return f"another process than the one started answers for {name}"
    for one in snapshots:
        for other in snapshots:
            if one == other or (one not in wanted and other not in wanted):
                continue
            if not sees(snapshots[one], other) and not _is_cut(snapshots, one, other):
                return f"{one} does not see {other}"
    return ""


def missing_for_reads(config: ClusterConfig, snapshots: Snapshots) -> str:
    """Which nodes are being rebuilt, if so many that reads have to wait for them ("" if not).

    Only while all nodes run: with one that is down, the others cannot end it by themselves.
    """
    rebuilding = sorted(name for name, one in snapshots.items() if one.get("rebuilding"))
    quorum = config.quorum
    if len(snapshots) < len(config.nodes) or len(rebuilding) <= quorum.n - quorum.r:
        return ""
    return f"{', '.join(rebuilding)} are being rebuilt, and reads wait for them"


def _is_cut(snapshots: Snapshots, one: str, other: str) -> bool:
    """Whether an injected fault keeps two nodes apart: it was asked for, and is not waited out."""
    return other in _cut_peers(snapshots[one]) or one in _cut_peers(snapshots[other])


def _cut_peers(snapshot: Mapping[str, Any]) -> Sequence[str]:
    cut: Sequence[str] = snapshot.get("transport", {}).get("cut_peers", ())
    return cut


def sees(snapshot: Mapping[str, Any], peer: str) -> bool:
    """Whether a node says it can reach a peer."""
    return bool(snapshot.get("peers", {}).get(peer, {}).get("reachable", False))
