"""Playing a recording: the same observations again, at the same pace, or at any moment of it.

A recording is read whole. Every few hundred observations the view reached so far is kept, which
costs little, since views share what did not change; so any moment is a short replay away.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from pathlib import Path

import msgspec

from kvctl.errors import NewerFormatError
from kvctl.view.feed import Clock, FeedError, FeedKind, Sink
from kvctl.view.observation import Observation
from kvctl.view.recorder import FORMAT_NAME, FORMAT_VERSION, RecordingHead
from kvctl.view.reduce import reduce
from kvctl.view.state import ClusterView
from kvctl_node.documents import UNREADABLE, plain_text, why_unreadable
from kvctl_node.errors import ProtocolError

CHECKPOINT_EVERY = 256
_TICK_S = 0.1


class Recording:
    """A recording in memory. Positions are wall-clock milliseconds of the time it was made."""

    def __init__(self, head: RecordingHead, observations: list[Observation]) -> None:
        self.cluster = head.cluster
        self._observations = observations
        self._times: list[int] = []
        self._checkpoints = [ClusterView()]
        latest_ms, view = head.began_ms, ClusterView()
        for place, observation in enumerate(observations, 1):
            # A node's clock may be behind the watcher's; a position never runs backwards.
            latest_ms = max(latest_ms, observation.at_ms)
            self._times.append(latest_ms)
            view = reduce(view, observation)
            if place % CHECKPOINT_EVERY == 0:
                self._checkpoints.append(view)
        self.began_ms = head.began_ms
        self.ended_ms = latest_ms

    def view_at(self, at_ms: int) -> ClusterView:
        """The view as it was at a moment."""
        count = bisect_right(self._times, at_ms)
        checkpoint = count // CHECKPOINT_EVERY
        view = self._checkpoints[checkpoint]
        for observation in self._observations[checkpoint * CHECKPOINT_EVERY : count]:
            view = reduce(view, observation)
        return view

    def between(self, after_ms: int, until_ms: int) -> list[Observation]:
        """What was observed later than `after_ms` and not later than `until_ms`."""
        first, last = bisect_right(self._times, after_ms), bisect_right(self._times, until_ms)
        return self._observations[first:last]


def read_recording(path: Path) -> Recording:
    """Read a recording. Raises `FeedError`, or `NewerFormatError` if a newer kvctl made it.

    A last line that was cut off is left out; anything else that is not an observation is an error.
    """
    try:
        lines = path.read_bytes().splitlines(keepends=True)
    except OSError as error:
        raise FeedError(f"cannot read {path}: {error.strerror}.") from error
    if not lines:
        raise FeedError(f"{path} is empty.", hint="kvctl dashboard --record FILE makes one.")
    head = _head(path, lines[0])
    decoder = msgspec.json.Decoder(Observation)
    observations = []
    for number, line in enumerate(lines[1:], 2):
        try:
            observations.append(decoder.decode(line))
        except UNREADABLE as error:
            if number == len(lines) and not line.endswith(b"\n"):
                break
            reason = why_unreadable(error, line)
            raise FeedError(f"line {number} of {path} is not an observation: {reason}.") from error
    try:
        return Recording(head, observations)
    except ProtocolError as error:
        raise FeedError(f"{path} holds a damaged ring: {error.message}") from error


def _head(path: Path, line: bytes) -> RecordingHead:
    try:
        head = msgspec.json.decode(plain_text(line), type=RecordingHead)
    except UNREADABLE as error:
        raise FeedError(
            f"{path} is not a recording.", hint="kvctl dashboard --record FILE makes one."
        ) from error
    if head.format != FORMAT_NAME:
        raise FeedError(f"{path} is not a recording, but {head.format!r}.")
    if head.version > FORMAT_VERSION:
        raise NewerFormatError(
            f"{path} is a recording of version {head.version}, this kvctl reads up to "
            f"{FORMAT_VERSION}.",
            hint="a newer kvctl made it; look at it with that one.",
        )
    return head


class ReplayFeed:
    """Plays a recording into a sink: runs, stands still, jumps.

    `position_ms` is the moment shown, in the recording's own time: the clock of a replay.
    """

    def __init__(self, recording: Recording, *, clock: Clock, speed: float = 1.0) -> None:
        self.recording = recording
        self.position_ms = recording.began_ms
        self.speed = speed
        self.paused = False
        self._clock = clock
        self._sink: Sink | None = None

    @property
    def kind(self) -> FeedKind:
        """REPLAY."""
        return FeedKind.REPLAY

    @property
    def ended(self) -> bool:
        """Whether everything was shown."""
        return self.position_ms >= self.recording.ended_ms

    async def run(self, sink: Sink) -> None:
        """Play until cancelled; at the end it stands still."""
        self._sink = sink
        self.seek(self.position_ms)
        before_ms = self._clock()
        try:
            while True:
                await asyncio.sleep(_TICK_S)
                now_ms = self._clock()
                if not self.paused:
                    self.advance(round((now_ms - before_ms) * self.speed))
                before_ms = now_ms
        finally:
            self._sink = None

    def advance(self, by_ms: int) -> None:
        """Play the next `by_ms` milliseconds at once."""
        until_ms = min(self.position_ms + max(0, by_ms), self.recording.ended_ms)
        for observation in self.recording.between(self.position_ms, until_ms):
            if self._sink is not None:
                self._sink.observe(observation)
        self.position_ms = until_ms

    def seek(self, at_ms: int) -> None:
        """Show another moment, within the recording."""
        self.position_ms = min(max(at_ms, self.recording.began_ms), self.recording.ended_ms)
        if self._sink is not None:
            self._sink.replace(self.recording.view_at(self.position_ms))
