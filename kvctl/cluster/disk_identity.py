"""What a stopped node's disk says of the node's past: generation and actor epoch.

Read once, just before the disk is wiped. The registry's memory is from the last time somebody
looked; the disk knows better, since a running node may begin new actor epochs at any time. The
database is the node's own (`kvctl_node.storage`); only two values of its metadata table are read
here, and only while no node has it open.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import NamedTuple

from kvctl.cluster.directory import DATABASE_NAME


class DiskIdentity(NamedTuple):
    """The highest numbers a node used, as its disk has them."""

    generation: int
    actor_epoch: int


def read_disk_identity(data_directory: Path) -> DiskIdentity | None:
    """The numbers on a stopped node's disk; zeros if it never stored any; None if unreadable."""
    path = data_directory / DATABASE_NAME
    if not path.exists():
        return DiskIdentity(0, 0)
    try:
        connection = sqlite3.connect(path)
        try:
            rows = connection.execute(
                "SELECT name, value FROM metadata WHERE name IN ('generation', 'actor_epoch')"
            ).fetchall()
        finally:
            connection.close()
        values = {str(name): int(value) for name, value in rows}
    except (sqlite3.Error, ValueError, TypeError):
        return None
    return DiskIdentity(values.get("generation", 0), values.get("actor_epoch", 0))
