"""One command at a time changes a cluster: an advisory lock that says who holds it.

The lock is `flock` on a file in the cluster's directory, so the kernel releases it when its holder
dies, however it dies: there are no stale locks. The file's content (pid, command, since when) is
only for people; the lock itself never depends on it. If it is still there while nobody holds the
lock, the last holder died in the middle of its work, which `doctor` reports.

`down --purge` deletes the directory and the lock file with it. Whoever waited then holds a lock on
a file that is no longer there, which excludes nobody; so after acquiring, the path is compared with
the open file, and if they differ the lock is taken anew.
"""

from __future__ import annotations

import fcntl
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec

from kvctl.errors import ClusterNotFoundError, HomeError, LockedError
from kvctl.text.escaping import command as quoted_command
from kvctl_node.documents import UNREADABLE

_POLL_S = 0.02
_COMMAND_CHARS_MAX = 200


class LockHolder(msgspec.Struct, frozen=True):
    """Who holds, or last held, a lock."""

    pid: int
    command: str
    since_ms: int

    def __str__(self) -> str:
        return f"process {self.pid} ({self.command})"


def _tell_nobody(sentence: str) -> None:
    """The default for `notify`."""


def command_line() -> str:
    """The command this process runs, as a person could type it."""
    program = Path(sys.argv[0])
    name = program.parent.name if program.name == "__main__.py" else program.name
    return quoted_command(name, *sys.argv[1:])[:_COMMAND_CHARS_MAX]


@contextmanager
def hold_lock(
    path: Path,
    *,
    wait_s: float,
    command: str = "",
    notify: Callable[[str], None] = _tell_nobody,
) -> Iterator[None]:
    """Hold the lock at `path`, waiting up to `wait_s` seconds for whoever holds it.

    Others are told that `command` holds it ("": the command line). `notify` is told once whom this
    one waits for. Raises `LockedError` naming the holder when the wait is
    over, `ClusterNotFoundError` when the directory is not there (or goes away meanwhile).
    """
    descriptor = _acquire(path, time.monotonic() + wait_s, notify)
    try:
        _write_holder(descriptor, command or command_line())
        yield
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _acquire(path: Path, deadline_s: float, notify: Callable[[str], None]) -> int:
    told = False
    while True:
        descriptor = _open(path)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_at(descriptor, path):
                return descriptor
            os.close(descriptor)
            continue
        except BlockingIOError as error:
            os.close(descriptor)
            holder = read_holder(path)
            who = str(holder) if holder else "another process"
            if time.monotonic() >= deadline_s:
                raise LockedError(
                    f"the cluster {path.parent.name} is being changed by {who}.",
                    hint="wait for it to finish, then try again.",
                ) from error
            if not told:
                notify(f"waiting for {who}, which is changing the cluster {path.parent.name}.")
                told = True
        time.sleep(_POLL_S)


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except FileNotFoundError as error:
        raise ClusterNotFoundError(
            f"there is no cluster {path.parent.name!r}.", hint="kvctl ls lists those there are."
        ) from error
    except OSError as error:
        raise HomeError(f"cannot open the lock {path}: {error.strerror}.") from error


def _is_still_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(descriptor: int, command: str) -> None:
    holder = LockHolder(os.getpid(), command, time.time_ns() // 1_000_000)
    os.ftruncate(descriptor, 0)
    with suppress(OSError):  # who holds it is good to know; on a full disk it stays unsaid
        os.pwrite(descriptor, msgspec.json.encode(holder), 0)


def read_holder(path: Path) -> LockHolder | None:
    """Who the lock file names; None if it is empty, unreadable or not there."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=LockHolder)
    except (OSError, *UNREADABLE):
        return None


def is_held(path: Path) -> bool:
    """True while some process holds the lock."""
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False
