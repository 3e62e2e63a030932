"""Making files survive a power loss: sync the content, rename, sync the directory.

A rename is atomic, but neither the renamed content nor the rename itself is on the disk until
file and directory were synced. On macOS fsync(2) does not reach the medium; F_FULLFSYNC does.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Generator
from pathlib import Path
from zlib import crc32

CHUNK_BYTES = 1 << 20
_FULL_SYNC: int | None = getattr(fcntl, "F_FULLFSYNC", None)


def sync_descriptor(descriptor: int) -> None:
    """Push an open file's content to the medium. Raises `OSError`."""
    if _FULL_SYNC is None:
        os.fsync(descriptor)
    else:
        fcntl.fcntl(descriptor, _FULL_SYNC)


def sync_file(path: Path) -> None:
    """Push a file's content to the medium. Raises `OSError`.

    Never for a database file that SQLite has open in this process: closing a descriptor drops the
    process's POSIX locks on it. (SQLite takes no locks on the `-wal` file, so that one is fine.)
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sync_descriptor(descriptor)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """Make renames, creations and removals in a directory durable. Raises `OSError`."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def checksum_file(path: Path) -> Generator[None, None, int]:
    """CRC-32 of a whole file; yields between chunks so that it can be interleaved or stopped."""
    checksum = 0
    with path.open("rb", buffering=0) as file:
        while chunk := file.read(CHUNK_BYTES):
            checksum = crc32(chunk, checksum)
            yield
    return checksum


def verify_file(path: Path, expected: int) -> Generator[None, None, str]:
    """Compare a file with its checksum, in slices: what is wrong with it, "" if nothing is."""
    try:
        checksum = yield from checksum_file(path)
    except OSError as error:
        return f"the file cannot be read ({error.strerror})"
    return "" if checksum == expected else "the file does not match its checksum"
