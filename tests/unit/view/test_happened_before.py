"""Causes by trace clocks, and the log for ShiViz."""

from __future__ import annotations

import json
import re
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from kvctl.view.happened_before import (
    SHIVIZ_PATTERN,
    causes,
    clock_text,
    key_of,
    own_count,
    shiviz_log,
)
from kvctl.view.state import TimelineEvent
from tests.unit.view.cluster_story import BEGAN_MS

LIFE = 1 << 20


def told(node: str, seq: int, generation: int = 1, **others: int) -> TimelineEvent:
    own = (generation - 1) * LIFE + seq
    return TimelineEvent(BEGAN_MS, node, generation, seq, "kind", {}, {**others, node: own})


def led_to(events: list[TimelineEvent]) -> dict[str, list[str]]:
    return {
        f"{node}{seq}": sorted(f"{one.node}{one.seq}" for one in found)
        for (node, _, seq), found in causes(events).items()
    }


@st.composite
def runs(draw: st.DrawFn) -> list[TimelineEvent]:
    """Events of three nodes that tell each other now and then what they know."""
    clocks: dict[str, dict[str, int]] = {name: {} for name in ("n1", "n2", "n3")}
    events = []
    for _ in range(draw(st.integers(1, 25))):
        node, other = draw(st.permutations(sorted(clocks)))[:2]
        if draw(st.booleans()):
            for name, count in clocks[other].items():
                clocks[node][name] = max(clocks[node].get(name, 0), count)
        clocks[node][node] = clocks[node].get(node, 0) + 1
        events.append(
            TimelineEvent(BEGAN_MS, node, 1, clocks[node][node], "k", {}, dict(clocks[node]))
        )
    return events


def test_what_a_node_has_newly_heard_of_is_what_led_to_its_event() -> None:
    events = [told("n3", 1), told("n1", 1), told("n1", 2, n3=1), told("n1", 3, n3=1)]
    assert led_to(events) == {"n31": [], "n11": [], "n12": ["n31"], "n13": []}


def test_what_came_before_another_cause_is_no_cause_of_its_own() -> None:
    events = [told("n3", 1), told("n2", 1, n3=1), told("n1", 1, n2=1, n3=1)]
    assert led_to(events)["n11"] == ["n21"], "n2 had it from n3"


def test_an_event_that_is_not_here_is_stood_for_by_the_one_before_it() -> None:
    assert led_to([told("n2", 3), told("n1", 1, n2=5)])["n11"] == ["n23"]
    assert led_to([told("n2", 6), told("n1", 1, n2=5)])["n11"] == []


def test_events_without_a_clock_have_no_causes_and_are_none() -> None:
    silent = TimelineEvent(BEGAN_MS, "n2", 1, 1, "kind", {}, {})
    assert causes([silent, told("n1", 1, n2=1)]) == {("n1", 1, 1): []}


@given(runs())
def test_along_causes_and_columns_one_reaches_exactly_what_happened_before(
    events: list[TimelineEvent],
) -> None:
    by_key = {key_of(event): event for event in events}
    led = causes(events)
    for event in events:
        reached, waiting = set(), [event]
        while waiting:
            one = waiting.pop()
            before = by_key.get((one.node, 1, one.seq - 1))
            for earlier in [*led[key_of(one)], *([before] if before else [])]:
                if key_of(earlier) not in reached:
                    reached.add(key_of(earlier))
                    waiting.append(earlier)
        happened_before = {
            key_of(one)
            for one in events
            if one is not event and own_count(one) <= event.clock.get(one.node, 0)
        }
        assert reached == happened_before


@given(runs(), st.integers(1, 5))
def test_every_host_of_a_shiviz_log_counts_from_one_and_knows_only_what_is_in_it(
    events: list[TimelineEvent], kept: int
) -> None:
    part = events[-kept:]
    counts: dict[str, int] = defaultdict(int)
    log = shiviz_log(part, {key_of(event): "a=1" for event in part})
    found = list(re.finditer(SHIVIZ_PATTERN.replace("(?<", "(?P<"), log))
    assert len(found) == len(part)
    clocks = []
    for one in found:
        clock = json.loads(one["clock"])
        counts[one["host"]] += 1
        assert clock[one["host"]] == counts[one["host"]]
        assert one["event"] == "k a=1"
        clocks.append(clock)
    assert all(count <= counts[host] for clock in clocks for host, count in clock.items())


def test_a_second_life_goes_on_in_the_log_where_the_first_ended() -> None:
    events = [told("n1", 1), told("n1", 2), told("n1", 1, generation=2), told("n2", 1, n1=LIFE + 1)]
    assert [line for line in shiviz_log(events, {}).splitlines() if "{" in line] == [
        'n1 {"n1":1}',
        'n1 {"n1":2}',
        'n1 {"n1":3}',
        'n2 {"n1":3,"n2":1}',
    ]


def test_a_clock_is_read_by_people_with_the_life_apart_from_the_count() -> None:
    assert clock_text({"n2": 3, "n1": LIFE + 7}) == "n1:7 (life 2) n2:3"
