"""A command and its output, as text for people.

Shown is what ran, abridged where it would bury the story: a long value that came from a variable
keeps the variable's name, JSON is laid out one field a line with long texts cut, and of a long
output only the beginning is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec

from kvctl.cli.guard import wants_json
from kvctl.demos.command import Outcome
from kvctl.demos.selection import NothingThereError, select
from kvctl.demos.variables import Variables, names_in
from kvctl.text.escaping import quoted

WORD_SHOWN_MAX = 24
VALUE_SHOWN_MAX = 110
TEXT_SHOWN_MAX = 32
LINES_SHOWN_MAX = 16


def command_line(arguments: Sequence[str], variables: Variables) -> str:
    """`kvctl put cart milk --context "$seen"`: the line a person would type."""
    words = ["kvctl"]
    for argument in arguments:
        filled = variables.fill(argument)
        if len(filled) > WORD_SHOWN_MAX and names_in(argument):
            words.append(f'"{argument}"')
        else:
            words.append(quoted(filled))
    return " ".join(words)


def output_lines(
    outcome: Outcome, arguments: Sequence[str], show: Sequence[str] | None
) -> list[str]:
    """The output of a command, line by line; `show` picks parts of a JSON document."""
    lines = _document_lines(outcome, arguments, show) if wants_json(list(arguments)) else None
    if lines is None:
        lines = [] if show == [] else outcome.stdout.decode("utf-8", "replace").splitlines()
    if len(lines) > LINES_SHOWN_MAX:
        rest = len(lines) - LINES_SHOWN_MAX
        lines = [*lines[:LINES_SHOWN_MAX], f"... and {rest} more lines"]
    return [*(line.rstrip() for line in lines), *_remarks(outcome.stderr)]


def _document_lines(
    outcome: Outcome, arguments: Sequence[str], show: Sequence[str] | None
) -> list[str] | None:
    document = outcome.document(arguments)
    if document is None:
        return None
    if isinstance(document, dict) and set(document) == {"error"}:
        return []  # its sentence is among the remarks
    if show is not None:
        return _columns([(path, _selected(document, path)) for path in show])
    if isinstance(document, list):
        return [brief(one) for one in document]
    if isinstance(document, dict):
        return _columns([(name, brief(value)) for name, value in document.items()])
    return [brief(document)]


def _selected(document: Any, path: str) -> str:
    try:
        return brief(select(document, path))
    except NothingThereError as error:
        return f"({error.message.rstrip('.')})"


def _columns(rows: list[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [f"{name:<{width}}  {value}" for name, value in rows]


def _remarks(stderr: str) -> list[str]:
    """What went to stderr; an error that came as JSON is shown as a sentence."""
    remarks = []
    for line in stderr.splitlines():
        if line.startswith('{"error"'):
            error = msgspec.json.decode(line)["error"]
            remarks.append(f"error: {error['message']}")
        elif line.strip():
            remarks.append(line)
    return remarks


def brief(value: Any) -> str:
    """A value on one line, cut where it is long."""
    text = _written(value)
    return text if len(text) <= VALUE_SHOWN_MAX else text[: VALUE_SHOWN_MAX - 3] + "..."


def _written(value: Any, *, within: bool = False) -> str:
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value if len(value) <= TEXT_SHOWN_MAX else value[: TEXT_SHOWN_MAX - 3] + "..."
    if isinstance(value, list):
        if _is_clock_entry(value):
            return f"{value[0]}:{value[1]}"
        inner = ", ".join(_written(one, within=True) for one in value)
        return f"[{inner}]" if within or not value else inner
    if isinstance(value, dict):
        inner = ", ".join(f"{key}: {_written(one, within=True)}" for key, one in value.items())
        return f"{{{inner}}}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _is_clock_entry(value: list[Any]) -> bool:
    """`["n1", 3]`, an entry of a version, written n1:3 as everywhere else."""
    return (
        len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and not isinstance(value[1], bool)
    )
