"""Starting a node's process, detached, and reading the last words of one that ended.

A node is `python -m kvctl_node` in a session of its own: no terminal signal reaches it, and it
outlives the command that started it. `-P` keeps the working directory, which is the cluster's, off
the module path. Spawning returns at once; whether the node came to serve is `readiness`'s business.
"""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path

import msgspec

from kvctl.cluster.directory import ClusterDirectory, make_private_directory
from kvctl.cluster.processes import (
    DEFERRED_MODULE,
    NODE_MODULE,
    ProcessIdentity,
    adopt,
    start_time_s,
)
from kvctl.errors import NodeStartError
from kvctl_node.documents import UNREADABLE

_LAST_WORDS_CHARS = 400
_HINT = "hint: "


class ExitNote(msgspec.Struct):
    """What a node leaves in `exit.json` when it ends because of an error."""

    code: int
    kind: str = ""
    message: str = ""
    hint: str = ""
    at_ms: int = 0
    nonce: str = ""
    """Which process wrote it: a second one, started on a directory in use, leaves a note, too."""


def spawn_node(
    directory: ClusterDirectory,
    name: str,
    *,
    cluster_id: str,
    known_generation: int,
    known_actor_epoch: int,
) -> ProcessIdentity:
    """Start one node's process. Raises `NodeStartError` if the system cannot start it."""
    make_private_directory(directory.node(name))
    exit_note_path(directory, name).unlink(missing_ok=True)
    nonce = secrets.token_hex(16)
    arguments = [
        *("--directory", str(directory.path)),
        *("--name", name),
        *("--nonce", nonce),
        *("--cluster-id", cluster_id),
        *("--known-generation", str(known_generation)),
        *("--known-actor-epoch", str(known_actor_epoch)),
    ]
    pid = spawn_detached(
        NODE_MODULE,
        arguments,
        working_directory=directory.path,
        stderr_path=directory.stderr_path(name),
        what=name,
    )
    return ProcessIdentity(pid, start_time_s(pid), nonce)


def spawn_deferred(
    directory: ClusterDirectory, arguments: list[str], *, stderr_path: Path
) -> ProcessIdentity:
    """Start a process that does something to the cluster later (see `deferred`)."""
    nonce = secrets.token_hex(16)
    pid = spawn_detached(
        DEFERRED_MODULE,
        ["--directory", str(directory.path), "--nonce", nonce, *arguments],
        working_directory=Path("/"),  # it must not keep a removed directory busy
        stderr_path=stderr_path,
        what="the process that acts later",
    )
    return ProcessIdentity(pid, start_time_s(pid), nonce)


def spawn_detached(
    module: str, arguments: list[str], *, working_directory: Path, stderr_path: Path, what: str
) -> int:
    """Run a Python module in a session of its own; returns the pid. Raises `NodeStartError`."""
    try:
        # Truncated at every start: it holds what logging could not, and so stays small.
        with stderr_path.open("wb") as stderr:
            child = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                cwd=working_directory,
                start_new_session=True,
            )
    except OSError as error:
        raise NodeStartError(f"cannot start {what}: {error.strerror}.") from error
    adopt(child)
    return child.pid


def exit_note_path(directory: ClusterDirectory, name: str) -> Path:
    """Where a node says why it ended."""
    return directory.node(name) / "exit.json"


def read_exit_note(directory: ClusterDirectory, name: str, nonce: str = "") -> ExitNote | None:
    """The note of a node that ended because of an error; None if it left none.

    With a `nonce`, only the note of that very process counts.
    """
    try:
        note = msgspec.json.decode(exit_note_path(directory, name).read_bytes(), type=ExitNote)
    except (OSError, *UNREADABLE):
        return None
    return None if nonce and note.nonce != nonce else note


def last_words(directory: ClusterDirectory, name: str, nonce: str = "") -> tuple[str, str]:
    """Why a node ended, by its own account: a sentence (or "") and a hint (or "").

    `exit.json` if it left one (under this `nonce`, if one is given), else the last line it wrote to
    its standard error, and the hint below it.
    """
    note = read_exit_note(directory, name, nonce)
    if note is not None and note.message:
        return note.message, note.hint.replace("kvctl wipe NODE", f"kvctl wipe {name}")
    try:
        text = directory.stderr_path(name).read_text(errors="replace").strip()
    except OSError:
        return "", ""
    *_, words = ["", *text.splitlines()]
    hint = ""
    if words.startswith(_HINT) and "\n" in text:
        words, hint = text.splitlines()[-2], words.removeprefix(_HINT)
    return words[:_LAST_WORDS_CHARS], hint
