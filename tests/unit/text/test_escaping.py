"""Whatever is stored, showing it drives no terminal, and a shown command means what it says."""

from __future__ import annotations

import json
import os
import shutil
import subprocess

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.text.escaping import command, printable, printable_json, quoted

BASH = shutil.which("bash")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("cart[red]", "cart[red]"),
        ("größe 中文 🛒", "größe 中文 🛒"),
        ("\x1b[2J", r"\x1b[2J"),
        ("a\nb\tc\r", r"a\nb\tc\r"),
        ("\u202eabc", r"\u202eabc"),
        ("\x9b31m", r"\x9b31m"),
        ("\u2028", r"\u2028"),
        ("\U000e0041", r"\U000e0041"),
        ("\udcff", r"\xff"),
        ("a\\b", "a\\b"),
    ],
)
def test_what_cannot_be_printed_is_shown_by_its_code(text: str, shown: str) -> None:
    assert printable(text) == shown


@given(st.text())
def test_shown_text_is_printable_and_on_one_line(text: str) -> None:
    assert printable(text).isprintable()


@pytest.mark.skipif(BASH is None, reason="no bash here to read the words")
@given(st.lists(st.text(st.characters(exclude_characters="\0")), max_size=3))
def test_a_shell_reads_back_the_very_words(words: list[str]) -> None:
    words = [
        word.encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape") for word in words
    ]
    assert BASH is not None
    line = command(BASH, "-c", 'printf "%s\\0" "$@"', "bash", *words)
    assert line.isprintable()
    done = subprocess.run([BASH, "-c", line], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[: len(words)] == ([os.fsencode(word) for word in words] or [])


@pytest.mark.parametrize(
    ("word", "shown"),
    [("user:1", "user:1"), ("it's", "'it'\"'\"'s'"), ("$(id)", "'$(id)'"), ("a\n1", r"$'a\n1'")],
)
def test_a_word_is_quoted_only_where_a_shell_would_read_something_else(
    word: str, shown: str
) -> None:
    assert quoted(word) == shown


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_json_is_shown_as_another_spelling_of_the_same_document(text: str) -> None:
    document = msgspec.json.encode({"key": text}).decode()
    shown = printable_json(document)
    assert shown.isprintable()
    assert json.loads(shown) == {"key": text}


def test_a_layout_of_our_own_is_kept() -> None:
    assert printable("a\tb\nc\x1b", keep="\n\t") == "a\tb\nc\\x1b"
