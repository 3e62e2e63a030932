"""From the messages of a turn to frames: one a destination, several where it gets too large."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from kvctl_node.protocol.codec import MESSAGES_PER_FRAME_MAX
from kvctl_node.runtime.traffic_counters import TrafficCounters

_Message = TypeVar("_Message")

logger = logging.getLogger(__name__)


def split_into_frames(
    messages: list[_Message],
    encode: Callable[[list[_Message]], bytes],
    bytes_max: int,
    traffic: TrafficCounters,
) -> list[tuple[list[_Message], bytes]]:
    """Encode messages as one frame, or by halves as several if it gets too large.

    Half of what a receiver accepts (`bytes_max`) is the aim; a single message may be as large as
    that. A message that is larger still is dropped and counted.
    """
    if len(messages) <= MESSAGES_PER_FRAME_MAX:
        data = encode(messages)
        if len(data) <= bytes_max // 2:
            return [(messages, data)]
        if len(messages) == 1:
            if len(data) <= bytes_max:
                return [(messages, data)]
            traffic.dropped["oversized"] += 1
            logger.error("dropped a message of %d bytes: over the frame limit", len(data))
            return []
    middle = len(messages) // 2
    return [
        *split_into_frames(messages[:middle], encode, bytes_max, traffic),
        *split_into_frames(messages[middle:], encode, bytes_max, traffic),
    ]
