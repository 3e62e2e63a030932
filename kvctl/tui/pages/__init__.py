"""The pages, in the order of their keys. A new page is listed here and nowhere else."""

from __future__ import annotations

from kvctl.tui.page import Page
from kvctl.tui.pages.conflicts import ConflictsPage
from kvctl.tui.pages.hints import HintsPage
from kvctl.tui.pages.logs import LogsPage
from kvctl.tui.pages.merkle import MerklePage
from kvctl.tui.pages.nodes import NodesPage
from kvctl.tui.pages.overview import OverviewPage
from kvctl.tui.pages.timeline import TimelinePage

PAGES: tuple[type[Page], ...] = (
    OverviewPage,
    NodesPage,
    ConflictsPage,
    HintsPage,
    MerklePage,
    TimelinePage,
    LogsPage,
)
