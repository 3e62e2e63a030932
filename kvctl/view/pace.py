"""How often a live picture is renewed: every second while anything happens, else every other.

In a quiet cluster nothing changes but heartbeats, and each look at them is paid for by every node
and by the screen. What does happen tells of itself: nodes publish events, and the first one after a
quiet time is a reason to ask at once.
"""

from __future__ import annotations

from kvctl.view.observation import NodeAnswered, NodeEvent

BUSY_INTERVAL_MS = 1000
QUIET_INTERVAL_MS = 2000
QUIET_AFTER_MS = 10_000
"""So long after the last thing that happened, a cluster counts as quiet."""
SOONEST_MS = 100
"""A node is never asked again sooner than this."""
LINK_EVENTS = frozenset(("peer_reachable", "peer_unreachable"))
"""`peer` of such an event is worth a question."""


def is_routine(event: NodeEvent) -> bool:
    """Whether the event is told all the time: background comparisons that found nothing."""
    said = event.fields
    if event.kind == "merkle_round":
        return said.get("trigger") == "background" and said.get("state") == "equal"
    return event.kind == "merkle_built" and not said.get("damaged") and not said.get("drifted")


class Pace:
    """What has happened lately, by the clock of whoever watches (wall-clock milliseconds)."""

    def __init__(self, now_ms: int) -> None:
        self._happened_ms = now_ms

    def on_answer(self, answer: NodeAnswered, now_ms: int) -> None:
        """Look whether the node tells of anything that goes on."""
        if (
            answer.operations
            or answer.faults
            or any(queue.get("count") for queue in answer.hints)
            or any(not pair.get("finished", True) for pair in answer.repair)
            or answer.snapshot.get("in_flight")
        ):
            self._happened_ms = now_ms

    def on_event(self, event: NodeEvent, now_ms: int) -> bool:
        """True if it ends a quiet time: whoever sees it should look at once."""
        if is_routine(event):
            return False
        was_quiet = self.is_quiet(now_ms)
        self._happened_ms = now_ms
        return was_quiet

    def is_quiet(self, now_ms: int) -> bool:
        """Whether nothing has happened for a while."""
        return now_ms - self._happened_ms >= QUIET_AFTER_MS

    def until_next_round_s(self, now_ms: int) -> float:
        """Seconds until the next round of questions that is not this very one.

        Rounds begin when a second of the clock begins (an even one, in quiet times), for all nodes:
        so a picture is painted once for all their answers and all the ages that have grown.
        """
        interval_ms = QUIET_INTERVAL_MS if self.is_quiet(now_ms) else BUSY_INTERVAL_MS
        wait_ms = interval_ms - now_ms % interval_ms
        return (wait_ms if wait_ms >= SOONEST_MS else wait_ms + interval_ms) / 1000
