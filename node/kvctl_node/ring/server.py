"""A server as the ring sees it: a name, a capacity and a failure domain."""

from __future__ import annotations

from typing import NamedTuple


class Server(NamedTuple):
    """One candidate owner of replicas."""

    name: str
    capacity: float = 1.0
    """Relative and positive: a server of capacity 2 is due twice the replicas of one of 1."""
    zone: str = ""
    """Servers that fail together share a zone; "" is a zone of the server's own."""
