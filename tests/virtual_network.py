"""The network between virtual nodes: frames arrive late, out of order, twice, or never.

Faults apply to single messages, by directed link, as those that the real transport injects. A frame
passes through the real codec. Frames overtake each other when their delays differ by more than the
time between them, which is harsher than TCP.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from kvctl_node.protocol.codec import decode_peer_frame, encode_peer_frame
from kvctl_node.protocol.messages import (
    PeerFrame,
    PeerMessage,
)
from tests.virtual_time import VirtualTime

Link = tuple[str, str]
"""(sender, receiver)."""


@dataclass(frozen=True)
class LinkQuality:
    """What one direction of a link does to messages. Rates are probabilities."""

    loss: float = 0.0
    duplicates: float = 0.0
    stragglers: float = 0.0
    """Messages that leave their frame and arrive up to `straggle_s` later."""
    straggle_s: float = 0.0
    delay_s: float = 0.0
    """Added to the latency of every frame."""


PERFECT = LinkQuality()


class VirtualNetwork:
    """All links. `deliver` is told of every frame that arrives: receiver, frame."""

    def __init__(
        self,
        time: VirtualTime,
        rng: random.Random,
        deliver: Callable[[str, PeerFrame], None],
        *,
        latency_s: tuple[float, float],
    ) -> None:
        self.latency_s = latency_s
        self.cut: set[Link] = set()
        """Directed links on which every message is lost; the connection itself stays up."""
        self.quality: dict[Link, LinkQuality] = {}
        self.usual = PERFECT
        """The quality of links that `quality` does not name."""
        self.lost = 0
        self.tap: Callable[[str, str, PeerMessage], bool] | None = None
        """Sees every message (sender, receiver, message); False loses it."""
        self.witness: Callable[[str, str, PeerMessage, float | None], None] | None = None
        """Told of every message and when it will arrive, None: never."""
        self._time = time
        self._rng = rng
        self._deliver = deliver

    def send(
        self, sender: str, receiver: str, epoch: int, messages: list[PeerMessage], clock: bytes
    ) -> None:
        """Take a turn's messages to one receiver, under the sender's trace clock."""
        quality = self.quality.get((sender, receiver), self.usual)
        together: list[PeerMessage] = []
        alone: list[PeerMessage] = []
        for message in messages:
            if self._loses(sender, receiver, message, quality):
                self.lost += 1
                if self.witness is not None:
                    self.witness(sender, receiver, message, None)
                continue
            straggles = quality.stragglers and self._rng.random() < quality.stragglers
            (alone if straggles else together).append(message)
            if quality.duplicates and self._rng.random() < quality.duplicates:
                alone.append(message)
        base_s = self._time.time_s + quality.delay_s
        if together:
            self._carry(PeerFrame(sender, epoch, together, clock), receiver, base_s)
        for message in alone:
            later_s = base_s + self._rng.uniform(0, quality.straggle_s)
            self._carry(PeerFrame(sender, epoch, [message], clock), receiver, later_s)

    def _loses(
        self, sender: str, receiver: str, message: PeerMessage, quality: LinkQuality
    ) -> bool:
        if self.tap is not None and not self.tap(sender, receiver, message):
            return True
        if (sender, receiver) in self.cut:
            return True
        return bool(quality.loss) and self._rng.random() < quality.loss

    def _carry(self, frame: PeerFrame, receiver: str, base_s: float) -> None:
        data = encode_peer_frame(frame)
        arrives_s = base_s + self._rng.uniform(*self.latency_s)
        if self.witness is not None:
            for message in frame.messages:
                self.witness(frame.sender, receiver, message, arrives_s)
        self._time.at(arrives_s, lambda: self._deliver(receiver, decode_peer_frame(data)))
