"""Disk mark: tells a data directory that was copied from the one that a node has always used.

A backup that is put back holds an older state than the node has acknowledged since. If the node had
another start in between, somebody remembers a higher generation than the disk does. A backup of the
present generation looks just like what a crash leaves behind, and yet the copies in it lack writes
that count on them, and would mint dots a second time.

So the first start makes a file that is never touched again, `disk.mark`, and the database notes
when that file's inode was changed last. The kernel sets this time (ctime), and no copying tool can:
a copy of the directory, by whatever means and wherever it is put, has a file that is younger than
the note. Renaming or moving the directory within its file system changes nothing. A needless alarm
(`chown -R` over the directory, a hard link to the file) costs a comparison with the co-owners and
no data.

What it cannot see is a file system that is put back beneath the directory, as a snapshot is.
"""

from __future__ import annotations

import os
from pathlib import Path

from kvctl_node.errors import DataDirectoryError
from kvctl_node.ports import StorageEngine
from kvctl_node.storage.durable_file import sync_directory

MARK_FILE = "disk.mark"
MARK = "disk_mark"
"""Metadata: ctime of the file, in nanoseconds."""
_WORDS = b"Made at the first start, never touched again: tells this directory from a copy of it.\n"


def note_disk(directory: Path, storage: StorageEngine) -> bool:
    """Whether the directory is a copy; from this turn's commit on it is the node's own.

    The commit must be the one that notes what follows from it: after a crash before that, the
    directory is a copy still. Raises `DataDirectoryError`.
    """
    noted = storage.metadata(MARK)
    path = directory / MARK_FILE
    try:
        if noted is not None and path.exists() and _mark_of(path) == noted:
            return False
        path.unlink(missing_ok=True)
        with path.open("wb") as file:
            file.write(_WORDS)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(directory)
        storage.set_metadata(MARK, _mark_of(path))
    except OSError as error:
        raise DataDirectoryError(f"{path} cannot be used: {error.strerror}.") from error
    return noted is not None


def _mark_of(path: Path) -> bytes:
    return str(path.stat().st_ctime_ns).encode()
