"""What went through a node's sockets, and what did not and why.

Plain integers: they are raised on the hot path, once per frame. Everything that is dropped or
refused is counted under a word that says why, so that no loss is silent.
"""

from __future__ import annotations

from collections import Counter


class TrafficCounters:
    """Totals since the process started. Bytes are of whole frames, before encryption."""

    __slots__ = (
        "bytes_in",
        "bytes_out",
        "dropped",
        "frames_in",
        "frames_out",
        "malformed",
        "messages_in",
        "messages_out",
    )

    def __init__(self) -> None:
        self.frames_in = 0
        self.frames_out = 0
        self.messages_in = 0
        self.messages_out = 0
        self.bytes_in = 0
        self.bytes_out = 0
        self.dropped: Counter[str] = Counter()
        """Messages that were not sent, by reason: `peer_unreachable`, `client_gone`, ..."""
        self.malformed: Counter[str] = Counter()
        """Frames that were not handled, by reason: a codec reason, `multipart`, `impostor`."""

    def received(self, messages: int, size_bytes: int) -> None:
        """One good frame came in."""
        self.frames_in += 1
        self.messages_in += messages
        self.bytes_in += size_bytes

    def sent(self, messages: int, size_bytes: int) -> None:
        """One frame was handed to the operating system's queue."""
        self.frames_out += 1
        self.messages_out += messages
        self.bytes_out += size_bytes

    def snapshot(self) -> dict[str, object]:
        """A copy for status and metrics."""
        return {
            "frames_in": self.frames_in,
            "frames_out": self.frames_out,
            "messages_in": self.messages_in,
            "messages_out": self.messages_out,
            "bytes_in": self.bytes_in,
            "bytes_out": self.bytes_out,
            "dropped": dict(self.dropped),
            "malformed": dict(self.malformed),
        }
