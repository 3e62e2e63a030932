"""The order of one node's events, and what a gap in it means.

`seq` counts from 1 in each generation, so (generation, seq) orders a node's events whatever its
clock did. A watcher that finds a gap has missed events: it takes a new snapshot instead of guessing
what they said.
"""

from __future__ import annotations

from typing import NamedTuple


class Place(NamedTuple):
    """Where an event stands among those of its node."""

    generation: int
    seq: int


def is_news(last: Place | None, place: Place) -> bool:
    """Whether an event comes after the last one seen; a duplicate or a late one does not."""
    return last is None or place > last


def missed_before(last: Place | None, place: Place) -> int:
    """How many events are known to have been missed between the last one seen and this one.

    Nothing is known before the first event a watcher sees, nor of the end of a generation that is
    over; within a generation and at the start of one every number is accounted for.
    """
    if last is None or place <= last:
        return 0
    if place.generation == last.generation:
        return place.seq - last.seq - 1
    return place.seq - 1
