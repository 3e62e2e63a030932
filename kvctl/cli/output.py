"""What a command prints, and where: data on stdout, everything else on stderr.

Four formats, one command body. A command hands over its result once, as a JSON document and as a
`Table` of plain text, and the format chosen with `-o` decides what is written:

    table   columns, for people; the default on a terminal
    plain   the same rows, cells separated by tabs, no header; the default in a pipe
    json    one document on one line
    jsonl   one document per item and line; what endless commands use for `json`, too

Every line is flushed when it is written, so that a pipe sees it at once. rich draws tables and
nothing else, and is loaded only then.

What goes to a terminal goes through `kvctl.text.escaping` here, and so does every table and every
sentence on stderr: nothing that is stored can drive a terminal, break a row, or be taken for
markup. What goes to a pipe as data goes as it is.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import msgspec

from kvctl.cli.streams import ReaderGoneError, print_error, silence_stdout
from kvctl.errors import KvctlError
from kvctl.text.escaping import printable, printable_json

VALUE_SHOWN_CHARS = 80
"""How much of a value a list on a terminal shows."""
_ESCAPES = {"\\": "\\\\", "\t": "\\t", "\n": "\\n", "\r": "\\r"}


class OutputFormat(StrEnum):
    """The values of `-o`."""

    TABLE = "table"
    PLAIN = "plain"
    JSON = "json"
    JSONL = "jsonl"


class OutputError(KvctlError):
    """Standard output takes nothing more: a full disk, for example."""

    kind = "output"


@dataclass(frozen=True, slots=True)
class Table:
    """Rows of text under column titles. Titles that start with `>` are aligned to the right."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default_factory=list)
    title: str = ""


