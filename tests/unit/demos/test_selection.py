"""The little language that picks values out of a command's JSON."""

from __future__ import annotations

from typing import Any

import pytest

from kvctl.demos.selection import (
    NothingThereError,
    SelectionSyntaxError,
    check_selection,
    select,
)

DOCUMENT: dict[str, Any] = {
    "siblings": [{"value": "bread", "dot": ["n1", 2]}, {"value": "milk", "dot": ["n4", 1]}],
    "faults": [{"id": "f1", "hits": 3}, {"id": "f2", "hits": 4}],
    "views": {"n1": {"n-2": {"state": "suspect"}}},
    "empty": [],
}


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("siblings[*].value", ["bread", "milk"]),
        ("siblings[1].dot", ["n4", 1]),
        ("siblings[*].dot[0]", ["n1", "n4"]),
        ("faults[id=f2].hits", 4),
        ("views.n1.n-2.state", "suspect"),
        ("sum(faults[*].hits)", 7),
        ("max( faults[*].hits )", 4),
        ("count(siblings)", 2),
        ("count(empty)", 0),
        ("sum(empty[*].hits)", 0),
    ],
)
def test_a_selection_finds_what_it_names(text: str, value: Any) -> None:
    assert select(DOCUMENT, text) == value


def test_a_list_of_lines_is_selected_from_directly() -> None:
    assert select([{"key": "a"}, {"key": "b"}], "[*].key") == ["a", "b"]
    assert select([], "[*].key") == []


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "siblings[2].value",
        "siblings[*].color",
        "faults[id=f9].hits",
        "views[*].n1",
        "faults.id",
        "max(empty)",
        "count(views)",
        "sum(siblings[*].value)",
        "views[0]",
    ],
)
def test_what_is_not_there_is_not_false_but_nothing_to_look_at(text: str) -> None:
    with pytest.raises(NothingThereError):
        select(DOCUMENT, text)


@pytest.mark.parametrize("text", ["", "a b", "a[", "a[x]", "median(a)", "sum(", ".[", "a]"])
def test_a_malformed_selection_is_refused_with_a_sentence(text: str) -> None:
    with pytest.raises(SelectionSyntaxError) as caught:
        check_selection(text)
    assert caught.value.message.endswith(".")
