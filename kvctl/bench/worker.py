"""One client of a benchmark in a process of its own: `python -m kvctl.bench.worker`.

One Python process is one core, so several clients are several processes. The parent writes the
order as one line of JSON, the worker preloads and says `ready`, the parent says `go` to all of them
at once, and the worker answers with its measurement, again one line. A worker whose parent dies
reads the end of its input and ends.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import msgspec

from kvctl.bench.workload import Measurement, WorkloadClient, WorkloadOptions
from kvctl.client.client import connect
from kvctl.errors import KvctlError
from kvctl_node.errors import StoreError

READY = "ready"
GO = "go"


class WorkerOrder(msgspec.Struct, frozen=True):
    """All that a worker has to know."""

    cluster: str
    home: str | None
    timeout_s: float
    number: int
    options: WorkloadOptions


class Worker:
    """A worker process, as its parent sees it: `wait_ready`, `go`, `measurement`, `stop`."""

    def __init__(self, order: WorkerOrder) -> None:
        self._number = order.number
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "kvctl.bench.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._tell(msgspec.json.encode(order).decode())

    def wait_ready(self) -> None:
        """Block until the worker has preloaded its keys. Raises `KvctlError` if it failed."""
        if self._hear() != READY:
            raise self._failure()

    def go(self) -> None:
        """Let it begin."""
        self._tell(GO)

    def measurement(self) -> Measurement:
        """Block until it has finished. Raises `KvctlError` if it failed."""
        line = self._hear()
        if not line:
            raise self._failure()
        return msgspec.json.decode(line, type=Measurement)

    def stop(self) -> None:
        """End it, if it still runs; idempotent."""
        self._process.kill()
        self._process.communicate()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(line + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise self._failure() from error

    def _hear(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    def _failure(self) -> KvctlError:
        assert self._process.stderr is not None
        words = self._process.stderr.read().strip().splitlines()
        reason = words[-1] if words else f"it ended with code {self._process.wait()}"
        return KvctlError(f"client {self._number} of the benchmark failed: {reason}")


def work(order: WorkerOrder) -> None:
    """Carry out an order; raises what the client raises."""
    home = None if order.home is None else Path(order.home)
    with connect(order.cluster, home=home, timeout_s=order.timeout_s) as client:
        workload = WorkloadClient(client, order.options, order.number)
        workload.preload()
        _say(READY)
        if sys.stdin.readline().strip() == GO:
            _say(msgspec.json.encode(workload.run()).decode())


def main() -> int:
    """The process: its order on stdin, its measurement on stdout, a failure on stderr."""
    try:
        work(msgspec.json.decode(sys.stdin.readline(), type=WorkerOrder))
    except StoreError as error:
        sys.stderr.write(f"{error.message}\n")
        return 1
    return 0


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