class Output:
    """The two streams of one command, in the format it was asked for."""

    def __init__(self, format: OutputFormat | None, *, quiet: bool = False, color: bool = True):
        """`format` None chooses `table` on a terminal and `plain` elsewhere."""
        self.goes_on = False
        """True for a command that is not over when the reader of its stdout is gone: it changes
        something, or its exit code is the answer."""
        self.shortened = 0
        """How many values `brief` has shortened."""
        self.is_terminal = sys.stdout.isatty()
        if format is None:
            format = OutputFormat.TABLE if self.is_terminal else OutputFormat.PLAIN
        self.format = format
        self.quiet = quiet
        self.color = color and self.is_terminal and not os.environ.get("NO_COLOR")

    @property
    def is_json(self) -> bool:
        """True for `json` and `jsonl`."""
        return self.format in (OutputFormat.JSON, OutputFormat.JSONL)

    def write(self, data: bytes) -> None:
        """Bytes to stdout, exactly as they are, and out at once.

        Raises `OutputError`, and `ReaderGoneError` unless the command goes on all the same.
        """
        stream = sys.stdout.buffer
        try:
            stream.write(data)
            stream.flush()
        except BrokenPipeError as error:
            silence_stdout()
            if not self.goes_on:
                raise ReaderGoneError from error
        except OSError as error:
            silence_stdout()
            raise OutputError(f"the output cannot be written: {error.strerror}.") from error

    def line(self, text: str) -> None:
        """One line of text to stdout; on a terminal only tabs are left of what is not printable."""
        if self.is_terminal:
            text = printable(text, keep="\t")
        self.write(text.encode("utf-8", "surrogateescape") + b"\n")

    def content(self, data: bytes) -> None:
        """Text that is one whole, to stdout as it is; on a terminal it drives nothing.

        There, lines and tabs stay, what else is not printable is shown by its code, and a newline
        follows where none stands at the end.
        """
        if self.is_terminal:
            text = printable(data.decode("utf-8", "surrogateescape"), keep="\n\t")
            data = text.encode() if text.endswith("\n") else text.encode() + b"\n"
        self.write(data)

    def json_line(self, document: Mapping[str, Any]) -> None:
        """One JSON document on a line of stdout; on a terminal it hides nothing, and is the same to
        a program.
        """
        line = msgspec.json.encode(document)
        if self.is_terminal:
            line = printable_json(line.decode()).encode()
        self.write(line + b"\n")

    def result(
        self,
        document: Mapping[str, Any],
        table: Table,
        items: Iterable[Mapping[str, Any]] | None = None,
    ) -> None:
        """A finished result. `items` are its parts, one line each for `jsonl` (default: whole)."""
        if self.format is OutputFormat.JSONL and items is not None:
            for item in items:
                self.json_line(item)
        elif self.is_json:
            self.json_line(document)
        elif self.format is OutputFormat.TABLE:
            self._draw(table)
        else:
            for row in table.rows:
                self.line("\t".join(row))

    def item(self, document: Mapping[str, Any], text: str) -> None:
        """One item of a stream: a JSON line, or a line of text."""
        if self.is_json:
            self.json_line(document)
        else:
            self.line(text)

    def note(self, sentence: str) -> None:
        """Something good to know, on stderr; left out with `-q`."""
        if not self.quiet:
            print_error(sentence)

    def told(self, sentence: str) -> None:
        """What a command did, for a person at a terminal; a script sees the exit code."""
        if self.format is OutputFormat.TABLE:
            self.note(sentence)

    def warn(self, sentence: str, hint: str = "") -> None:
        """Something that went worse than asked, on stderr; shown with `-q`, too."""
        print_error(f"warning: {sentence}")
        if hint:
            print_error(f"hint: {hint}")

    def brief(self, value: bytes | None, *, terminal: bool | None = None) -> str:
        """A value of a list on one line, on a terminal its beginning; None is a delete.

        A value may have megabytes, and a list many of them. `note_shortened` says so. `terminal`:
        whether it is for one (default: whether stdout is).
        """
        if value is None:
            return "(deleted)"
        if (
            not (self.is_terminal if terminal is None else terminal)
            or len(value) <= VALUE_SHOWN_CHARS
        ):
            return one_line(value)
        # No character takes more than four bytes: the beginning is whole.
        text = value[: 4 * VALUE_SHOWN_CHARS].decode("utf-8", "surrogateescape")
        begin = text[:VALUE_SHOWN_CHARS].encode("utf-8", "surrogateescape")
        if len(begin) == len(value):
            return one_line(value)
        self.shortened += 1
        return f"{one_line(begin)}... ({len(value):,} bytes)"

    def note_shortened(self) -> None:
        """Say how to see what `brief` left out, if it left anything out."""
        if self.shortened:
            values = "a value is" if self.shortened == 1 else f"{self.shortened:,} values are"
            self.note(f"{values} shortened here; with -o jsonl, or into a pipe, all is written.")

    def _draw(self, table: Table) -> None:
        from rich.console import Console
        from rich.table import Table as RichTable
        from rich.text import Text

        # All as `Text`: a bare string would be read for markup, and `cart[red]` is a key.
        title = Text(printable(table.title), style="table.title") if table.title else None
        drawn = RichTable(box=None, pad_edge=False, header_style="bold", title=title)
        for column in table.columns:
            right = column.startswith(">")
            drawn.add_column(Text(column.lstrip(">")), justify="right" if right else "left")
        for row in table.rows:
            drawn.add_row(*(Text(printable(cell), style=_style_of(cell)) for cell in row))
        drawing = io.StringIO()
        Console(
            file=drawing,
            force_terminal=self.is_terminal,
            color_system="auto" if self.color else None,
            highlight=False,
            width=None if self.is_terminal else 200,
            emoji=False,
        ).print(drawn)
        self.write(drawing.getvalue().encode())


_STYLES = {
    "up": "green",
    "paused": "yellow",
    "unresponsive": "yellow",
    "joining": "cyan",
    "leaving": "cyan",
    "dead": "bold red",
    "stopped": "dim",
}


def _style_of(cell: str) -> str:
    return _STYLES.get(cell, "")


def one_line(data: bytes) -> str:
    r"""Bytes as one line of text that can be told apart: `\t`, `\n`, `\\`, `\x1b`, UTF-8 as it is.

    Used where several values share a stream; a single value is written unchanged.
    """
    text = data.decode("utf-8", "surrogateescape")
    return "".join(_escape(character) for character in text)


def _escape(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that is not UTF-8, as surrogateescape keeps it
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x20 or 0x7F <= code < 0xA0:
        return "".join(f"\\x{byte:02x}" for byte in character.encode())
    return character
