"""Exit codes are an interface: every error ends a command with the code that is documented."""

from __future__ import annotations

import pytest

from kvctl import errors
from kvctl.errors import ExitCode, exit_code_of
from kvctl_node.errors import (
    ConfigError,
    IndeterminateError,
    InvalidRequestError,
    OverloadedError,
    StorageError,
    TooLargeError,
    UnavailableError,
    WrongContextError,
)


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ClusterNotFoundError("x"), 5),
        (errors.ClusterUnreachableError("x"), 5),
        (errors.NodeStartError("x"), 5),
        (errors.PortTakenError("x"), 5),
        (errors.LockedError("x"), 124),
        (errors.WaitTimeoutError("x"), 124),
        (errors.ContradictionError("x"), 2),
        (errors.AlreadyRunningError("x"), 2),
        (errors.ConflictError("x"), 6),
        (errors.UndecidedError("x"), 7),
        (errors.HomeError("x"), 5),
        (errors.NewerFormatError("x"), 5),
        (UnavailableError("x"), 3),
        (OverloadedError("x"), 3),
        (IndeterminateError("x"), 4),
        (InvalidRequestError("x"), 2),
        (TooLargeError("x"), 2),
        (WrongContextError("x"), 2),
        (ConfigError("x"), 2),
        (StorageError("x"), 1),
        (KeyboardInterrupt(), 130),
        (ValueError("x"), 1),
    ],
)
def test_every_error_has_its_documented_exit_code(error: BaseException, code: int) -> None:
    assert exit_code_of(error) == code


def test_the_codes_are_those_scripts_rely_on() -> None:
    assert {code.name: code.value for code in ExitCode} == {
        "DONE": 0,
        "NO": 1,
        "USAGE": 2,
        "UNAVAILABLE": 3,
        "INDETERMINATE": 4,
        "UNREACHABLE": 5,
        "CONFLICT": 6,
        "UNDECIDED": 7,
        "TIMED_OUT": 124,
        "INTERRUPTED": 130,
    }
