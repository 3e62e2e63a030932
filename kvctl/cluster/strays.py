"""Node processes that lost their place: whose directory was removed, moved, or given to another.

A process belongs to a cluster by the cluster's id on its command line, not by the path beside it: a
directory that was removed and made again has another id, one that was moved keeps its own. Its
working directory says where the cluster's directory is now.

    stray       no cluster on disk has its id: neither where it was started nor where that is now
    displaced   of a cluster that is there, but started for another place, or its own data are gone

Nodes that notice end by themselves (`kvctl_node.runtime.directory_watch`); one that stands still
cannot. Until they are gone they may write, by name, into what has their place now, so no node is
started beside them. Ended is only what no cluster on disk claims, or the caller's own cluster.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from kvctl.cluster.directory import ClusterDirectory
from kvctl.cluster.facts import DownReport
from kvctl.cluster.held_cluster import HeldCluster
from kvctl.cluster.processes import FoundNode, end_processes, find_nodes, wait_gone
from kvctl.errors import AlreadyRunningError
from kvctl.text.escaping import command, quoted
from kvctl_node.errors import StoreError

_NOTICE_S = 5.0
"""A node notices within a second that its directory was moved."""


def is_stray(node: FoundNode) -> bool:
    """Whether no cluster on disk claims the process."""
    return home_of(node) is None


def home_of(node: FoundNode) -> ClusterDirectory | None:
    """The directory of the cluster the process belongs to; None if that is not there any more.

    A directory that cannot be looked into, such as another user's, has the benefit of the doubt.
    """
    for path in dict.fromkeys((node.directory, node.working_directory or node.directory)):
        directory = ClusterDirectory(path)
        try:
            if directory.exists() and node.cluster_id in ("", directory.load_copy().cluster_id):
                return directory
        except (StoreError, OSError):
            return directory
    return None


def is_in(node: FoundNode, directory: Path) -> bool:
    """Whether the process was started for this directory, however it is spelled."""
    return node.directory == directory or node.directory.resolve() == directory.resolve()


def unclaimed_by_others(directory: ClusterDirectory) -> list[FoundNode]:
    """The processes started for this directory: its cluster's, and strays."""
    found = []
    for node in find_nodes():
        if is_in(node, directory.path):
            home = home_of(node)
            if home is None or home.path.resolve() == directory.path.resolve():
                found.append(node)
    return found


def clear_place(directory: ClusterDirectory, *, grace_s: float) -> str:
    """End the strays that were started for this directory; the caller holds its lock.

    Returns a sentence that names them, "" if there were none. Raises `AlreadyRunningError` if nodes
    of a cluster that was moved away from here do not end, `KvctlError` if a stray cannot be ended.
    """
    strays, moved = [], []
    for node in find_nodes():
        if is_in(node, directory.path):
            home = home_of(node)
            if home is None:
                strays.append(node)
            elif home.path.resolve() != directory.path.resolve():
                moved.append((node, home))
    left = wait_gone([node.identity for node, _ in moved], timeout_s=_NOTICE_S)
    for node, home in moved:
        if node.identity in left:
            raise AlreadyRunningError(
                f"process {node.identity.pid} is {node.name} of the cluster that was moved from "
                f"{directory.path} to {home.path}, and could still write here.",
                hint=f"KVCTL_HOME={quoted(str(home.path.parent.parent))} "
                + command("kvctl", "-c", home.name, "down"),
            )
    end_processes([node.identity for node in strays], grace_s=grace_s)
    if not strays:
        return ""
    named = ", ".join(f"{node.name} (process {node.identity.pid})" for node in strays)
    return f"ended {named}: left of a cluster that was removed from this directory."


def end_unclaimed(directory: ClusterDirectory, *, grace_s: float) -> DownReport | None:
    """End what still runs for a directory that is gone; None if nothing does."""
    found = unclaimed_by_others(directory)
    if not found:
        return None
    stubborn = end_processes([node.identity for node in found], grace_s=grace_s)
    return DownReport(
        name=directory.name,
        stopped=tuple(node.name for node in found),
        killed=tuple(node.name for node in found if node.identity in stubborn),
        purged=False,
    )


def end_displaced(held: HeldCluster, names: Iterable[str], *, grace_s: float) -> None:
    """End those of the cluster's nodes that were started for another place, or whose data directory
    is gone: they are about to end by themselves, and would be taken for running."""
    wanted = set(names)
    here = held.directory.path
    displaced = {
        node.identity
        for node in find_nodes()
        if node.name in wanted
        and node.cluster_id == held.config.cluster_id
        and node.working_directory is not None
        and node.working_directory == here.resolve()
        and not is_in(node, here)
    }
    for name, identity in held.processes(wanted).items():
        if not held.directory.node(name).is_dir():
            displaced.add(identity)
    end_processes(list(displaced), grace_s=grace_s)
