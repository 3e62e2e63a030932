"""Disk mark: tells at start whether the disk is the one that stopped here, and whole.

A node that starts on an older disk than the one it stopped with lacks writes that count on it,
would vouch for the past in reads, and would mint dots a second time. Nothing inside the database
can tell: SQLite replays its write-ahead log up to the first bad frame and says nothing, and a
backup of the present generation looks just like what a crash leaves behind. So the last commit is
known in a second place, a small file beside the database that is overwritten after every commit and
before anything of that turn is sent:

    disk.mark, 32 bytes:   magic (8)  sequence (8)  wall-clock ns (8)  unused (4)  CRC-32 (4)

`sequence` is the number of the last turn in the commit log. Three things are compared at the start,
`doubt` has the words:

* **The log ends before `sequence`.** Its tail is damaged, cut off or gone, or the database is an
  older one. After kill -9 this cannot be: the mark is written after the commit.
* **The file is another one** than the database has noted (its inode): the directory was copied, or
  a tool put files back by renaming new ones into place.
* **The file was changed after the node's last write to it.** The kernel sets this time (ctime) and
  no copying tool can; so a copy that was written over the very file is younger than what stands in
  it. A tool that leaves out files which look unchanged cannot leave this one out, unless nothing
  was committed since the backup.

Renaming or moving the directory within its file system changes nothing. A needless alarm (`chmod`
or `chown -R` over the directory while the node is down, a hard link to the file, a power loss that
keeps the file's time and not its content) costs a comparison with the co-owners and no data.

What it cannot see is a file system that is put back beneath the directory, as a snapshot is, and,
after a power loss, a tail that is gone from the log and from the mark alike; an unclean boot is a
reason for doubt of its own (`kvctl_node.identity`).

One `pwrite` of 32 bytes a turn, into a block that is there already: it needs no space.

While the node runs, the mark also tells whether the directory is still its own. What is committed
into files that were deleted is lost with the process, so after each commit, before anything of that
turn is sent, the open file is asked whether it still has a name (1.2 microseconds a turn).
"""

from __future__ import annotations

import os
import struct
import time
from pathlib import Path
from zlib import crc32

from kvctl_node.errors import DataDirectoryError, DirectoryGoneError, StorageError
from kvctl_node.identity import IS_COPY
from kvctl_node.storage.durable_file import sync_directory

MARK_FILE = "disk.mark"
NOTED_INODE = "disk_mark"
"""Metadata: the inode of the file."""
IS_BEHIND = "the end of its commit log is missing"
IS_UNMARKED = "its disk.mark is missing or damaged"

_MAGIC = b"kvctl-mk"
_BODY = struct.Struct("<8sQQI")
_CHECKSUM = struct.Struct("<I")
_BYTES = _BODY.size + _CHECKSUM.size
_TOLERANCE_NS = 250_000_000
"""A file's time may be so much younger than the clock was when the write began."""


class DiskMark:
    """The open mark of a data directory. Made by `open`; the directory's lock is held."""

    def __init__(self, path: Path, descriptor: int) -> None:
        status = os.fstat(descriptor)
        self._path = path
        self._descriptor = descriptor
        self.inode = str(status.st_ino).encode()
        self._changed_ns = status.st_ctime_ns
        self._clock_ahead_ns: int | None = None
        """By how much the file system's clock is ahead of ours (a network's may be)."""
        self._found = _parse(os.pread(descriptor, _BYTES, 0))

    @classmethod
    def open(cls, directory: Path) -> DiskMark:
        """Open the mark, or create an empty one. Raises `DataDirectoryError`."""
        path = directory / MARK_FILE
        try:
            is_new = not path.exists()
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                if is_new:
                    os.pwrite(descriptor, bytes(_BYTES), 0)
                    os.fsync(descriptor)
                    sync_directory(directory)
                return cls(path, descriptor)
            except OSError:
                os.close(descriptor)
                raise
        except OSError as error:
            raise DataDirectoryError(f"{path} cannot be used: {error.strerror}.") from error

    def doubt(
        self, noted_inode: bytes | None, last_sequence: int, *, lost_its_tail: bool = False
    ) -> str:
        """Why the disk may not be the one that stopped here; "" if it is.

        `noted_inode`: what the database has noted, None if nothing yet; `last_sequence`: the last
        turn that the database holds; `lost_its_tail`: its log was seen to be damaged (`wal_tail`).
        """
        if noted_inode is None:
            # A new database, then; beside an old mark it is one whose predecessor is gone.
            return IS_BEHIND if self._found is not None else ""
        if self._found is None:
            return IS_UNMARKED
        sequence, written_ns = self._found
        if lost_its_tail or last_sequence < sequence:
            return IS_BEHIND
        if noted_inode != self.inode or self._changed_ns > written_ns + _TOLERANCE_NS:
            return IS_COPY
        return ""

    def write(self, sequence: int) -> None:
        """Note that everything up to `sequence` is committed. Raises `StorageError`."""
        try:
            if self._clock_ahead_ns is None:
                self._clock_ahead_ns = 0
                self._write(sequence)
                ahead_ns = os.fstat(self._descriptor).st_ctime_ns - time.time_ns()
                if abs(ahead_ns) <= _TOLERANCE_NS // 2:
                    return
                self._clock_ahead_ns = ahead_ns
            self._write(sequence)
        except OSError as error:
            raise StorageError(f"{self._path} cannot be written: {error.strerror}.") from error
        if os.fstat(self._descriptor).st_nlink == 0:
            raise self._gone("removed")

    def check_in_place(self) -> None:
        """Raises `DirectoryGoneError` if another file, or none, is where this one was opened."""
        try:
            there = self._path.stat()
        except (FileNotFoundError, NotADirectoryError) as error:
            is_removed = os.fstat(self._descriptor).st_nlink == 0
            raise self._gone("removed" if is_removed else "moved") from error
        except OSError:
            return  # it cannot be told just now
        if not os.path.samestat(there, os.fstat(self._descriptor)):
            raise self._gone("replaced")

    def _gone(self, what_happened: str) -> DirectoryGoneError:
        return DirectoryGoneError(
            f"the data directory {self._path.parent} was {what_happened} while the node ran.",
            hint="kvctl up starts the node again where its cluster is now.",
        )

    def _write(self, sequence: int) -> None:
        body = _BODY.pack(_MAGIC, sequence, time.time_ns() + (self._clock_ahead_ns or 0), 0)
        os.pwrite(self._descriptor, body + _CHECKSUM.pack(crc32(body)), 0)

    def close(self) -> None:
        """Release the file."""
        os.close(self._descriptor)


def _parse(data: bytes) -> tuple[int, int] | None:
    """(sequence, wall-clock ns), None if the bytes are no mark."""
    if len(data) != _BYTES:
        return None
    body, checksum = data[: _BODY.size], _CHECKSUM.unpack(data[_BODY.size :])[0]
    magic, sequence, written_ns, _ = _BODY.unpack(body)
    return (sequence, written_ns) if magic == _MAGIC and crc32(body) == checksum else None
