"""Reading a command line as a shell does, without any shell: what `escaping.command` has written.

`shlex` knows no `$'...'`, in which shown commands write what cannot be printed. Nothing is ever
expanded here: `$(...)`, `*` and `~` are the characters they are.
"""

from __future__ import annotations

import re

_PIECE = re.compile(
    r"""(?P<blank>[ \t\n]+)
      | '(?P<single>[^']*)'
      | \$'(?P<ansi>(?:\\.|[^'\\])*)'
      | "(?P<double>(?:\\.|[^"\\])*)"
      | \\(?P<escaped>.)
      | (?P<plain>[^\s'"\\$]+|\$|[^\S \t\n]+)""",
    re.VERBOSE | re.DOTALL,
)
_ANSI = re.compile(rb"\\([0-7]{1,3}|x[0-9a-fA-F]{1,2}|.)", re.DOTALL)
_ANSI_NAMED = {b"n": b"\n", b"t": b"\t", b"r": b"\r"}
_DOUBLE = re.compile(r'\\([\\"$`])')


def words_of(line: str) -> list[str]:
    """The words of a command line. Raises `ValueError` if a quotation mark is missing."""
    words: list[str] = []
    word: str | None = None
    place = 0
    while place < len(line):
        piece = _PIECE.match(line, place)
        if piece is None:
            raise ValueError("a quotation mark is missing")
        place = piece.end()
        if piece.lastgroup == "blank":
            if word is not None:
                words.append(word)
            word = None
        else:
            word = (word or "") + _meaning(str(piece.lastgroup), piece[str(piece.lastgroup)])
    return words if word is None else [*words, word]


def _meaning(kind: str, text: str) -> str:
    if kind == "ansi":
        written = _ANSI.sub(_ansi_character, text.encode("utf-8", "surrogateescape"))
        return written.decode("utf-8", "surrogateescape")
    if kind == "double":
        return _DOUBLE.sub(r"\1", text)
    return text


def _ansi_character(match: re.Match[bytes]) -> bytes:
    code = match[1]
    if code[:1] == b"x" and len(code) > 1:
        return bytes([int(code[1:], 16)])
    if code[:1].isdigit() and code[:1] < b"8":
        return bytes([int(code, 8) & 0xFF])
    return _ANSI_NAMED.get(code, code)
