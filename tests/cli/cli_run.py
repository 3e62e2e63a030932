"""Running the command line inside the test's process, and looking at what came out."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, NamedTuple, TextIO

import pytest

from kvctl.cli.app import main


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def text(self) -> str:
        return self.stdout.decode()

    @property
    def document(self) -> Any:
        """The JSON document on stdout."""
        return json.loads(self.stdout)

    @property
    def lines(self) -> list[Any]:
        """The JSON Lines on stdout."""
        return [json.loads(line) for line in self.stdout.splitlines()]

    @property
    def error(self) -> dict[str, Any]:
        """The JSON error on stderr."""
        (line,) = [line for line in self.stderr.splitlines() if line.startswith('{"error"')]
        error: dict[str, Any] = json.loads(line)["error"]
        return error


def without_reader() -> TextIO:
    """A stream into a pipe whose reader is gone."""
    reader, writer = os.pipe()
    os.close(reader)
    return os.fdopen(writer, "w")


class _Stream(io.TextIOWrapper):
    """A standard stream that is, or is not, a terminal."""

    def __init__(self, content: bytes = b"", *, terminal: bool = False) -> None:
        self.bytes = io.BytesIO(content)
        super().__init__(self.bytes, encoding="utf-8", write_through=True)
        self._terminal = terminal

    def isatty(self) -> bool:
        return self._terminal


class Command:
    """`kvctl(...)`: runs one command line with the given standard streams."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(
        self,
        *arguments: str,
        stdin: bytes | None = None,
        terminal: bool = False,
        closed: Sequence[str] = (),
    ) -> Outcome:
        """`stdin` None: a terminal on which nobody types. `terminal`: is stdout one? `closed`
        names streams ("stdout", "stderr") whose reader is gone.
        """
        out, err = _Stream(terminal=terminal), _Stream()
        with self._monkeypatch.context() as patch, ExitStack() as stack:
            patch.setattr(sys, "argv", ["kvctl", *arguments])
            patch.setattr(sys, "stdin", _Stream(stdin or b"", terminal=stdin is None))
            patch.setattr(sys, "stdout", out)
            patch.setattr(sys, "stderr", err)
            for name in closed:
                patch.setattr(sys, name, stack.enter_context(without_reader()))
            code = main(arguments)
        return Outcome(code, out.bytes.getvalue(), err.bytes.getvalue().decode())
