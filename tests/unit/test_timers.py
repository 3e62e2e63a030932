"""The deadline wheel reports everything once, never early, at most one bucket late."""

from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.timers import RESOLUTION_MS, DeadlineWheel


@given(st.lists(st.integers(0, 5000), max_size=50), st.lists(st.integers(1, 400), max_size=60))
def test_every_deadline_is_reported_once_in_time(deadlines, steps):
    wheel = DeadlineWheel()
    for identifier, deadline_ms in enumerate(deadlines):
        wheel.add(identifier, deadline_ms)
    reported: list[int] = []
    now_ms = 0
    for step_ms in [*steps, 10_000]:
        now_ms += step_ms
        due = wheel.due(now_ms)
        assert all(deadlines[one] < now_ms for one in due), "never early"
        reported += due
        overdue = [
            one
            for one, deadline_ms in enumerate(deadlines)
            if deadline_ms + RESOLUTION_MS <= now_ms and one not in reported
        ]
        assert not overdue
        assert wheel.next_ms is None or wheel.next_ms > now_ms
    assert sorted(reported) == list(range(len(deadlines)))
