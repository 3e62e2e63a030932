"""What a node has told so far, from its event log."""

from __future__ import annotations

import json
from typing import Any

from kvctl.cluster.local_cluster import Cluster


def events_of(cluster: Cluster, node: str) -> list[dict[str, Any]]:
    """All events of a node, the oldest first. It may be writing its next one: that is left out."""
    text = (cluster.directory.node(node) / "events.jsonl").read_text()
    return [json.loads(line) for line in text.rpartition("\n")[0].splitlines()]
