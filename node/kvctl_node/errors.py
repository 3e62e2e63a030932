"""What can go wrong, told apart by what the caller may conclude from it.

A client of a replicated store has to know, after a failure, whether its write *may* exist. So
failures come in two families (the distinction Maelstrom's client errors make):

* **definite**: nothing was stored and nothing will ever be read: `UnavailableError`,
  `OverloadedError`, `InvalidRequestError` and its kin;
* **indefinite**: the write may appear, now or later: `IndeterminateError`.

Every error carries one plain sentence (`message`) and, where one helps, a `hint`. `FailureKind`
is the same classification as it travels on the wire.
"""

from __future__ import annotations

from enum import IntEnum


class FailureKind(IntEnum):
    """The class of a failed request, as sent to a client."""

    UNAVAILABLE = 1
    """Too few replicas were reachable; definitely not applied."""
    INDETERMINATE = 2
    """Something was stored somewhere, the quorum was not reached; may have been applied."""
    OVERLOADED = 3
    """A bounded queue or the disk is full; definitely not applied."""
    INVALID = 4
    """The request itself is wrong; definitely not applied."""
    WRONG_CONTEXT = 5
    """The causal context belongs to another key or cluster, or is damaged."""
    TOO_LARGE = 6
    """Key or value over its limit."""


class StoreError(Exception):
    """Base of every error the project raises on purpose.

    `message` is one sentence for a person; `hint` says what to do next ("" if nothing helps).
    """

    kind = "error"

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UnavailableError(StoreError):
    """Too few replicas were reachable: definitely nothing was stored, or nothing could be read."""

    kind = "unavailable"


class OverloadedError(UnavailableError):
    """A named limit was reached (requests in flight, disk space): definitely nothing was stored."""

    kind = "overloaded"


class IndeterminateError(StoreError):
    """The write may have been applied, now or later; a retry with the same request id is safe."""

    kind = "indeterminate"


class InvalidRequestError(StoreError):
    """The request is wrong in itself (sizes, options, encoding): definitely nothing was stored."""

    kind = "usage"


class TooLargeError(InvalidRequestError):
    """A key or value is over its limit."""

    kind = "too_large"


class WrongContextError(InvalidRequestError):
    """A causal context was given that belongs to another key or cluster, or is damaged."""

    kind = "wrong_context"


class ConfigError(StoreError):
    """A configuration file or option is malformed or contradicts itself."""

    kind = "config"


class OpenFilesError(StoreError):
    """The system allows fewer open files than the process needs."""

    kind = "open_files"


class ProtocolError(StoreError):
    """Bytes from a peer or client that are not a valid frame; counted and dropped, never fatal."""

    kind = "protocol"


class StorageError(StoreError):
    """The storage engine cannot go on; the process ends rather than acknowledge anything."""

    kind = "storage"


class StorageFullError(StorageError):
    """The disk (or the configured limit) is full."""

    kind = "disk_full"


class CorruptRecordError(StorageError):
    """A stored record failed its checksum or its file is damaged: *not* evidence of absence."""

    kind = "corrupt"


class RebuildingError(CorruptRecordError):
    """A key is missing on a node that is rebuilding its disk: *not* evidence of absence."""

    kind = "rebuilding"


class DataDirectoryError(StorageError):
    """The data directory is in use, unreadable, another node's, or of another format."""

    kind = "data_directory"


class DataFormatError(DataDirectoryError):
    """The database says a format that this kvctl does not read, or its header is damaged."""

    kind = "data_format"


class DirectoryGoneError(DataDirectoryError):
    """The data directory was removed, moved or replaced under the running node."""

    kind = "directory_gone"


ERROR_BY_FAILURE: dict[int, type[StoreError]] = {
    FailureKind.UNAVAILABLE: UnavailableError,
    FailureKind.INDETERMINATE: IndeterminateError,
    FailureKind.OVERLOADED: OverloadedError,
    FailureKind.INVALID: InvalidRequestError,
    FailureKind.WRONG_CONTEXT: WrongContextError,
    FailureKind.TOO_LARGE: TooLargeError,
}
