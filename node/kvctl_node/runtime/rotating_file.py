"""An append-only file of lines that is replaced when it is full, keeping a few old ones.

    events.jsonl        being written
    events.jsonl.1      the one before
    events.jsonl.2      the oldest kept

Every `append` reaches the operating system before it returns, so a `kill -9` loses no line and a
reader never waits for a buffer. It holds whole lines only: if the disk filled up in the middle of
one, the next append first ends that line, so damage stays within it.
"""

from __future__ import annotations

import os
from pathlib import Path


class RotatingFile:
    """Appends bytes to `path`. Not safe for concurrent use; raises `OSError` as files do."""

    def __init__(self, path: Path, *, bytes_max: int, files_kept: int) -> None:
        self._path = path
        self._bytes_max = bytes_max
        self._files_kept = files_kept
        self._descriptor = -1
        self._size = 0
        self._torn = False
        self._open()

    def append(self, lines: bytes) -> None:
        """Write whole lines, beginning a new file first if they do not fit into this one."""
        if self._size and self._size + len(lines) > self._bytes_max:
            self._rotate()
        if self._torn:
            self._write(b"\n")
        self._torn = True
        self._write(lines)
        self._torn = False

    def close(self) -> None:
        """Release the file; idempotent."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self) -> None:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        self._descriptor = os.open(self._path, flags, 0o600)
        self._size = os.fstat(self._descriptor).st_size
        self._torn = self._size > 0 and not self._ends_in_newline()

    def _ends_in_newline(self) -> bool:
        with self._path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"

    def _write(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            written = os.write(self._descriptor, view)
            self._size += written
            view = view[written:]

    def _rotate(self) -> None:
        self.close()
        for number in range(self._files_kept - 1, 0, -1):
            older = self._numbered(number)
            if older.exists():
                older.replace(self._numbered(number + 1))
        self._path.replace(self._numbered(1))
        self._open()

    def _numbered(self, number: int) -> Path:
        return self._path.with_name(f"{self._path.name}.{number}")
