"""The trace clock: what came before what, carried on frames, bounded, and nearly free."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.causality.trace_clock import (
    ENCODED_BYTES_MAX,
    ENTRIES_MAX,
    EVENTS_PER_LIFE,
    FRAME_ENTRIES_MAX,
    TraceClock,
    decode_trace_clock,
)
from kvctl_node.errors import ProtocolError

LONGEST_NAME = "n" + "x" * 27


def test_every_event_counts_one_up_in_the_own_entry_and_nothing_else_does() -> None:
    n1, n2 = TraceClock("n1"), TraceClock("n2")
    assert n1.advance() == {"n1": 1}
    n2.merge("n1", n1.encoded())
    assert n2.advance() == {"n1": 1, "n2": 1}
    n1.merge("n2", n2.encoded())
    assert n1.advance() == {"n1": 2, "n2": 1}


def test_an_event_is_known_through_a_node_that_tells_nothing_itself() -> None:
    n1, n2, n3 = TraceClock("n1"), TraceClock("n2"), TraceClock("n3")
    n1.advance()
    n2.merge("n1", n1.encoded())
    n3.merge("n2", n2.encoded())
    assert n3.advance()["n1"] == 1


def test_the_stamp_of_an_event_does_not_change_afterwards() -> None:
    clock = TraceClock("n1")
    stamp = clock.advance()
    clock.advance()
    assert stamp == {"n1": 1}


def test_a_later_life_never_repeats_a_count_of_an_earlier_one() -> None:
    earlier, later = TraceClock("n1", generation=3), TraceClock("n1", generation=4)
    for _ in range(1000):
        last = earlier.advance()["n1"]
    assert later.advance()["n1"] > last
    assert TraceClock("n1", generation=1).advance() == {"n1": 1}
    assert EVENTS_PER_LIFE > 1_000_000


def test_the_encoded_clock_is_made_anew_only_after_a_change() -> None:
    clock = TraceClock("n1")
    clock.advance()
    first = clock.encoded()
    assert clock.encoded() is first
    other = TraceClock("n2")
    other.advance()
    clock.merge("n2", other.encoded())
    second = clock.encoded()
    assert second != first
    clock.merge("n2", other.encoded())
    assert clock.encoded() is second


def test_the_same_bytes_from_a_sender_are_not_looked_into_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock, other = TraceClock("n1"), TraceClock("n2")
    other.advance()
    clock.merge("n2", other.encoded())
    monkeypatch.setattr("kvctl_node.causality.trace_clock.decode_trace_clock", None)
    clock.merge("n2", bytes(other.encoded()))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3), st.booleans()), max_size=60))
def test_a_clock_knows_exactly_the_events_that_came_before(
    steps: list[tuple[int, int, bool]],
) -> None:
    clocks = [TraceClock(f"n{index}") for index in range(4)]
    pasts: list[dict[str, int]] = [{} for _ in range(4)]
    for sender, receiver, tells in steps:
        if tells:
            stamp = clocks[sender].advance()
            pasts[sender][f"n{sender}"] = pasts[sender].get(f"n{sender}", 0) + 1
            assert {name: at for name, at in stamp.items() if at} == pasts[sender]
        if sender != receiver:
            clocks[receiver].merge(f"n{sender}", clocks[sender].encoded())
            for name, at in pasts[sender].items():
                pasts[receiver][name] = max(at, pasts[receiver].get(name, 0))
        clocks[receiver].check_invariants()


def test_a_frame_carries_a_bounded_clock_with_the_own_entry_and_the_latest_changes() -> None:
    clock = TraceClock("own")
    clock.advance()
    for index in range(2 * ENTRIES_MAX):
        other = TraceClock(f"{LONGEST_NAME}{index:04d}"[-32:], generation=1000)
        other.advance()
        clock.merge(other.name, other.encoded())
    carried = decode_trace_clock(clock.encoded())
    assert len(carried) == FRAME_ENTRIES_MAX
    assert carried["own"] == 1
    assert f"{LONGEST_NAME}{2 * ENTRIES_MAX - 1:04d}" in carried
    assert len(clock.encoded()) < ENCODED_BYTES_MAX
    assert len(clock.advance()) <= ENTRIES_MAX


@pytest.mark.parametrize(
    "data", [b"\xc1", b"\x93\x01\x02\x03", b"\x81\xa2n1\xff", b"\x81\x01\x02", bytes(5000)]
)
def test_bytes_that_are_no_clock_are_refused(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        TraceClock("n1").merge("n2", data)
