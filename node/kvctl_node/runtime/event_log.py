"""Structured events: one JSON line each, in a file and on the event socket.

    {"at": 1763878461123, "node": "n1", "generation": 4, "seq": 17, "kind": "hint_stored",
     "clock": {"n1": 17, "n3": 9}, ...}

`at` is in wall-clock milliseconds. `seq` counts from 1 in each generation of the node, so
(generation, seq) orders a node's events whatever its clock did, and a gap shows what a slow
subscriber missed. `clock` tells across nodes which event could have led to which
(`kvctl_node.causality.trace_clock`).

The core decides what is worth telling and when (`Outbox.record`). The events of a turn are written
after its commit, so nothing is told that did not happen, and before anything of it is sent, so
whoever has an answer finds what led to it.

The file is for looking back, the PUB socket (topic = kind) for watching live. Neither may hurt the
store: a full disk or a slow subscriber costs events, which are counted, and nothing else.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import msgspec

from kvctl_node.outbox import Event
from kvctl_node.ports import Instant
from kvctl_node.runtime.rotating_file import RotatingFile

EVENT_FILE_NAME = "events.jsonl"
EVENT_FILE_BYTES_MAX = 8 * 1024 * 1024
EVENT_FILES_KEPT = 3

logger = logging.getLogger(__name__)


class EventLog:
    """Writes and publishes the events of one node. `publish(topic, line)` must not block."""

    def __init__(
        self,
        directory: Path,
        *,
        node: str,
        generation: int,
        publish: Callable[[bytes, bytes], None],
        bytes_max: int = EVENT_FILE_BYTES_MAX,
        files_kept: int = EVENT_FILES_KEPT,
    ) -> None:
        self.lost = 0
        """Events that could not be written to the file."""
        self.sequence = 0
        """`seq` of the latest event."""
        self._node = node
        self._generation = generation
        self._publish = publish
        self._encode = msgspec.json.Encoder().encode
        self._file = RotatingFile(
            directory / EVENT_FILE_NAME, bytes_max=bytes_max, files_kept=files_kept
        )

    def write(self, events: list[Event], now: Instant) -> None:
        """Write and publish the events of one turn, in order."""
        lines = []
        for event in events:
            line = self._line(event, now)
            lines.append(line)
            self._publish(event.kind.encode("utf-8"), line)
        try:
            self._file.append(b"\n".join(lines) + b"\n")
        except OSError as error:
            self.lost += len(events)
            logger.warning("events could not be written: %s", error.strerror)

    def close(self) -> None:
        """Release the file."""
        self._file.close()

    def _line(self, event: Event, now: Instant) -> bytes:
        self.sequence += 1
        envelope = {
            "at": now.wall_ms,
            "node": self._node,
            "generation": self._generation,
            "seq": self.sequence,
            "kind": event.kind,
            "clock": event.clock,
        }
        # Twice: it stands first in the line, and no field can take its place.
        return self._encode({**envelope, **event.fields, **envelope})
