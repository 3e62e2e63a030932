"""What is the case with a cluster: facts from processes and answers, not beliefs.

Three sources, in this order: is there a process of the node (by identity, else found by its command
line), what does it do (run, stand still), and does it answer on its socket with the nonce it was
started with. The registry contributes only what was *asked for*, which tells `stopped` from `dead`.

Every command may observe at any time: nothing here takes a lock or writes anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from kvctl.cluster.admin import AdminConnections
from kvctl.cluster.directory import ClusterDirectory
from kvctl.cluster.facts import (
    DEAD,
    JOINING,
    LEAVING,
    PAUSED,
    STOPPED,
    UNRESPONSIVE,
    UP,
    ClusterStatus,
    NodeStatus,
    QuorumStatus,
)
from kvctl.cluster.processes import (
    FoundNode,
    ProcessIdentity,
    ProcessState,
    find_nodes,
    state_of,
)
from kvctl.cluster.readiness import Snapshots
from kvctl.cluster.run_state import RUNNING, ClusterRun
from kvctl.cluster.spawn import last_words
from kvctl_node.config import ClusterConfig, NodeSpec
from kvctl_node.ring.claim import claim
from kvctl_node.ring.ownership import ownership
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.server import Server

_TROUBLES = {
    "corrupt": "some of its records are damaged and are not served",
    "rebuilding": "parts of it are being rebuilt from its peers, and count in no read meanwhile",
    "read-only": "it refuses writes: its disk is full or it cannot flush",
}
"""What a node that serves may say is wrong with it (`kvctl_node.status`)."""
_DETAILS = {
    "rebuilding": "{}",
    "quarantine_kept": "they are kept as they are, since {}",
}
"""What stands behind that, by figure of the snapshot."""


def locate(
    directory: ClusterDirectory,
    run: ClusterRun,
    names: Iterable[str],
    *,
    search: Callable[[], list[FoundNode]] = find_nodes,
) -> dict[str, ProcessIdentity]:
    """The processes of those of the named nodes that have one.

    The registry is asked first and not trusted: what it says is verified, and for nodes it knows no
    living process of, the machine's processes are searched (by `search`): those of this cluster's
    id, or of any in this directory if the registry does not know the cluster.
    """
    found: dict[str, ProcessIdentity] = {}
    unverified: set[str] = set()
    for name in names:
        identity = run.node(name).identity
        if identity is not None and state_of(identity) is not ProcessState.GONE:
            found[name] = identity
        else:
            unverified.add(name)
    if unverified:
        for node in search():
            known_id = run.cluster_id in ("", node.cluster_id) or not node.cluster_id
            if node.name in unverified and node.directory == directory.path and known_id:
                found[node.name] = node.identity
    return found


def observe(
    directory: ClusterDirectory, config: ClusterConfig, run: ClusterRun, *, timeout_s: float
) -> ClusterStatus:
    """The status of a cluster. A node that does not answer costs `timeout_s` seconds, once."""
    names = [spec.name for spec in config.nodes]
    processes = locate(directory, run, names)
    states = {name: state_of(processes.get(name)) for name in names}
    running = [spec for spec in config.nodes if states[spec.name] is ProcessState.RUNNING]
    snapshots: Snapshots = {}
    if running:
        with AdminConnections(running, directory.keys) as connections:
            snapshots = connections.ask_status([spec.name for spec in running], timeout_s=timeout_s)
    ring = ring_of(config)
    shares = {row.node: row.share for row in ownership(ring, _servers(config))}
    return ClusterStatus(
        cluster=config.name,
        quorum=QuorumStatus(config.quorum.n, config.quorum.r, config.quorum.w, config.quorum.mode),
        epoch=ring.epoch,
        nodes=tuple(
            _node_status(
                directory,
                spec,
                run,
                process=processes.get(spec.name),
                state=states[spec.name],
                snapshot=snapshots.get(spec.name),
                share=shares.get(spec.name, 0.0),
            )
            for spec in config.nodes
        ),
    )


def _node_status(
    directory: ClusterDirectory,
    spec: NodeSpec,
    run: ClusterRun,
    *,
    process: ProcessIdentity | None,
    state: ProcessState,
    snapshot: dict[str, Any] | None,
    share: float,
) -> NodeStatus:
    if process is not None and snapshot is not None and snapshot.get("nonce") != process.nonce:
        snapshot = None  # somebody answers, and it is not this process
    word, reason = _state_word(directory, spec.name, run, state, snapshot)
    figures = snapshot or {}
    return NodeStatus(
        id=spec.name,
        state=word,
        pid=process.pid if process is not None and state is not ProcessState.GONE else None,
        endpoint=spec.client_endpoint,
        zone=spec.zone,
        capacity=spec.capacity,
        share=share,
        keys=figures.get("keys"),
        hints=figures.get("hints"),
        conflicts=figures.get("conflicts"),
        reason=reason,
        snapshot=snapshot,
    )


def _state_word(
    directory: ClusterDirectory,
    name: str,
    run: ClusterRun,
    state: ProcessState,
    snapshot: Mapping[str, Any] | None,
) -> tuple[str, str]:
    """The state of a node and, where it is not as it should be, why."""
    if state is ProcessState.GONE:
        if run.node(name).wanted != RUNNING:
            return STOPPED, ""
        if not directory.node(name).is_dir():
            return DEAD, f"its directory was removed; kvctl start {name} makes an empty one"
        words, hint = last_words(directory, name, run.node(name).nonce)
        return DEAD, f"{words} {hint}".strip() or "it was killed, or the machine restarted"
    if state is ProcessState.PAUSED:
        return PAUSED, ""
    if snapshot is None:
        return UNRESPONSIVE, "the process is there and does not answer"
    said = str(snapshot.get("state", ""))
    if said in (JOINING, LEAVING):
        return said, ""
    trouble = _TROUBLES.get(said, "")
    for figure, text in _DETAILS.items():
        if trouble and snapshot.get(figure):
            trouble += f"; {text.format(snapshot[figure])}"
    return UP, "; ".join(filter(None, (trouble, _clock_trouble(snapshot))))


def _clock_trouble(snapshot: Mapping[str, Any]) -> str:
    """What is wrong with the node's clock, "" if nothing."""
    behind_ms = int(snapshot.get("clock_correction_ms", 0))
    if not behind_ms:
        return ""
    size, side = f"{abs(behind_ms) / 1000:,.1f}", "behind" if behind_ms > 0 else "ahead of"
    return f"its clock is {size} s {side} the others', which it follows"


@lru_cache(maxsize=8)
def _claimed(servers: tuple[Server, ...], partitions: int, n: int) -> PartitionMap:
    return claim(servers, partitions=partitions, n=n)


def ring_of(config: ClusterConfig) -> PartitionMap:
    """The ring of a cluster: a function of its configuration, the same one its nodes compute."""
    return _claimed(_servers(config), config.partitions, config.quorum.n)


def _servers(config: ClusterConfig) -> tuple[Server, ...]:
    return tuple(Server(spec.name, spec.capacity, spec.zone) for spec in config.nodes)
