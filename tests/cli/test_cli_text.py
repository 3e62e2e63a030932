"""Durations, and values as lines of text: the laws behind what is read and printed."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.cli.durations import format_duration, parse_duration
from kvctl.cli.invocation import split_assignments, split_list
from kvctl.cli.output import one_line
from kvctl_node.errors import InvalidRequestError


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("200ms", 0.2),
        ("5s", 5.0),
        ("5", 5.0),
        ("1.5s", 1.5),
        ("10m", 600.0),
        ("1h30m", 5400.0),
        ("2d", 172_800.0),
        (" 3S ", 3.0),
    ],
)
def test_durations_are_numbers_with_units(text: str, seconds: float) -> None:
    assert parse_duration(text, option="--for") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "s", "5x", "-5s", "0s", "5 s", "1m-3s", "nan", "inf", "999d"])
def test_what_is_not_a_positive_duration_is_refused_by_the_options_name(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="--for"):
        parse_duration(text, option="--for")


@given(st.integers(min_value=1, max_value=86_400 * 30))
def test_a_formatted_duration_parses_to_itself(seconds: int) -> None:
    assert parse_duration(format_duration(seconds), option="-") == pytest.approx(seconds)


@given(st.binary())
def test_a_value_on_a_line_can_be_read_back_to_the_byte(value: bytes) -> None:
    letters = {b"t": b"\t", b"n": b"\n", b"r": b"\r", b"\\": b"\\"}

    def unescape(match: re.Match[bytes]) -> bytes:
        mark = match[1]
        return bytes.fromhex(mark[1:].decode()) if mark.startswith(b"x") else letters[mark]

    shown = one_line(value).encode("utf-8")
    assert re.sub(rb"\\(x[0-9a-f]{2}|[tnr\\])", unescape, shown) == value


@given(st.binary())
def test_a_value_on_a_line_breaks_neither_the_line_nor_the_terminal(value: bytes) -> None:
    shown = one_line(value)
    assert not any(ord(c) < 0x20 or 0x7F <= ord(c) < 0xA0 for c in shown)
    shown.encode("utf-8")  # no lone surrogates: any stream can carry it


def test_ordinary_text_stays_as_it_is() -> None:
    assert one_line("grüße, 世界 🙂".encode()) == "grüße, 世界 🙂"
    assert one_line(b"a\tb\\c\n\xff") == "a\\tb\\\\c\\n\\xff"


def test_lists_take_commas_and_repetition_and_name_each_once() -> None:
    assert split_list(["n1,n2", "n3", "n1", " n4 ,"]) == ["n1", "n2", "n3", "n4"]
    assert split_list(None) == []


def test_assignments_take_commas_and_repetition_and_refuse_contradictions() -> None:
    assert split_assignments(["n1=2,n2=1", "n3=x"], option="--zone") == {
        "n1": "2",
        "n2": "1",
        "n3": "x",
    }
    with pytest.raises(InvalidRequestError, match="two values"):
        split_assignments(["n1=2", "n1=3"], option="--zone")
