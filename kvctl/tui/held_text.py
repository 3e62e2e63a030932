r"""A text as an editor can hold it: whatever it is, saving it untouched gives the same text.

An editor of lines holds lines of printable characters, with `\n` between them. A text that is more
than that, with `\r`, a form feed, U+2028, escape sequences or emoji of uncertain width in it, is
edited in a written form: such characters as codes, and a backslash as two. What has no such
characters is edited as it is.

    a\r\n     ↔  a\r          (the backslash and the r are characters that can be edited)
    b\f       ↔  b\x0c
    c:\temp   ↔  c:\\temp     only if something else in the text has to be written
"""

from __future__ import annotations

import re

from kvctl.text.cells import steady

_ESCAPE = re.compile(r"\\(?:([\\tnr])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|)")
_NAMED = {"\\": "\\", "t": "\t", "n": "\n", "r": "\r"}


class WrittenFormError(Exception):
    """A backslash begins no code. The message says which."""


def needs_written_form(text: str) -> bool:
    """Whether an editor cannot hold the text as it is. Tabs it can."""
    lines = text.replace("\t", " ").split("\n")
    return any(steady(line) != line for line in lines)


def written(text: str) -> str:
    """The written form of a text; its lines are those between line feeds."""
    return "\n".join(steady(line.replace("\\", "\\\\")) for line in text.split("\n"))


def meant(form: str) -> str:
    """The text that a written form stands for. Raises `WrittenFormError`."""
    return _ESCAPE.sub(_character, form)


def _character(match: re.Match[str]) -> str:
    name, *codes = match.groups()
    if name:
        return _NAMED[name]
    code = next((code for code in codes if code), "")
    try:
        character = chr(int(code, 16))
        character.encode("utf-8")
    except (ValueError, OverflowError) as error:
        after = match.string[match.start() : match.start() + 6].split("\n", 1)[0]
        raise WrittenFormError(f"{after} is no code; a backslash is written \\\\.") from error
    return character
