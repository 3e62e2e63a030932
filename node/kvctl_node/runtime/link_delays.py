"""Frames that an injected delay keeps back: a queue by the time they are due, of bounded size.

Frames wait encoded, so that what they occupy is known to the byte; a delay of d seconds at b bytes
a second holds d·b bytes. What does not fit is dropped and counted by whoever asks, as a router with
a full buffer does. Frames due at the same time leave in the order in which they came: without
jitter a slow link keeps the order of its messages.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import NamedTuple

HELD_BYTES_MAX = 64 * 1024 * 1024
FRAME_OVERHEAD_BYTES = 256
"""What an entry costs besides its bytes, so that tiny frames are bounded, too."""


class HeldFrame(NamedTuple):
    """A frame on its way over a slow link."""

    peer: str
    data: bytes
    messages: int


class LinkDelays:
    """The frames this node holds back. Times in seconds of the monotonic clock."""

    def __init__(self, bytes_max: int = HELD_BYTES_MAX) -> None:
        self.bytes = 0
        """Held now, overhead included."""
        self._bytes_max = bytes_max
        self._queue: list[tuple[float, int, HeldFrame]] = []
        self._sequence = 0

    def __len__(self) -> int:
        return len(self._queue)

    def hold(self, frame: HeldFrame, due_s: float) -> bool:
        """Keep a frame until it is due; False if there is no room, and it is lost."""
        cost_bytes = len(frame.data) + FRAME_OVERHEAD_BYTES
        if self.bytes + cost_bytes > self._bytes_max:
            return False
        self.bytes += cost_bytes
        self._sequence += 1
        heapq.heappush(self._queue, (due_s, self._sequence, frame))
        return True

    def next_s(self) -> float | None:
        """When the next frame is due, None if none is held."""
        return self._queue[0][0] if self._queue else None

    def take_due(self, now_s: float) -> Iterator[HeldFrame]:
        """Give up the frames that are due, in the order they are due."""
        while self._queue and self._queue[0][0] <= now_s:
            _, _, frame = heapq.heappop(self._queue)
            self.bytes -= len(frame.data) + FRAME_OVERHEAD_BYTES
            yield frame
