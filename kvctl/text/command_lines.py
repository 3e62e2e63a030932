r"""kvctl commands that are shown to be pasted: each does what it says, whatever its arguments hold.

Words become a command line as late as possible, by whoever knows which cluster is meant. A command
is shown whole or not at all: half of one is another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvctl.text.escaping import command, quoted

INDENT = "  "


def command_words(
    name: str, arguments: Sequence[str] = (), options: Sequence[str] = ()
) -> tuple[str, ...]:
    """The words after `kvctl`; arguments that begin with a dash go behind `--`."""
    if any(argument.startswith("-") for argument in arguments):
        return (*name.split(), *options, "--", *arguments)
    return (*name.split(), *arguments, *options)


def command_line(words: Sequence[str], cluster: str = "") -> str:
    """The whole command; `cluster` is named if there is one.

    Returns "" if there are no words, or none a shell can pass: no argument holds a NUL.
    """
    if not words or any("\0" in word for word in words):
        return ""
    return command("kvctl", *_option(cluster), *words)


def command_rows(words: Sequence[str], cluster: str = "", *, width: int) -> list[str]:
    r"""The whole command over several rows of about `width` cells, which `\` joins when pasted."""
    if not command_line(words, cluster):
        return []
    rows, row = [], "kvctl"
    for word in map(quoted, (*_option(cluster), *words)):
        if len(row) + 1 + len(word) + 2 > width and row.strip():
            rows.append(f"{row} \\")
            row = INDENT + word
        else:
            row = f"{row} {word}"
    return [*rows, row]


def _option(cluster: str) -> tuple[str, ...]:
    return ("-c", cluster) if cluster else ()
