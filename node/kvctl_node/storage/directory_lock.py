"""One process per data directory: an advisory lock that dies with its holder.

Two nodes on one directory would overwrite each other's log. The lock is flock(2) on the file
`lock`: the kernel releases it when the process ends, however it ends, so there is no stale lock
to clean up. The pid inside is for people only.
"""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from kvctl_node.errors import DataDirectoryError

LOCK_FILE = "lock"


class DirectoryLock:
    """Exclusive use of a data directory, from `acquire` to `release` or the process's end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def acquire(cls, directory: Path) -> DirectoryLock:
        """Lock an existing directory. Raises `DataDirectoryError` naming the holder's pid."""
        path = directory / LOCK_FILE
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise DataDirectoryError(
                f"The data directory {directory} cannot be locked: {error.strerror}."
            ) from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip() or "unknown"
            os.close(descriptor)
            raise DataDirectoryError(
                f"The data directory {directory} is in use by process {holder}.",
                hint="stop that node first; two nodes never share a directory.",
            ) from error
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode("ascii"), 0)
        return cls(descriptor)

    def release(self) -> None:
        """Let the next process in."""
        os.close(self._descriptor)
