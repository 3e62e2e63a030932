"""The queue behind injected delays: order, time, and a bound on memory."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.runtime.link_delays import FRAME_OVERHEAD_BYTES, HeldFrame, LinkDelays


def frame(number: int, size_bytes: int = 1) -> HeldFrame:
    return HeldFrame("n2", bytes([number % 256]) * size_bytes, 1)


@given(st.lists(st.integers(0, 20), max_size=60), st.integers(0, 25))
def test_frames_leave_when_due_earliest_first_and_in_order_among_equals(
    dues_s: list[int], now_s: int
) -> None:
    delays = LinkDelays()
    for number, due_s in enumerate(dues_s):
        assert delays.hold(HeldFrame("n2", b"x", number), due_s)
    left = [held.messages for held in delays.take_due(now_s)]
    due = [number for number, due_s in enumerate(dues_s) if due_s <= now_s]
    assert left == sorted(due, key=lambda number: (dues_s[number], number))
    waiting = [due_s for due_s in dues_s if due_s > now_s]
    assert delays.next_s() == min(waiting, default=None)
    assert delays.bytes == len(waiting) * (1 + FRAME_OVERHEAD_BYTES)


def test_what_does_not_fit_is_refused_and_there_is_room_again_later() -> None:
    cost_bytes = 100 + FRAME_OVERHEAD_BYTES
    delays = LinkDelays(bytes_max=2 * cost_bytes)
    assert delays.hold(frame(1, 100), 1.0)
    assert delays.hold(frame(2, 100), 2.0)
    assert not delays.hold(frame(3, 100), 1.5)
    assert [held.data[0] for held in delays.take_due(1.0)] == [1]
    assert delays.hold(frame(4, 100), 3.0)
    assert [held.data[0] for held in delays.take_due(9.0)] == [2, 4]
    assert (delays.bytes, len(delays), delays.next_s()) == (0, 0, None)
