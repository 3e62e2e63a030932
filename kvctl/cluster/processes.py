"""Node processes as the operating system shows them: found, identified, signalled, waited for.

A process is known by three things together: its pid, its start time, and the nonce on its command
line (which it also answers when asked). Pids are reused, so a pid alone may name a stranger;
nothing is ever signalled before all three were compared. A zombie is dead: it runs nothing, it only
waits for its parent to notice.

The start time is the one the kernel counts from boot where `/proc` has it, because a wall-clock
start time shifts when the clock is set.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from enum import Enum
from pathlib import Path
from typing import NamedTuple

import psutil

from kvctl.errors import KvctlError

NODE_MODULE = "kvctl_node"
DEFERRED_MODULE = "kvctl.cluster.deferred"
_START_TOLERANCE_S = 0.5
_POLL_S = 0.005
_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)

_children: dict[int, subprocess.Popen[bytes]] = {}
"""Nodes this very process spawned and has to reap; other kvctl processes' nodes belong to init."""


class ProcessIdentity(NamedTuple):
    """Which process is meant, beyond doubt."""

    pid: int
    started_s: float
    nonce: str


class ProcessState(Enum):
    """What a process is doing."""

    RUNNING = "running"
    PAUSED = "paused"
    GONE = "gone"


class FoundNode(NamedTuple):
    """A node process found by its command line."""

    directory: Path
    """The cluster's directory as it was called when the process was started."""
    name: str
    identity: ProcessIdentity
    cluster_id: str = ""
    """The cluster it was started for; "" if its command line does not say."""
    working_directory: Path | None = None
    """The cluster's directory as it is called now; a removed one keeps its name."""


def adopt(child: subprocess.Popen[bytes]) -> None:
    """Remember a spawned child, so that it is reaped when it ends."""
    _children[child.pid] = child


def reap() -> None:
    """Collect the children that ended, so that they do not stay behind as zombies."""
    for pid, child in list(_children.items()):
        if child.poll() is not None:
            _children.pop(pid, None)


