"""Doing something to a cluster later: the end of `--for 10s` and of `--ttl 10m`.

`kvctl pause n1 --for 10s` returns at once, and the pause is lifted after ten seconds even if every
kvctl has ended by then: a detached process of this module waits and acts. (Waiting in the
foreground would hold up the script that wants to see what the cluster does meanwhile.)

The registry says which deferred action is still meant. A command that touches the node in between
clears it; the process, when its time comes, takes the lock, finds itself not mentioned and ends.
It also ends when the cluster's directory is gone. So it stops by itself in every case, and acts at
most once. If it is killed, `doctor` finds what is overdue.

    python -m kvctl.cluster.deferred --directory DIR --nonce HEX --due-ms T
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import msgspec

from kvctl.cluster.directory import ClusterDirectory
from kvctl.cluster.held_cluster import HeldCluster
from kvctl.cluster.run_state import DeferredAction
from kvctl.cluster.spawn import spawn_deferred
from kvctl_node.errors import StoreError

START = "start"
RESUME = "resume"
DOWN = "down"

_LOOK_S = 0.5
_LOCK_WAIT_S = 300.0


def defer(held: HeldCluster, action: str, after_s: float) -> DeferredAction:
    """Leave a process behind that acts after so many seconds; the caller notes it in the registry.

    Raises `NodeStartError` if it cannot be started.
    """
    due_ms = time.time_ns() // 1_000_000 + round(after_s * 1000)
    identity = spawn_deferred(
        held.directory,
        ["--due-ms", str(due_ms)],
        stderr_path=held.directory.path / f"deferred-{action}.log",
    )
    return DeferredAction(identity.nonce, action, due_ms)


def defer_for_nodes(held: HeldCluster, names: Sequence[str], action: str, after_s: float) -> None:
    """Defer an action and note it for these nodes."""
    deferred = defer(held, action, after_s)
    held.remember(
        {name: msgspec.structs.replace(held.run.node(name), deferred=deferred) for name in names}
    )


def main(arguments: list[str] | None = None) -> int:
    """Wait until it is due, then act if that is still meant. Returns the exit code."""
    parser = argparse.ArgumentParser(prog="kvctl.cluster.deferred")
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--nonce", required=True)
    parser.add_argument("--due-ms", type=int, required=True)
    options = parser.parse_args(arguments)
    directory = ClusterDirectory(options.directory)
    if not _sleep_until(options.due_ms, directory):
        return 0
    from kvctl.cluster.supervisor import Supervisor  # it imports this module

    supervisor = Supervisor(
        directory.path.parent.parent,
        lock_wait_s=_LOCK_WAIT_S,
        command="what an earlier command deferred",
    )
    try:
        supervisor.run_deferred(directory.name, options.nonce)
    except StoreError as error:
        print(error.message, file=sys.stderr)  # noqa: T201 - its log is its standard error
        return 1
    return 0


def _sleep_until(due_ms: int, directory: ClusterDirectory) -> bool:
    """Wait on the wall clock, which goes on while the machine sleeps; False if nothing is left."""
    while directory.exists():
        left_s = due_ms / 1000 - time.time()
        if left_s <= 0:
            return True
        time.sleep(min(_LOOK_S, left_s))
    return False


if __name__ == "__main__":
    sys.exit(main())
