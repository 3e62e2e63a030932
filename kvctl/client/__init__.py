"""The blocking Python client of a cluster, and the base of the command line.

    with kvctl.client.connect("shop") as client:
        cart = client.get("cart:17")
        client.put("cart:17", b"...", context=cart.context)

* `client`: `connect` and `Client`: one request at a time, failures as exceptions.
* `batch`: many requests in flight, for loading, benchmarks and anything that wants throughput.
* `results`: what a get and a put answer, decoded only when somebody looks.
* `cluster_map`: who the members are and who owns what.

Below them, in the order in which a request passes: `request` (one request and what may be concluded
from its attempts), `routing` (which node to ask), `connection` (one encrypted socket to one node),
`request_loop` (sends, receives, retries, gives up). All of them read `client_clock`.

Importing this package loads no more than a quick command needs: no process, terminal or registry
code, no asyncio.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kvctl.client.batch import Batch
from kvctl.client.client import Client, connect
from kvctl.client.request import Pending
from kvctl.client.results import GetResult, PutResult, Version

if TYPE_CHECKING:
    from kvctl.client.cluster_map import ClusterMap

__all__ = [
    "Batch",
    "Client",
    "ClusterMap",
    "GetResult",
    "Pending",
    "PutResult",
    "Version",
    "connect",
]


def __getattr__(name: str) -> Any:
    """`ClusterMap` brings the ring along, which a one-shot request never needs (PEP 562)."""
    if name == "ClusterMap":
        from kvctl.client.cluster_map import ClusterMap

        return ClusterMap
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
