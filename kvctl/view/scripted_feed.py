"""A feed that tells what it was given, when it is told to: for tests and demonstrations.

Nothing happens by itself: `tell` hands observations to the sink at once, so a test decides what is
known at every moment. What is told before `run` begins is kept for it.
"""

from __future__ import annotations

import asyncio

from kvctl.view.feed import FeedError, FeedKind, Sink
from kvctl.view.observation import Observation


class ScriptedFeed:
    """Delivers what `tell` is given, in order."""

    def __init__(self, *observations: Observation, kind: FeedKind = FeedKind.LIVE) -> None:
        self._kind = kind
        self._waiting = list(observations)
        self._sink: Sink | None = None
        self._failed: asyncio.Future[None] | None = None

    @property
    def kind(self) -> FeedKind:
        """What it pretends to be."""
        return self._kind

    async def run(self, sink: Sink) -> None:
        """Deliver what waits, then whatever is told, until cancelled or made to fail."""
        self._sink = sink
        for observation in self._waiting:
            sink.observe(observation)
        self._waiting.clear()
        self._failed = asyncio.get_running_loop().create_future()
        try:
            await self._failed
        finally:
            self._sink = self._failed = None

    def tell(self, *observations: Observation) -> None:
        """Deliver these now, or as soon as the feed runs."""
        for observation in observations:
            if self._sink is None:
                self._waiting.append(observation)
            else:
                self._sink.observe(observation)

    def fail(self, reason: str) -> None:
        """Break, as a live feed does when its cluster is removed."""
        assert self._failed is not None, "the feed does not run"
        self._failed.set_exception(FeedError(reason))
