"""Feeds: where observations come from. One protocol for a live cluster, a recording and a script.

A feed runs inside one coroutine until it is cancelled or has nothing more to tell. It hands every
observation to a sink, and never learns what becomes of it; sinks return at once. A feed that breaks
raises `FeedError`, and the picture is then `STALE`: what is shown is true no longer.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import Protocol

from kvctl.errors import KvctlError
from kvctl.view.observation import Observation
from kvctl.view.state import ClusterView

STALE_AFTER_MS = 4000
"""Without any observation for so long, a live picture counts as stale. Live feeds observe every
node every second or two (`pace`), be it only its silence."""


class FeedError(KvctlError):
    """A feed cannot go on."""

    kind = "feed"


class FeedKind(Enum):
    """What a picture is a picture of."""

    LIVE = "live"
    REPLAY = "replay"


class Sink(Protocol):
    """Who takes what a feed delivers."""

    def observe(self, observation: Observation) -> None:
        """Something was observed."""
        ...

    def replace(self, view: ClusterView) -> None:
        """Time has jumped: this is the picture now."""
        ...


class Feed(Protocol):
    """A source of observations."""

    @property
    def kind(self) -> FeedKind: ...

    async def run(self, sink: Sink) -> None:
        """Deliver until cancelled. Releases everything it opened. Raises `FeedError`."""
        ...


Clock = Callable[[], int]
"""Wall-clock milliseconds."""


def is_stale(kind: FeedKind, view: ClusterView, now_ms: int) -> bool:
    """Whether a picture has not been renewed for too long; recordings do not grow stale."""
    return kind is FeedKind.LIVE and view.at_ms > 0 and now_ms - view.at_ms > STALE_AFTER_MS
