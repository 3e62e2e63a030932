"""kvctl: run, see and break a leaderless, Dynamo-style key-value store on your own machine.

    with kvctl.Cluster(nodes=3) as cluster:      # start, and remove afterwards
        client = cluster.client()

    client = kvctl.connect("default")            # a cluster that `kvctl up` started

The names below are loaded when they are first used (PEP 562): a quick `kvctl get` does not pay for
process control, nor a test suite for anything before it asks for a cluster.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvctl.client import Client, connect
    from kvctl.cluster.local_cluster import Cluster
    from kvctl.errors import (
        ClusterNotFoundError,
        ClusterUnreachableError,
        ConflictError,
        ContradictionError,
        KvctlError,
        LockedError,
        NodeStartError,
        WaitTimeoutError,
    )
    from kvctl_node.errors import (
        IndeterminateError,
        InvalidRequestError,
        OverloadedError,
        StoreError,
        UnavailableError,
    )

__version__ = "0.1.0"

_HOME_OF = {
    "Client": "kvctl.client",
    "connect": "kvctl.client",
    "Cluster": "kvctl.cluster.local_cluster",
    "ClusterNotFoundError": "kvctl.errors",
    "ClusterUnreachableError": "kvctl.errors",
    "ConflictError": "kvctl.errors",
    "ContradictionError": "kvctl.errors",
    "KvctlError": "kvctl.errors",
    "LockedError": "kvctl.errors",
    "NodeStartError": "kvctl.errors",
    "WaitTimeoutError": "kvctl.errors",
    "IndeterminateError": "kvctl_node.errors",
    "InvalidRequestError": "kvctl_node.errors",
    "OverloadedError": "kvctl_node.errors",
    "StoreError": "kvctl_node.errors",
    "UnavailableError": "kvctl_node.errors",
}

__all__ = [
    "Client",
    "Cluster",
    "ClusterNotFoundError",
    "ClusterUnreachableError",
    "ConflictError",
    "ContradictionError",
    "IndeterminateError",
    "InvalidRequestError",
    "KvctlError",
    "LockedError",
    "NodeStartError",
    "OverloadedError",
    "StoreError",
    "UnavailableError",
    "WaitTimeoutError",
    "__version__",
    "connect",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME_OF})
