"""What a page is given to paint: the view, and what follows from it, computed once per paint."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from kvctl.tui.glyphs import Glyphs
from kvctl.view.condition import conditions_of, cut_links, phis_of, reach_of, serving_nodes
from kvctl.view.feed import FeedKind, is_stale
from kvctl.view.quorum_outlook import ClusterOutlook, cluster_outlook
from kvctl.view.state import ClusterView, Condition


class Scene(NamedTuple):
    """Everything a page may show."""

    view: ClusterView
    now_ms: int
    kind: FeedKind
    glyphs: Glyphs
    conditions: Mapping[str, Condition]
    phis: Mapping[str, float]
    outlook: ClusterOutlook | None
    """None until the ring is known."""
    stale: bool
    problem: str = ""
    """Why the feed is broken, "" while it is not."""
    frozen: bool = False
    waiting: int = 0
    """Observations made since the picture was frozen."""
    filter: str = ""
    """What was typed after `/`."""
    recording: bool = False
    replay: str = ""
    """How far a replay is, "" for a live picture."""

    @property
    def places(self) -> Mapping[str, int]:
        """Node → its place in the configuration: which colour and sign it has."""
        return {name: place for place, name in enumerate(self.view.nodes)}

    def matches(self, *texts: str) -> bool:
        """Whether any of these passes the filter."""
        wanted = self.filter.casefold()
        return not wanted or any(wanted in text.casefold() for text in texts)


def scene_of(
    view: ClusterView,
    *,
    now_ms: int,
    kind: FeedKind,
    glyphs: Glyphs,
    problem: str = "",
    frozen: bool = False,
    waiting: int = 0,
    text_filter: str = "",
    recording: bool = False,
    replay: str = "",
) -> Scene:
    """Draw the conclusions from a view."""
    outlook = None
    if view.ring is not None:
        outlook = cluster_outlook(
            view.ring, view.quorum, reach_of(serving_nodes(view), cut_links(view))
        )
    return Scene(
        view,
        now_ms,
        kind,
        glyphs,
        conditions_of(view),
        phis_of(view),
        outlook,
        bool(problem) or is_stale(kind, view, now_ms),
        problem,
        frozen,
        waiting,
        text_filter,
        recording,
        replay,
    )
