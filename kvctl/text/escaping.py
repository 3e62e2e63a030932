r"""Stored text made safe to show: nothing in a key or value may drive the reader's terminal.

A key may hold anything: an escape sequence that clears the screen, a newline that breaks a row, a
right-to-left override that reorders one. `printable` shows such characters by their code, and is
applied on every path to a terminal: tables, notes, errors, logs, the dashboard. What goes to a pipe
as data stays as it is.

`quoted` and `command` write commands that are shown to be pasted: what a shell makes of them is
what was meant, whatever a key contains.
"""

from __future__ import annotations

import shlex

_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}
_BYTE_FIRST, _BYTE_LAST = 0xDC80, 0xDCFF
"""Where `surrogateescape` keeps bytes that are not UTF-8."""


def printable(text: str, *, keep: str = "") -> str:
    r"""The text on one line, with `\t`, `\n`, `\x1b`, `\u202e` in place of what cannot be printed.

    Text without such characters is returned as it is; a backslash stays a backslash. Characters in
    `keep` stay, too: the tabs and newlines of a layout that is our own.
    """
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() or one in keep else code_of(one) for one in text)


def printable_json(document: str) -> str:
    r"""A JSON document that decodes to the same and whose strings hide nothing: `\u202e`."""
    if document.isprintable():
        return document
    return "".join(one if one.isprintable() else _json_code_of(one) for one in document)


def _json_code_of(character: str) -> str:
    # JSON knows sixteen bits only: what is beyond them is written as a surrogate pair.
    units = character.encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[at : at + 2].hex()}" for at in range(0, len(units), 2))


def code_of(character: str) -> str:
    r"""What stands for a character that cannot be printed."""
    if character in _NAMED:
        return _NAMED[character]
    code = ord(character)
    if _BYTE_FIRST <= code <= _BYTE_LAST:
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quoted(word: str) -> str:
    r"""One word of a shown command, as a POSIX shell reads it: `it's` becomes `'it'"'"'s'`.

    A word with unprintable characters is written as `$'...'`, which bash, zsh and ksh read.
    """
    if word.isprintable():
        return shlex.quote(word)
    return "$'" + "".join(_ansi_c(one) for one in word) + "'"


def command(*words: str) -> str:
    """A command line that can be pasted; the words are quoted where needed."""
    return " ".join(quoted(word) for word in words)


def _ansi_c(character: str) -> str:
    if character in ("\\", "'"):
        return "\\" + character
    if character.isprintable():
        return character
    if character in _NAMED:
        return _NAMED[character]
    # Three octal digits a byte: unlike \xHH, they never swallow the digits that follow.
    return "".join(f"\\{byte:03o}" for byte in character.encode("utf-8", "surrogateescape"))
