"""How many cells a text takes, and where it is cut: the same as the terminal has it."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from wcwidth import wcswidth

from kvctl.text.cells import (
    MARKS_MAX,
    cut,
    cut_middle,
    fitted,
    steady,
    width_of,
    wrapped,
)

FAMILY = "\U0001f468\u200d\U0001f469\u200d\U0001f467"
FLAG = "\U0001f1e9\U0001f1ea"
SKIN = "\U0001f44d\U0001f3fd"
MARKED = ("e\u0301", "\u2764\ufe0f", "\u093e")
PIECES = (FAMILY, FLAG, SKIN, *MARKED, "中", "\x1b[2J", "\u202e", "\n")

texts = st.lists(st.one_of(st.text(max_size=4), st.sampled_from(PIECES)), max_size=8).map("".join)
widths = st.integers(1, 12)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cart:7", "cart:7"),
        ("größe 中文 🛒", "größe 中文 🛒"),
        ("e\u0301t\u00e9", "e\u0301t\u00e9"),
        ("สวัสดี", "สวัสดี"),
        ("\x1b[2J", r"\x1b[2J"),
        (FAMILY, "\U0001f468\\u200d\U0001f469\\u200d\U0001f467"),
        (FLAG, r"\U0001f1e9\U0001f1ea"),
        ("\u2764\ufe0f", "\u2764\\ufe0f"),
        ("1\ufe0f\u20e3", r"1\ufe0f\u20e3"),
        (SKIN, "\U0001f44d\\U0001f3fd"),
        ("\u0301e", r"\u0301e"),
        (" \u0301", r" \u0301"),
        ("e" + "\u0301" * (MARKS_MAX + 1), "e" + "\u0301" * MARKS_MAX + r"\u0301"),
    ],
)
def test_what_has_no_certain_width_is_shown_by_its_code(text: str, shown: str) -> None:
    assert steady(text) == shown


def test_of_every_character_that_is_shown_all_agree_how_wide_it_is() -> None:
    """All: we, the screen that lays out, and the tables that terminals use."""
    differing = []
    for code in range(sys.maxunicode + 1):
        text = "a" + chr(code)
        if (
            text.isprintable()
            and steady(text) == text
            and not width_of(text) == cell_len(text) == wcswidth(text)
        ):
            differing.append(hex(code))
    assert differing == []


@given(texts)
def test_steady_text_is_printable_stays_as_it_is_and_is_as_wide_as_the_terminal_has_it(
    text: str,
) -> None:
    shown = steady(text)
    assert shown.isprintable()
    assert steady(shown) == shown
    assert width_of(shown) == cell_len(shown) == wcswidth(shown)


@given(texts, widths)
def test_cut_text_has_room_and_only_cut_text_has_a_mark(text: str, width: int) -> None:
    shown = steady(text)
    for made in (cut(shown, width, "…"), cut_middle(shown, width, "…")):
        assert cell_len(made) <= width
        assert (made == shown) == (cell_len(shown) <= width)
    assert cell_len(fitted(shown, width)) == width
    assert cell_len(fitted(shown, width, right=True)) == width


@given(texts, widths)
def test_wrapped_text_is_complete_and_every_piece_has_room(text: str, width: int) -> None:
    shown = steady(text)
    pieces = wrapped(shown, max(2, width))
    assert "".join(pieces) == shown
    assert all(cell_len(piece) <= max(2, width) for piece in pieces)


@given(texts, widths)
def test_no_mark_is_cut_off_its_letter(text: str, width: int) -> None:
    shown = steady(text)
    for piece in (*wrapped(shown, width), cut(shown, width), cut_middle(shown, width)):
        assert steady(piece) == piece
