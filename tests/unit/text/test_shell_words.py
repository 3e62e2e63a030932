"""A shown command is read as it was meant."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.text.escaping import command
from kvctl.text.shell_words import words_of


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1))
def test_what_is_written_as_a_command_is_read_as_the_same_words(words: list[str]) -> None:
    assert words_of(command(*words)) == words


@given(st.lists(st.text("ab \\'\"$()`\n*~", max_size=6), min_size=1))
def test_what_other_programs_quote_is_read_too(words: list[str]) -> None:
    assert words_of(shlex.join(words)) == words


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("kill  n1 ", ["kill", "n1"]),
        ("put k $(id)", ["put", "k", "$(id)"]),
        ("put k 'it'\"'\"'s'", ["put", "k", "it's"]),
        (r'put k "a \"b\" \n"', ["put", "k", r'a "b" \n']),
        (r"put k $'a\033\x41\n'", ["put", "k", "a\x1bA\n"]),
        (r"put a\ b ''", ["put", "a b", ""]),
        ("", []),
    ],
)
def test_words_are_those_of_a_shell(line: str, words: list[str]) -> None:
    assert words_of(line) == words


@pytest.mark.parametrize("line", ["put 'a", 'put "a', "put $'a", "put a\\"])
def test_a_missing_quotation_mark_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="quotation mark"):
        words_of(line)
