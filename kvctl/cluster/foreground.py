"""A cluster that lives as long as a command: `kvctl up --fg`.

The nodes are the same detached processes as ever; only this command waits instead of returning, and
stops them when it is told to end (ctrl-c, SIGTERM) or when it fails. If somebody else stops the
cluster, it ends by itself.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from kvctl.cluster.facts import DownReport, UpReport
from kvctl.cluster.options import UpOptions
from kvctl.errors import ClusterNotFoundError

if TYPE_CHECKING:
    from kvctl.cluster.supervisor import Supervisor

_LOOK_S = 0.5


def run_in_foreground(
    supervisor: Supervisor,
    name: str,
    options: UpOptions,
    *,
    ready: Callable[[UpReport], None],
    timeout_s: float = 30.0,
) -> None:
    """`up`, call `ready`, stay until interrupted, `down`. Must run in the main thread.

    Raises `KeyboardInterrupt` when it was interrupted (exit code 130), and what `up` raises;
    returns only when the cluster was stopped from elsewhere.
    """
    with _termination_interrupts():
        try:
            ready(supervisor.up(name, options, timeout_s=timeout_s))
            while supervisor.running_pids(name):
                time.sleep(_LOOK_S)
        except ClusterNotFoundError:
            return  # stopped and purged from elsewhere
        finally:
            _down_undisturbed(supervisor, name)


@contextmanager
def _termination_interrupts() -> Iterator[None]:
    """SIGTERM and SIGHUP end the command as ctrl-c does: with the cluster stopped."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {
        number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _down_undisturbed(supervisor: Supervisor, name: str) -> DownReport | None:
    """Stop the cluster; an impatient second ctrl-c does not leave half of it running."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        return supervisor.down(name)
    except ClusterNotFoundError:
        return None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
