"""Reading a file of lines that is being written and rotated.

    events.jsonl      being written
    events.jsonl.1    the one before
    events.jsonl.2    the one before that

A file is known by its inode, not by its name: when the one being read got another name, or is gone,
what came after it is found and read from its beginning. So a reader that follows loses no line over
a rotation, a restart of the node, or a wiped directory. A line still being written is left until it
is whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

ROTATIONS_MAX = 99


class RotatedLines:
    """All whole lines of a rotated file, oldest first, each once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: BinaryIO | None = None
        self._partial = b""

    def new_lines(self) -> Iterator[bytes]:
        """The lines that appeared since the last call (the first time: all), without newlines."""
        if self._file is not None:
            if self._was_truncated(self._file):
                self._file.seek(0)
                self._partial = b""
            yield from self._drain(self._file)
        for newer in self._open_newer():
            if self._file is not None:
                yield from self._drain(self._file)  # written between the look and the rotation
                self._file.close()
            self._file, self._partial = newer, b""
            yield from self._drain(newer)

    def close(self) -> None:
        """Release the file; idempotent."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _drain(self, file: BinaryIO) -> Iterator[bytes]:
        while line := file.readline():
            line = self._partial + line
            self._partial = b""
            if not line.endswith(b"\n"):
                self._partial = line
                return
            yield line[:-1]

    def _open_newer(self) -> list[BinaryIO]:
        """Files after the one being read, oldest first, opened at once so that none slips away."""
        current = None if self._file is None else os.fstat(self._file.fileno()).st_ino
        newer: list[BinaryIO] = []
        seen: set[int] = set()
        for path in self._names():
            try:
                file = path.open("rb")
            except OSError:
                continue  # rotated away this very moment; it is met under its next name
            inode = os.fstat(file.fileno()).st_ino
            if inode == current:
                file.close()
                break
            if inode in seen:
                file.close()
                continue
            seen.add(inode)
            newer.append(file)
        return newer[::-1]

    def _names(self) -> Iterator[Path]:
        """The newest name first, as far as there are files."""
        yield self._path
        for number in range(1, ROTATIONS_MAX + 1):
            older = self._path.with_name(f"{self._path.name}.{number}")
            if not older.exists():
                return
            yield older

    @staticmethod
    def _was_truncated(file: BinaryIO) -> bool:
        with suppress(OSError):
            return os.fstat(file.fileno()).st_size < file.tell()
        return False
