"""The standard streams when nobody reads them any more.

A reader may go at any moment: `kvctl load 2>&1 | head -1`. What that means depends on the stream.

* stderr: what is said there is lost, and nothing else. No work is given up because nobody listens,
  and the exit code tells how the work ended.
* stdout: whoever closed it has what they wanted. A command that only reads ends there, quietly
  (`ReaderGoneError`); one that changes something, or whose exit code is the answer, goes on to its
  end without a word.
"""

from __future__ import annotations

import io
import os
import sys
from typing import TextIO

from kvctl.text.escaping import printable


class ReaderGoneError(Exception):
    """Nobody reads stdout any more; it is silenced already."""


def write_stderr(text: str) -> None:
    """Text to stderr, out at once; a stderr that takes nothing is silenced from then on."""
    _write(sys.stderr, text)


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError:
        _silence(stream)


def print_error(sentence: str) -> None:
    """One line on stderr: nothing in it can drive the terminal, or begin a line of its own."""
    write_stderr(printable(sentence) + "\n")


def print_error_lines(text: str) -> None:
    """Text of several lines on stderr, each as `print_error` writes one."""
    for line in text.rstrip("\n").split("\n"):
        print_error(line)


class Stderr(io.TextIOBase):
    """stderr for those who draw on it themselves: what `write_stderr` is for sentences.

    It is the stderr of now: rich puts itself in the place of `sys.stderr` while it draws.
    """

    def __init__(self) -> None:
        self._stream = sys.stderr

    @property
    def encoding(self) -> str:  # type: ignore[override]
        """That of stderr."""
        return self._stream.encoding

    def write(self, text: str) -> int:
        _write(self._stream, text)
        return len(text)

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()


def silence_stdout() -> None:
    """Point stdout at nothing, so that flushing at exit does not complain about the closed pipe."""
    _silence(sys.stdout)


def _silence(stream: TextIO) -> None:
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, stream.fileno())
    os.close(nothing)