def start_time_s(pid: int) -> float:
    """When the process started, in seconds on a clock that only grows; 0.0 if there is none."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        pass  # no such process, or no /proc: ask psutil, which knows every platform
    else:
        # Fields after the parenthesised command name; the 22nd of all is the start in clock ticks.
        ticks = int(stat.rpartition(b")")[2].split()[19])
        return ticks / os.sysconf("SC_CLK_TCK")
    try:
        return float(psutil.Process(pid).create_time())
    except psutil.Error:
        return 0.0


def state_of(identity: ProcessIdentity | None) -> ProcessState:
    """What the process of this identity does; GONE if another process has its pid now."""
    if identity is None or identity.pid <= 0:
        return ProcessState.GONE
    reap()
    if abs(start_time_s(identity.pid) - identity.started_s) > _START_TOLERANCE_S:
        return ProcessState.GONE
    try:
        process = psutil.Process(identity.pid)
        with process.oneshot():
            status = process.status()
            arguments = [] if status in _ENDED else process.cmdline()
    except psutil.ZombieProcess:
        status, arguments = psutil.STATUS_ZOMBIE, []  # it ended between the two looks
    except psutil.Error:
        return ProcessState.GONE
    if status in _ENDED:
        return ProcessState.RUNNING if _is_still_ending(process) else ProcessState.GONE
    # A process that is just being executed has no arguments for a moment, and is ours.
    if arguments and identity.nonce not in arguments:
        return ProcessState.GONE
    if status in (psutil.STATUS_STOPPED, psutil.STATUS_TRACING_STOP):
        return ProcessState.PAUSED
    return ProcessState.RUNNING


def _is_still_ending(process: psutil.Process) -> bool:
    """Whether a zombie has threads left, which keep its sockets and locks for another moment."""
    if process.pid in _children:
        return True  # ours, and `reap` has just found that it has not ended completely
    try:
        return process.num_threads() > 1
    except psutil.Error:
        return False


def send_signal(identity: ProcessIdentity, number: signal.Signals) -> bool:
    """Signal the process; False if it is gone. Raises `KvctlError` if that is not allowed."""
    if state_of(identity) is ProcessState.GONE:
        return False
    try:
        os.kill(identity.pid, number)
    except ProcessLookupError:
        return False
    except PermissionError as error:
        raise KvctlError(
            f"process {identity.pid} belongs to another user.", hint="run kvctl as that user."
        ) from error
    return True


def wait_gone(identities: Iterable[ProcessIdentity], *, timeout_s: float) -> list[ProcessIdentity]:
    """Wait until all are gone; returns those that are still there after `timeout_s` seconds."""
    deadline_s = time.monotonic() + timeout_s
    remaining = list(identities)
    while True:
        remaining = [one for one in remaining if state_of(one) is not ProcessState.GONE]
        if not remaining or time.monotonic() >= deadline_s:
            return remaining
        time.sleep(_POLL_S)


def wait_state(identity: ProcessIdentity, wanted: ProcessState, *, timeout_s: float) -> bool:
    """Wait until the process is in the state; False if it was not in time."""
    deadline_s = time.monotonic() + timeout_s
    while state_of(identity) is not wanted:
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(_POLL_S)
    return True


def end_processes(
    identities: Sequence[ProcessIdentity], *, grace_s: float
) -> list[ProcessIdentity]:
    """SIGTERM to all at once, SIGKILL to those that outlive the grace; all are gone on return.

    Paused processes are resumed, since a stopped process handles no SIGTERM. Returns those that had
    to be killed. Raises `KvctlError` if even that did not end one (a process stuck in the kernel).
    """
    for identity in identities:
        send_signal(identity, signal.SIGTERM)
        send_signal(identity, signal.SIGCONT)
    stubborn = wait_gone(identities, timeout_s=grace_s)
    kill_processes(stubborn)
    return stubborn


def kill_processes(identities: Sequence[ProcessIdentity]) -> None:
    """SIGKILL to all at once; all are gone on return. Raises `KvctlError` if one is not."""
    for identity in identities:
        send_signal(identity, signal.SIGKILL)
    immortal = wait_gone(identities, timeout_s=10.0)
    if immortal:
        pids = ", ".join(str(identity.pid) for identity in immortal)
        raise KvctlError(f"process {pids} did not end even after SIGKILL.")


def find_nodes() -> list[FoundNode]:
    """All node processes of this machine that this user may look at, of whatever cluster."""
    found = []
    for pid, arguments in _command_lines():
        options = _module_options(arguments, NODE_MODULE)
        if {"--directory", "--name", "--nonce"} <= options.keys():
            identity = ProcessIdentity(pid, start_time_s(pid), options["--nonce"])
            found.append(
                FoundNode(
                    Path(options["--directory"]),
                    options["--name"],
                    identity,
                    options.get("--cluster-id", ""),
                    _working_directory(pid),
                )
            )
    return found


def _working_directory(pid: int) -> Path | None:
    try:
        return Path(psutil.Process(pid).cwd())
    except psutil.Error:
        return None  # ended meanwhile, or another user's


def words_for(process: psutil.Process) -> str:
    """Which process it is, for a sentence: a node by its name and directory, else the program."""
    options = _module_options(process.cmdline(), NODE_MODULE)
    if {"--directory", "--name"} <= options.keys():
        return f"{options['--name']} of {options['--directory']} (process {process.pid})"
    return f"{process.name()} (process {process.pid})"


def find_deferred(directory: Path) -> list[ProcessIdentity]:
    """The processes that were left behind to do something to this cluster later."""
    found = []
    for pid, arguments in _command_lines():
        options = _module_options(arguments, DEFERRED_MODULE)
        if "--nonce" in options and Path(options.get("--directory", "")) == directory:
            found.append(ProcessIdentity(pid, start_time_s(pid), options["--nonce"]))
    return found


def _command_lines() -> Iterable[tuple[int, list[str]]]:
    """(pid, argument vector) of every process but zombies and those that may not be looked at."""
    for process in psutil.process_iter():
        try:
            if process.status() != psutil.STATUS_ZOMBIE:
                yield process.pid, process.cmdline()
        except psutil.Error:
            continue  # ended meanwhile, or another user's


def _module_options(arguments: Sequence[str], module: str) -> dict[str, str]:
    """The `--option value` pairs after `-m module`; empty if this is not that module's process."""
    for index in range(len(arguments) - 1):
        if arguments[index] == "-m" and arguments[index + 1] == module:
            rest = arguments[index + 2 :]
            return dict(zip(rest[::2], rest[1::2], strict=False))
    return {}
