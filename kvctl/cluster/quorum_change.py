"""Changing R, W or mode of a running cluster.

The durable copy, `cluster.json`, comes first: a node that starts later, or does not answer now,
gets the new values from there. Then every node that runs is told; between the first and the last of
them, requests see the one or the other setting, as they would with per-request options.

N is not changed this way: it would give keys other owners, so data has to move first.
"""

from __future__ import annotations

import msgspec

from kvctl.cluster.admin import query_all
from kvctl.cluster.facts import QuorumChange
from kvctl.cluster.held_cluster import HeldCluster
from kvctl.cluster.processes import ProcessState, state_of
from kvctl.errors import ContradictionError
from kvctl_node.config import QuorumConfig
from kvctl_node.protocol.client_messages import (
    ClientSetQuorum,
    QuorumSet,
)

_ASK_S = 2.0


def change_quorum(
    held: HeldCluster,
    *,
    n: int | None = None,
    r: int | None = None,
    w: int | None = None,
    mode: str | None = None,
) -> QuorumChange:
    """Set what is given, keep the rest. Raises `ContradictionError`, `ConfigError`."""
    old = held.config.quorum
    if n is not None and n != old.n:
        raise ContradictionError(
            f"N of the cluster {held.config.name} is {old.n} and cannot become {n} live.",
            hint="N decides who owns a key; make a new cluster with --replicas and load the data.",
        )
    new = QuorumConfig(
        n=old.n,
        r=old.r if r is None else r,
        w=old.w if w is None else w,
        mode=old.mode if mode is None else mode,
    )
    new.validate()
    held.config = msgspec.structs.replace(held.config, quorum=new)
    held.directory.save(held.config)
    return _tell_nodes(held, new)


def _tell_nodes(held: HeldCluster, quorum: QuorumConfig) -> QuorumChange:
    processes = held.processes()
    running = [n for n, one in processes.items() if state_of(one) is ProcessState.RUNNING]
    replies = query_all(
        held.config,
        held.directory.keys,
        ClientSetQuorum(0, quorum.r, quorum.w, quorum.mode),
        _ASK_S,
        names=running,
    )
    confirmed = tuple(name for name in running if isinstance(replies[name], QuorumSet))
    return QuorumChange(
        quorum=quorum,
        confirmed=confirmed,
        unconfirmed=tuple(name for name in processes if name not in confirmed),
    )
