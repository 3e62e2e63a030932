"""What kvctl itself can fail at, and the exit code each failure ends the command with.

The store's own failures (`kvctl_node.errors`) say what happened to a request; the errors here say
what happened to a *command*: no such cluster, a lock that is held, a node that did not start. Both
are `StoreError`s, one plain sentence and a hint, so that the command line prints them alike.

Exit codes are an interface scripts rely on; `exit_code_of` is the one place that assigns them.
"""

from __future__ import annotations

from enum import IntEnum

from kvctl_node.errors import (
    ConfigError,
    IndeterminateError,
    InvalidRequestError,
    OpenFilesError,
    StoreError,
    UnavailableError,
)


class ExitCode(IntEnum):
    """What a finished command tells the shell."""

    DONE = 0
    NO = 1
    """The answer is no: key not found, check failed, not healthy, some records refused."""
    USAGE = 2
    UNAVAILABLE = 3
    """Definitely not applied."""
    INDETERMINATE = 4
    """May have been applied."""
    UNREACHABLE = 5
    """No such cluster, or it cannot be reached or started."""
    CONFLICT = 6
    """Siblings, and no rule to choose."""
    UNDECIDED = 7
    """The check proved nothing: the fault never hit, nothing was read."""
    TIMED_OUT = 124
    INTERRUPTED = 130


class KvctlError(StoreError):
    """Base of the failures of a command, as opposed to those of a request."""

    kind = "error"
    exit_code = ExitCode.NO


class ClusterNotFoundError(KvctlError):
    """There is no cluster of that name, or none was named and there is no single choice."""

    kind = "no_such_cluster"
    exit_code = ExitCode.UNREACHABLE


class CopiedClusterError(ClusterNotFoundError):
    """The directory is a copy of another cluster's, and no cluster of its own yet."""

    kind = "copied_cluster"


class ClusterUnreachableError(KvctlError):
    """The cluster exists, but no node of it answers."""

    kind = "unreachable"
    exit_code = ExitCode.UNREACHABLE


class NodeStartError(KvctlError):
    """A node ended, or never began to serve, after it was started."""

    kind = "node_start"
    exit_code = ExitCode.UNREACHABLE


class PortTakenError(NodeStartError):
    """A port the cluster was given is in use by another process."""

    kind = "port_taken"


class LockedError(KvctlError):
    """Another command held the cluster's lock for longer than this one was willing to wait."""

    kind = "locked"
    exit_code = ExitCode.TIMED_OUT


class WaitTimeoutError(KvctlError):
    """A condition that was waited for did not come true in time."""

    kind = "timeout"
    exit_code = ExitCode.TIMED_OUT


class ContradictionError(KvctlError):
    """What was asked for contradicts what the cluster was made with, or itself."""

    kind = "contradiction"
    exit_code = ExitCode.USAGE


class AlreadyRunningError(ContradictionError):
    """The command needs the node or cluster to be down, and it runs."""

    kind = "already_running"


class ConflictError(KvctlError):
    """The key has siblings and the command has no rule to choose between them."""

    kind = "conflict"
    exit_code = ExitCode.CONFLICT


class UndecidedError(KvctlError):
    """A check could not be decided, because what it looks at never happened."""

    kind = "undecided"
    exit_code = ExitCode.UNDECIDED


class HomeError(KvctlError):
    """kvctl's own state (its home directory, registry, or a cluster's directory) is unusable."""

    kind = "home"
    exit_code = ExitCode.UNREACHABLE


class NewerFormatError(HomeError):
    """The files were written by a newer kvctl, whose format this one does not know."""

    kind = "newer_format"


_EXIT_CODE_OF_STORE_ERRORS: tuple[tuple[type[StoreError], ExitCode], ...] = (
    (UnavailableError, ExitCode.UNAVAILABLE),
    (IndeterminateError, ExitCode.INDETERMINATE),
    (InvalidRequestError, ExitCode.USAGE),
    (ConfigError, ExitCode.USAGE),
    (OpenFilesError, ExitCode.UNREACHABLE),
)


def exit_code_of(error: BaseException) -> int:
    """The exit code of a command that failed with `error`; 1 when nothing more is known."""
    if isinstance(error, KeyboardInterrupt):
        return ExitCode.INTERRUPTED
    if isinstance(error, KvctlError):
        return error.exit_code
    for family, code in _EXIT_CODE_OF_STORE_ERRORS:
        if isinstance(error, family):
            return code
    return ExitCode.NO
