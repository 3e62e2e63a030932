"""One command at a time changes a cluster, and the one that waits is told for whom."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from kvctl.cluster.locking import hold_lock, is_held, read_holder
from kvctl.errors import ClusterNotFoundError, LockedError, exit_code_of


def test_a_second_command_is_told_who_holds_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    told: list[str] = []
    with hold_lock(path, wait_s=0, command="kvctl repair"):
        assert is_held(path)
        with (
            pytest.raises(LockedError, match=f"process {os.getpid()} \\(kvctl repair\\)") as caught,
            hold_lock(path, wait_s=0.05, notify=told.append),
        ):
            raise AssertionError("two commands held the lock")
    assert exit_code_of(caught.value) == 124
    assert len(told) == 1
    assert "kvctl repair" in told[0]


def test_the_lock_is_free_again_after_an_error_and_names_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with pytest.raises(KeyError), hold_lock(path, wait_s=0):
        raise KeyError
    assert not is_held(path)
    assert read_holder(path) is None
    with hold_lock(path, wait_s=0):
        pass


def test_a_waiting_command_gets_the_lock_when_it_is_released(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order: list[str] = []
    waiting = threading.Event()

    def second() -> None:
        with hold_lock(path, wait_s=10, notify=lambda sentence: waiting.set()):
            order.append("second")

    with hold_lock(path, wait_s=0):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]


def test_whoever_waits_while_the_cluster_is_purged_is_told_that_it_is_gone(tmp_path: Path) -> None:
    directory = tmp_path / "shop"
    directory.mkdir()
    path = directory / "lock"
    errors: list[Exception] = []
    waiting = threading.Event()

    def second() -> None:
        try:
            with hold_lock(path, wait_s=10, notify=lambda sentence: waiting.set()):
                raise AssertionError("held a lock on a file that is gone")
        except ClusterNotFoundError as error:
            errors.append(error)

    with hold_lock(path, wait_s=0):
        thread = threading.Thread(target=second)
        thread.start()
        assert waiting.wait(10)
        path.unlink()
        directory.rmdir()
    thread.join(10)
    assert len(errors) == 1


def test_a_lock_on_a_file_that_was_just_deleted_is_taken_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "lock"
    flock = fcntl.flock
    deletions = iter([path.unlink])

    def purge_comes_first(descriptor: int, operation: int) -> None:
        for delete in deletions:  # once: between our open and our flock
            delete()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", purge_comes_first)
    with hold_lock(path, wait_s=0):
        assert path.exists(), "the lock held is one that others can see"
        assert is_held(path)


def test_the_kernel_releases_the_lock_of_a_command_that_was_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, os, signal, pathlib\n"
        "from kvctl.cluster.locking import hold_lock\n"
        "with hold_lock(pathlib.Path(sys.argv[1]), wait_s=0, command='kvctl up'):\n"
        "    os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False, timeout=20)
    assert not is_held(path)
    holder = read_holder(path)
    assert holder is not None
    assert holder.command == "kvctl up"
