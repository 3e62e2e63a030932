"""What the dashboard looks up on demand: siblings, Merkle levels, logs. It changes nothing.

The feed brings what every screen needs. What only one screen shows, and would cost the nodes too
much to be told all the time, is looked up while that screen is shown. Whoever calls does so from a
thread that may wait. `local_cluster_reader` is the real one.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from kvctl.view.merkle_descent import LevelSeen, Place
from kvctl.view.observation import ConflictsSeen, NodeEvent

LOG_LINES_MAX = 2000
"""Lines of each node that are kept."""
STAMP_LENGTH = len("2026-01-01T00:00:00.000Z")


class LogLine(NamedTuple):
    """A line of a node's log."""

    node: str
    number: int
    """Counts the node's lines from the first one read."""
    at: str
    """Its stamp, or that of the line before it, if it goes on with that one."""
    text: str


class ClusterReader(Protocol):
    """Looks things up in one cluster. Every method raises `StoreError`."""

    def conflicts(self) -> ConflictsSeen:
        """The keys with siblings."""
        ...

    def merkle_level(self, place: Place) -> LevelSeen:
        """What both nodes of a pair say of a place in their tree."""
        ...

    def past_events(self) -> list[NodeEvent]:
        """The last events of every node's file, by time."""
        ...

    def new_log_lines(self) -> list[LogLine]:
        """What the nodes wrote since the last call, by time; at first, the last lines there are."""
        ...
