"""The oracle of trace clocks: keeps vector clocks of its own, and holds every event to them.

A node's events are judged as they are recorded, in the order of its turn: each must count one up
at its node, for ever, and know of every event that its node knew of, or that the sender of a frame
knew of when the frame left.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from kvctl_node.outbox import Event
from kvctl_node.protocol.messages import (
    PeerFrame,
)
from tests.simulation.violation import Violation

Clock = dict[str, int]


class TraceOracle:
    """All nodes' clocks as they should be, at least."""

    def __init__(self) -> None:
        self._clocks: dict[str, Clock] = {}
        self._own: dict[str, int] = {}
        """Node → its count at its latest event, of all its lives."""
        self._judged: dict[str, int] = {}
        """Node → events of its present turn that were judged."""
        self._sent: dict[tuple[str, bytes], Clock] = {}
        """(sender, clock as sent) → what the sender knew."""
        self.arrows = 0
        """Frames that brought news."""

    def on_start(self, name: str) -> None:
        """A process begins, and knows nothing of others."""
        self._clocks[name], self._judged[name] = {}, 0

    def on_turn_ended(self, name: str) -> None:
        """Its events were told, or are gone with the process."""
        self._judged[name] = 0

    def judge(self, name: str, events: Sequence[Event]) -> None:
        """Judge those events of a turn that are new. Raises `Violation`."""
        clock = self._clocks[name]
        for event in events[self._judged[name] :]:
            own = event.clock[name]
            last = self._own.get(name, 0)
            if own != last + 1 and (name in clock or own <= last):
                raise Violation(22, b"", f"{name} counts {own} after {last} at {event.kind}.")
            self._own[name] = clock[name] = own
            missing = {one: at for one, at in clock.items() if event.clock.get(one, -1) < at}
            if missing:
                raise Violation(
                    22, b"", f"{event.kind} at {name} has {event.clock} and lacks {missing}."
                )
        self._judged[name] = len(events)

    def on_send(self, name: str, encoded: bytes) -> None:
        """A turn's frames leave, with this clock."""
        self._sent[name, encoded] = dict(self._clocks[name])

    def on_frame(self, name: str, frame: PeerFrame) -> None:
        """A node is about to handle a frame."""
        theirs: Mapping[str, int] = self._sent.get((frame.sender, frame.clock), {})
        clock = self._clocks[name]
        news = {one: at for one, at in theirs.items() if clock.get(one, -1) < at}
        self.arrows += bool(news)
        clock.update(news)
