"""A process is known by pid, start time and nonce together; a zombie is dead."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from kvctl.cluster.processes import (
    ProcessIdentity,
    ProcessState,
    _module_options,
    adopt,
    end_processes,
    find_nodes,
    send_signal,
    start_time_s,
    state_of,
    wait_gone,
    wait_state,
)

READS_STDIN = "import sys; print(flush=True); sys.stdin.read()"
IGNORES_SIGTERM = (
    "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN);"
    "print(flush=True); sys.stdin.read()"
)


def spawn(code: str, nonce: str = "feed") -> tuple[subprocess.Popen[bytes], ProcessIdentity]:
    """Start a child and wait until its code runs, for which it prints a line."""
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", code, "--nonce", nonce],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert child.stdout is not None
    child.stdout.readline()
    return child, ProcessIdentity(child.pid, start_time_s(child.pid), nonce)


@pytest.fixture
def child() -> Iterator[tuple[subprocess.Popen[bytes], ProcessIdentity]]:
    process, identity = spawn(READS_STDIN)
    with process:
        yield process, identity
        process.kill()


def test_a_process_is_running_paused_and_gone(
    child: tuple[subprocess.Popen[bytes], ProcessIdentity],
) -> None:
    process, identity = child
    assert state_of(identity) is ProcessState.RUNNING
    assert send_signal(identity, signal.SIGSTOP)
    assert wait_state(identity, ProcessState.PAUSED, timeout_s=5)
    assert send_signal(identity, signal.SIGCONT)
    assert wait_state(identity, ProcessState.RUNNING, timeout_s=5)
    assert end_processes([identity], grace_s=5) == []
    assert state_of(identity) is ProcessState.GONE
    assert process.wait(5) == -signal.SIGTERM


def test_a_zombie_is_gone(child: tuple[subprocess.Popen[bytes], ProcessIdentity]) -> None:
    process, identity = child
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # ended, and not reaped
    assert state_of(identity) is ProcessState.GONE


def test_a_zombie_whose_threads_still_end_is_not_gone_yet(
    child: tuple[subprocess.Popen[bytes], ProcessIdentity], monkeypatch: pytest.MonkeyPatch
) -> None:
    process, identity = child
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(psutil.Process, "num_threads", lambda process: 2)
    assert state_of(identity) is ProcessState.RUNNING


@pytest.mark.parametrize(
    ("threads", "expected"), [(1, ProcessState.GONE), (2, ProcessState.RUNNING)]
)
def test_a_process_that_becomes_a_zombie_while_it_is_looked_at_is_one(
    child: tuple[subprocess.Popen[bytes], ProcessIdentity],
    monkeypatch: pytest.MonkeyPatch,
    threads: int,
    expected: ProcessState,
) -> None:
    process, identity = child
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    monkeypatch.setattr(psutil.Process, "status", lambda process: psutil.STATUS_RUNNING)
    monkeypatch.setattr(psutil.Process, "num_threads", lambda process: threads)
    assert state_of(identity) is expected


@pytest.mark.parametrize(
    "stranger",
    [
        lambda one: one._replace(nonce="beef"),
        lambda one: one._replace(started_s=one.started_s - 1000),
        lambda one: one._replace(pid=os.getpid()),
    ],
)
def test_a_stranger_with_the_same_pid_is_never_signalled(
    child: tuple[subprocess.Popen[bytes], ProcessIdentity],
    stranger: object,
) -> None:
    process, identity = child
    assert callable(stranger)
    other = stranger(identity)
    assert state_of(other) is ProcessState.GONE
    assert not send_signal(other, signal.SIGKILL)
    assert process.poll() is None


def test_a_process_in_the_middle_of_its_exec_is_not_taken_for_gone(
    child: tuple[subprocess.Popen[bytes], ProcessIdentity], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, identity = child
    monkeypatch.setattr(psutil.Process, "cmdline", lambda process: [])
    assert state_of(identity) is ProcessState.RUNNING


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace_and_reported() -> None:
    process, identity = spawn(IGNORES_SIGTERM)
    with process:
        assert end_processes([identity], grace_s=0.05) == [identity]
        assert process.wait(5) == -signal.SIGKILL


def test_a_paused_process_ends_on_sigterm_without_being_killed(
    child: tuple[subprocess.Popen[bytes], ProcessIdentity],
) -> None:
    _, identity = child
    send_signal(identity, signal.SIGSTOP)
    assert wait_state(identity, ProcessState.PAUSED, timeout_s=5)
    assert end_processes([identity], grace_s=5) == []


def test_an_adopted_child_leaves_no_zombie() -> None:
    process, identity = spawn(READS_STDIN)
    adopt(process)
    with process:
        process.kill()
        assert wait_gone([identity], timeout_s=5) == []
        assert not Path(f"/proc/{process.pid}").exists()


def test_nodes_are_found_by_their_command_line(tmp_path: Path) -> None:
    (tmp_path / "kvctl_node.py").write_text("import sys; print(flush=True); sys.stdin.read()")
    options = ["--directory", str(tmp_path / "shop"), "--name", "n1", "--nonce", "feed"]
    with subprocess.Popen(
        [sys.executable, "-S", "-m", "kvctl_node", *options],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=tmp_path,
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        [found] = [one for one in find_nodes() if one.directory == tmp_path / "shop"]
        assert (found.name, found.identity.pid, found.identity.nonce) == ("n1", process.pid, "feed")
        assert state_of(found.identity) is ProcessState.RUNNING
        process.kill()


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["python", "-P", "-m", "kvctl_node", "--name", "n1"], {"--name": "n1"}),
        (["python", "-m", "kvctl_node.other", "--name", "n1"], {}),
        (["grep", "kvctl_node", "--name"], {}),
        (["python", "-m"], {}),
        ([], {}),
    ],
)
def test_only_the_module_itself_is_taken_for_a_node(
    arguments: list[str], expected: dict[str, str]
) -> None:
    assert _module_options(arguments, "kvctl_node") == expected
