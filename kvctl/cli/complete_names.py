"""What the shell completes: names of clusters and of nodes.

Runs on every press of the tab key, so it reads one small file and never asks a process. A broken
or missing cluster completes to nothing; complaints have no place in a prompt.
"""

from __future__ import annotations

from typing import Any

import typer

from kvctl_node.errors import StoreError


def complete_cluster(incomplete: str) -> list[str]:
    """Names of the clusters there are."""
    from kvctl.cluster.directory import cluster_names

    try:
        return [name for name in cluster_names() if name.startswith(incomplete)]
    except StoreError:
        return []


def complete_node(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of the nodes of the cluster that is meant; after a comma, the next name."""
    from kvctl.cluster.directory import open_cluster

    try:
        _, config = open_cluster(_chosen_cluster(ctx))
    except StoreError:
        return []
    before, comma, last = incomplete.rpartition(",")
    return [f"{before}{comma}{node.name}" for node in config.nodes if node.name.startswith(last)]


def _chosen_cluster(context: Any) -> str | None:
    """`-c` of this command or of one above it; `context` is None above the outermost."""
    while context is not None:
        chosen = context.params.get("cluster")
        if isinstance(chosen, str):
            return chosen
        context = context.parent
    return None
