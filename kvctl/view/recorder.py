"""Recording: everything a feed delivers, as JSON Lines, for looking at it again later.

    {"format": "kvctl-recording", "version": 1, "cluster": "demo", "began_ms": 1763878461123}
    {"type": "cluster", "at_ms": ..., ...}
    {"type": "answer", "at_ms": ..., "node": "n1", ...}
    ...

The first line says what the file is; a reader refuses a newer version. The rate is bounded: beyond
`EVENTS_PER_S_MAX` events in a second only their number is written, while answers, which bound their
own rate, always are. Lines are written whole and at once, so a recording that was cut off is
readable up to its last whole line.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

import msgspec

from kvctl.view.feed import FeedError
from kvctl.view.observation import EventsMissed, NodeEvent, Observation

FORMAT_NAME = "kvctl-recording"
FORMAT_VERSION = 1
EVENTS_PER_S_MAX = 200


class RecordingHead(msgspec.Struct, frozen=True):
    """The first line of a recording."""

    format: str
    version: int
    cluster: str
    began_ms: int


class Recorder:
    """Writes observations to a new file, mode 0600: keys may be in it. A context manager."""

    def __init__(self, path: Path, *, cluster: str, began_ms: int) -> None:
        """Raises `FeedError` if the file exists or cannot be made."""
        self.problem = ""
        """Why recording stopped ("" while it goes on): a full disk must not end the dashboard."""
        self._encode = msgspec.json.Encoder().encode
        self._second = 0
        self._events = 0
        self._left_out = 0
        try:
            self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except OSError as error:
            raise FeedError(
                f"cannot record to {path}: {error.strerror}.",
                hint="a recording is a new file in a directory you can write.",
            ) from error
        self._closed = False
        self._write(RecordingHead(FORMAT_NAME, FORMAT_VERSION, cluster, began_ms))

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def record(self, observation: Observation) -> None:
        """Append one observation, unless it is one event too many."""
        if isinstance(observation, NodeEvent) and not self._has_room(observation.at_ms):
            self._left_out += 1
            return
        if self._left_out:
            self._write(EventsMissed(observation.at_ms, self._left_out))
            self._left_out = 0
        self._write(observation)

    def close(self) -> None:
        """Release the file. Idempotent."""
        if not self._closed:
            self._closed = True
            os.close(self._descriptor)

    def _has_room(self, at_ms: int) -> bool:
        second = at_ms // 1000
        if second != self._second:
            self._second, self._events = second, 0
        self._events += 1
        return self._events <= EVENTS_PER_S_MAX

    def _write(self, line: RecordingHead | Observation) -> None:
        if self.problem or self._closed:
            return
        data = self._encode(line) + b"\n"
        try:
            written = os.write(self._descriptor, data)
        except OSError as error:
            self.problem = f"the recording stopped: {error.strerror}"
        else:
            if written < len(data):  # a torn line is the last one there may be
                self.problem = "the recording stopped: the disk is full"
