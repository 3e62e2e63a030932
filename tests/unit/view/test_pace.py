"""How often a live picture is renewed: lively while anything happens, seldom in quiet times."""

from __future__ import annotations

from typing import Any

import pytest

from kvctl.view.observation import NodeAnswered, NodeEvent
from kvctl.view.pace import (
    BUSY_INTERVAL_MS,
    QUIET_AFTER_MS,
    QUIET_INTERVAL_MS,
    SOONEST_MS,
    Pace,
)

BEGAN_MS = 1_700_000_000_000
QUIET_MS = BEGAN_MS + QUIET_AFTER_MS


def event(kind: str, **fields: Any) -> NodeEvent:
    return NodeEvent(BEGAN_MS, "n1", 1, 1, kind, fields)


def answer(**said: Any) -> NodeAnswered:
    snapshot = {"in_flight": said.pop("in_flight", 0)}
    return NodeAnswered(BEGAN_MS, "n1", 1.0, snapshot, **said)


def test_it_grows_quiet_when_nothing_happens() -> None:
    pace = Pace(BEGAN_MS)
    assert not pace.is_quiet(QUIET_MS - 1)
    assert pace.is_quiet(QUIET_MS)
    assert pace.until_next_round_s(BEGAN_MS) == BUSY_INTERVAL_MS / 1000
    assert pace.until_next_round_s(QUIET_MS) == QUIET_INTERVAL_MS / 1000


def test_the_first_event_after_a_quiet_time_is_told_apart() -> None:
    pace = Pace(BEGAN_MS)
    assert not pace.on_event(event("member_suspected"), BEGAN_MS + 1)
    assert pace.on_event(event("member_down"), QUIET_MS + 1)
    assert not pace.on_event(event("member_down"), QUIET_MS + 2)
    assert not pace.is_quiet(QUIET_MS + QUIET_AFTER_MS)


@pytest.mark.parametrize(
    "told",
    [
        event("merkle_built", damaged=0, drifted=0),
        event("merkle_round", trigger="background", state="equal"),
    ],
    ids=lambda told: told.kind,
)
def test_routine_is_no_news(told: NodeEvent) -> None:
    pace = Pace(BEGAN_MS)
    assert not pace.on_event(told, QUIET_MS)
    assert pace.is_quiet(QUIET_MS)


@pytest.mark.parametrize(
    "told",
    [
        event("merkle_built", damaged=1, drifted=0),
        event("merkle_built", damaged=0, drifted=1),
        event("merkle_round", trigger="background", state="repaired"),
        event("merkle_round", trigger="background", state="interrupted"),
        event("merkle_round", trigger="command", state="equal"),
    ],
    ids=lambda told: told.kind,
)
def test_a_difference_and_what_was_asked_for_is_news(told: NodeEvent) -> None:
    pace = Pace(BEGAN_MS)
    assert pace.on_event(told, QUIET_MS)


@pytest.mark.parametrize(
    "said",
    [
        {"operations": ({"op": "put"},)},
        {"faults": ({"id": "f1"},)},
        {"hints": ({"target": "n2", "count": 3},)},
        {"repair": ({"a": "n1", "b": "n2", "finished": False},)},
        {"in_flight": 1},
    ],
    ids=lambda said: next(iter(said)),
)
def test_an_answer_that_tells_of_something_going_on_keeps_it_lively(said: dict[str, Any]) -> None:
    pace = Pace(BEGAN_MS)
    pace.on_answer(answer(**said), QUIET_MS)
    assert not pace.is_quiet(QUIET_MS)


def test_an_answer_without_news_does_not() -> None:
    pace = Pace(BEGAN_MS)
    idle = answer(
        hints=({"target": "n2", "count": 0},), repair=({"a": "n1", "b": "n2", "finished": True},)
    )
    pace.on_answer(idle, QUIET_MS)
    assert pace.is_quiet(QUIET_MS)


def test_rounds_begin_together_on_the_clock_and_never_twice() -> None:
    pace = Pace(BEGAN_MS)
    assert pace.until_next_round_s(BEGAN_MS + 400) == 0.6
    nearly = BEGAN_MS + BUSY_INTERVAL_MS - SOONEST_MS + 1
    assert pace.until_next_round_s(nearly) == pytest.approx(1.099)
    assert pace.until_next_round_s(QUIET_MS + 500) == 1.5
