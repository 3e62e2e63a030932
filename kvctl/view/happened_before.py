"""Which events could have led to which, by their trace clocks; and the events as a ShiViz log.

An event's clock says how many events of each node came before it. A node that tells something new
knows more of the others than at its own event before; the newest events behind that knowledge are
its *causes*, less those that came before another of them. They are what an arrow is drawn from.

    n3  node_started {n3: 1}
                     ╲
    n1                member_alive {n1: 4, n3: 1}       its cause is n3's node_started

A log for ShiViz (https://bestchai.bitbucket.io/shiviz) must begin at 1 at every host and leave no
number out. Trace clocks begin anew, higher up, with every life of a node, and a timeline is part of
a longer story; so all counters are numbered again, by the events that are in the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence

import msgspec

from kvctl.text.escaping import printable
from kvctl.view.state import TimelineEvent
from kvctl_node.causality.trace_clock import EVENTS_PER_LIFE

SHIVIZ_PATTERN = r"(?<host>\S+) (?<clock>\{.*\})\n(?<event>.*)"
"""What to tell ShiViz its log looks like."""

EventKey = tuple[str, int, int]


def key_of(event: TimelineEvent) -> EventKey:
    """Node, generation, number: no two events share it."""
    return event.node, event.generation, event.seq


def own_count(event: TimelineEvent) -> int:
    """The event's own entry in its clock; 0 if it has no clock."""
    return event.clock.get(event.node, 0)


def clock_text(clock: Mapping[str, int]) -> str:
    """A clock for people: the count of each node, and which of its lives it is of."""
    words = []
    for node, count in sorted(clock.items()):
        life, within = divmod(count, EVENTS_PER_LIFE)
        words.append(f"{node}:{within}" + (f" (life {life + 1})" if life else ""))
    return " ".join(words)


class Histories:
    """The events of every node that have a clock, in the order of their own entries."""

    def __init__(self, events: Sequence[TimelineEvent]) -> None:
        self._events: dict[str, list[TimelineEvent]] = {}
        for event in events:
            if own_count(event):
                self._events.setdefault(event.node, []).append(event)
        self._counts: dict[str, list[int]] = {}
        for node, known in self._events.items():
            known.sort(key=own_count)
            self._counts[node] = [own_count(event) for event in known]

    def place(self, node: str, count: int) -> int:
        """How many of the events of a node that are here are not later than its `count`-th."""
        return bisect_right(self._counts.get(node, ()), count)

    def causes_of(self, event: TimelineEvent) -> list[TimelineEvent]:
        """The newest events of other nodes that came before this, and not before the last one."""
        place = self.place(event.node, own_count(event) - 1)
        before = self._events[event.node][place - 1].clock if place else {}
        found = []
        for node, count in event.clock.items():
            newest = self.place(node, count)
            if node != event.node and newest > self.place(node, before.get(node, 0)):
                found.append(self._events[node][newest - 1])
        return [
            one
            for one in found
            if not any(
                other is not one and other.clock.get(one.node, 0) >= own_count(one)
                for other in found
            )
        ]


def causes(events: Sequence[TimelineEvent]) -> Mapping[EventKey, list[TimelineEvent]]:
    """The causes of each event that has a clock."""
    histories = Histories(events)
    return {key_of(event): histories.causes_of(event) for event in events if own_count(event)}


def shiviz_log(events: Sequence[TimelineEvent], details: Mapping[EventKey, str]) -> str:
    """The events that have a clock, two lines each, as `SHIVIZ_PATTERN` says."""
    histories = Histories(events)
    lines = []
    for event in events:
        if not own_count(event):
            continue
        numbered = {node: histories.place(node, count) for node, count in event.clock.items()}
        clock = {_host(node): place for node, place in sorted(numbered.items()) if place}
        told = f"{printable(event.kind)} {details.get(key_of(event), '')}".rstrip()
        lines.append(f"{_host(event.node)} {msgspec.json.encode(clock).decode()}\n{told}")
    return "\n".join(lines) + "\n"


def _host(node: str) -> str:
    """A name as the pattern takes it: without blanks."""
    return printable(node).replace(" ", "_")
