"""Running a kvctl command line inside this process, and catching what it prints.

The very same code runs as for a command typed at a prompt, so what a scenario shows is what would
happen there. Standard output and input are swapped while it runs; a command thinks it is not on a
terminal, but prints its tables and notes as if it were.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from typing import Any, NamedTuple, Protocol

import msgspec

from kvctl.cli.app import COMMANDS, main
from kvctl.cli.guard import did_you_mean, wants_json
from kvctl.errors import ExitCode
from kvctl_node.errors import ConfigError


class Outcome(NamedTuple):
    """What a command left behind."""

    code: int
    stdout: bytes
    stderr: str

    def document(self, arguments: Sequence[str]) -> Any:
        """What selections look into: the JSON it printed; without `-o json` the plain texts.

        A list for JSON Lines. A command that failed and printed nothing else leaves its error, as
        `{"error": {"kind", ...}}`. None if there is no JSON where some was asked for.
        """
        if not wants_json(list(arguments)):
            text = self.stdout.decode("utf-8", "replace")
            return {"stdout": text, "stderr": self.stderr, "exit": self.code}
        try:
            lines = [msgspec.json.decode(line) for line in self.stdout.splitlines() if line.strip()]
        except msgspec.DecodeError:
            return None
        if not lines and self.code != ExitCode.DONE:
            return _error_in(self.stderr)
        if len(lines) == 1 and "jsonl" not in " ".join(arguments):
            return lines[0]
        return lines


def _error_in(stderr: str) -> Any:
    for line in stderr.splitlines():
        if line.startswith('{"error"'):
            return msgspec.json.decode(line)
    return None


class Executor(Protocol):
    """Runs command lines; the arguments are those after `kvctl`."""

    def run(self, arguments: Sequence[str], stdin: bytes) -> Outcome:
        """Raises `KeyboardInterrupt` when the command was interrupted."""
        ...


class InProcessExecutor:
    """Runs them in this process, on one cluster."""

    def __init__(self, cluster: str) -> None:
        self._before = ("--cluster", cluster, "--output", "table", "--no-color")

    def run(self, arguments: Sequence[str], stdin: bytes) -> Outcome:
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        err = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        stdin_before = sys.stdin
        sys.stdin = io.TextIOWrapper(io.BytesIO(stdin), encoding="utf-8")
        try:
            with redirect_stdout(out), redirect_stderr(err):
                code = main([*self._before, *arguments])
        finally:
            sys.stdin = stdin_before
        if code == ExitCode.INTERRUPTED:
            raise KeyboardInterrupt
        return Outcome(code, _content(out), _content(err).decode("utf-8", "replace"))


def _content(stream: io.TextIOWrapper) -> bytes:
    buffer = stream.buffer
    assert isinstance(buffer, io.BytesIO)
    return buffer.getvalue()


def check_command_names(names: Sequence[str]) -> None:
    """Raises `ConfigError` for a command that kvctl does not have."""
    for name in names:
        if name not in COMMANDS:
            raise ConfigError(
                f"kvctl has no command {name!r}.",
                hint=did_you_mean(name, list(COMMANDS)) or "kvctl --help lists the commands.",
            )
