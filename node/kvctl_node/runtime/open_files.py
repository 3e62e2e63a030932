"""How many files a process may have open: reckoned beforehand, raised where that is allowed.

A process that runs out of file descriptors fails somewhere: it cannot read a key, does not see a
peer, aborts in a library. So what it will need is reckoned from the cluster's size before anything
is opened. The soft limit, which a shell sets low out of habit, is raised; only a hard limit that is
too low is refused, with the number that is needed.
"""

from __future__ import annotations

import os
from typing import NamedTuple

from kvctl_node.config import ClusterConfig
from kvctl_node.errors import OpenFilesError

_WISHED = 1 << 16
"""The soft limit is raised so far at most, even if the hard one is higher."""
_CLIENTS = 64
"""Connections of clients, for which a node keeps room at least."""
_TIERS = 5
"""Tiers of tables: with a fanout of 8 and memtables of 16 MiB the fifth begins at 64 GiB."""
_PATIENCE = 3
"""A run of tables may become so many times as long as it has to be before it is merged
(`kvctl_node.storage.compaction_schedule`)."""


class NodeFiles(NamedTuple):
    """What a node has open at the same time, at most."""

    own: int
    """Standard streams, database, logs, locks, and the sockets it listens on."""
    peers: int
    """Connections with the other nodes, each way, and what watches them."""
    tables: int
    """SSTables, those being merged included."""
    clients: int

    @property
    def total(self) -> int:
        """All together."""
        return sum(self)


def node_files(config: ClusterConfig) -> NodeFiles:
    """What a node of this cluster needs."""
    return NodeFiles(
        own=32,
        peers=6 * (len(config.nodes) - 1),
        tables=(_PATIENCE + _TIERS) * config.storage.compaction_fanout,
        clients=_CLIENTS,
    )


def client_files(nodes: int) -> int:
    """What a client of so many nodes needs, or a command that asks each of them."""
    return 32 + 6 * nodes


def check_hard_limit(needed: int, whom: str) -> None:
    """Raises `OpenFilesError` if a process started by this one could not have so many files open.

    `whom` says who needs them: "each of the 5 nodes".
    """
    import resource  # a quick command does without, and its import takes a third of a millisecond

    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if 0 <= hard < needed:  # RLIM_INFINITY is negative
        raise OpenFilesError(
            f"{whom} needs up to {needed} open files, and the system allows {hard}.",
            hint=f"raise the hard limit of open files (ulimit -n) to {needed} or more.",
        )


def allow_open_files(needed: int, whom: str) -> None:
    """Raise this process's soft limit if it is below `needed`. Raises `OpenFilesError` if the hard
    one is, too."""
    if os.sysconf("SC_OPEN_MAX") >= needed:
        return
    check_hard_limit(needed, whom)
    raise_soft_limit(needed)


def raise_soft_limit(needed: int) -> None:
    """Raise the soft limit towards the hard one; to `needed`, which that allows, at least."""
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wished = max(needed, _WISHED if hard < 0 else min(hard, _WISHED))
    for limit in (wished, needed):
        if 0 <= soft < limit:
            try:
                resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
            except (ValueError, OSError):
                continue  # macOS allows less than its hard limit says
            return
