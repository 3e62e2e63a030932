"""A terminal for tests: a process at a pseudo-terminal, and a screen that understands it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import pyte

DEADLINE_S = 60.0
ROOT = Path(__file__).parents[2]
_OF_OTHERS = {"NO_COLOR", "COLUMNS", "LINES"}
"""What a test runner's environment may say of a terminal that is not this one."""


class Terminal:
    """Runs `kvctl ARGUMENTS` at a pseudo-terminal. A context manager; kills what it started."""

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        columns: int = 120,
        rows: int = 35,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.output = b""
        """Every byte the process wrote."""
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.settings_before = termios.tcgetattr(slave)
        """How the terminal was set when the process was given it."""
        self._slave = slave
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kvctl", *arguments],
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=ROOT,
            start_new_session=True,
            env={
                **{name: value for name, value in os.environ.items() if name not in _OF_OTHERS},
                "TERM": "xterm-256color",
                **(environment or {}),
            },
        )

    def __enter__(self) -> Terminal:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(DEADLINE_S)
        os.close(self._master)
        os.close(self._slave)

    @property
    def settings(self) -> list[object]:
        """How the terminal is set now."""
        return list(termios.tcgetattr(self._slave))

    @property
    def text(self) -> str:
        """What the screen shows."""
        return "\n".join(line.rstrip() for line in self._screen.display)

    def press(self, keys: str) -> None:
        """Type."""
        os.write(self._master, keys.encode())

    def read(self, timeout_s: float) -> None:
        """Take in what the process writes, for at most so long."""
        ready, _, _ = select.select([self._master], [], [], timeout_s)
        if ready:
            data = os.read(self._master, 65536)
            self.output += data
            self._stream.feed(without_private_answers(data))

    def until(self, condition: Callable[[str], object], *, within_s: float = DEADLINE_S) -> None:
        """Wait until the screen's text is so; fails with the screen as it is then."""
        deadline_s = time.monotonic() + within_s
        while not condition(self.text):
            assert time.monotonic() < deadline_s, f"the screen shows\n{self.text}"
            self.read(0.1)

    def until_ended(self) -> int:
        """Wait until the process ends; its exit code."""
        deadline_s = time.monotonic() + DEADLINE_S
        while self.process.poll() is None:
            assert time.monotonic() < deadline_s, f"it does not end; the screen shows\n{self.text}"
            self.read(0.1)
        self.read(0)
        return self.process.returncode


def without_private_answers(data: bytes) -> bytes:
    """Leave out the keyboard protocol's sequences, which pyte takes for text."""
    for sequence in (b"\x1b[>25u", b"\x1b[>1u", b"\x1b[<u", b"\x1b[?2026$p", b"\x1b[?2048$p"):
        data = data.replace(sequence, b"")
    return data
