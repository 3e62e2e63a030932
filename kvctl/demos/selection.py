"""Picking values out of a command's output: the little language of `value = "..."`.

    siblings[*].value           the value of every sibling, as a list
    pairs[0].state              of the first pair
    nodes[id=n3].state          of the one whose id is n3
    sum(faults[*].hits)         also count(...) and max(...), of a list
    [*].key                     when the output is a list itself (JSON Lines)

A field that is not there, or a filter that matches nothing, is not false: there was nothing to look
at, and `NothingThereError` says so. Only a list made by `[*]` may be empty.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kvctl_node.errors import StoreError

_CALL = re.compile(r"(?P<function>[a-z]+)\((?P<path>.*)\)\Z")
_STEP = re.compile(
    r"\.?(?P<name>[A-Za-z_][\w-]*)|\[(?P<index>\d+|\*)\]|\[(?P<field>[\w-]+)=(?P<wanted>[^\]]*)\]"
)


class SelectionSyntaxError(StoreError):
    """The text is no selection."""

    kind = "usage"


class NothingThereError(StoreError):
    """The output does not have what the selection names."""

    kind = "undecided"


def _total(values: list[Any]) -> Any:
    return sum(_numbers(values))


def _maximum(values: list[Any]) -> Any:
    if not values:
        raise NothingThereError("there is no value to take the maximum of.")
    return max(_numbers(values))


def _numbers(values: list[Any]) -> list[float]:
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise NothingThereError(f"{value!r} is not a number.")
    return values


_FUNCTIONS: dict[str, Callable[[list[Any]], Any]] = {
    "count": len,
    "sum": _total,
    "max": _maximum,
}


def check_selection(text: str) -> None:
    """Raises `SelectionSyntaxError` unless the text is a selection."""
    _parse(text)


def select(document: Any, text: str) -> Any:
    """The value that `text` names. Raises `NothingThereError`, `SelectionSyntaxError`."""
    function, steps = _parse(text)
    value = _follow(document, steps)
    if function is None:
        return value
    if not isinstance(value, list):
        raise NothingThereError(f"{text} needs a list, and there is {value!r}.")
    return function(value)


def _parse(text: str) -> tuple[Callable[[list[Any]], Any] | None, list[re.Match[str]]]:
    function = None
    path = text.strip()
    call = _CALL.match(path)
    if call is not None:
        function = _FUNCTIONS.get(call["function"])
        if function is None:
            raise SelectionSyntaxError(
                f"there is no function {call['function']} in {text!r}.",
                hint=f"there are {', '.join(_FUNCTIONS)}.",
            )
        path = call["path"].strip()
    steps: list[re.Match[str]] = []
    place = 0
    while place < len(path):
        step = _STEP.match(path, place)
        if step is None:
            raise SelectionSyntaxError(
                f"{text!r} cannot be read from {path[place:]!r} on.",
                hint="for example siblings[*].value, nodes[id=n3].state or sum(faults[*].hits).",
            )
        steps.append(step)
        place = step.end()
    if not steps:
        raise SelectionSyntaxError("a selection must name something, such as siblings[*].value.")
    return function, steps


def _follow(value: Any, steps: list[re.Match[str]]) -> Any:
    for place, step in enumerate(steps):
        if step["index"] == "*":
            if not isinstance(value, list):
                raise NothingThereError(f"[*] needs a list, and there is {value!r}.")
            return [_follow(one, steps[place + 1 :]) for one in value]
        value = _take(value, step)
    return value


def _take(value: Any, step: re.Match[str]) -> Any:
    if step["name"] is not None:
        if not isinstance(value, dict) or step["name"] not in value:
            raise NothingThereError(f"there is no {step['name']}.")
        return value[step["name"]]
    if not isinstance(value, list):
        raise NothingThereError(f"{step[0]} needs a list, and there is {value!r}.")
    if step["index"] is not None:
        index = int(step["index"])
        if index >= len(value):
            raise NothingThereError(f"there are only {len(value)} entries.")
        return value[index]
    for one in value:
        if isinstance(one, dict) and str(one.get(step["field"])) == step["wanted"]:
            return one
    raise NothingThereError(f"there is none with {step['field']}={step['wanted']}.")
