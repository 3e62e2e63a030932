"""A benchmark run: several clients, one clock, one report.

A closed loop: each client keeps its number of requests in flight and submits the next when one is
answered, so the throughput is what the cluster gives at that depth, and latencies include the wait
behind the client's own other requests. Every answer is verified (`workload`); an answer that is
wrong is an error and not an operation.

`in_flight` is per client; the report's `in_flight` is the sum over all clients. The first second,
or a tenth of the time if that is less, is warm-up and not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from random import SystemRandom
from typing import Any, NamedTuple

from kvctl.bench.histogram import LatencyHistogram
from kvctl.bench.quiet import await_quiet
from kvctl.bench.worker import Worker, WorkerOrder
from kvctl.bench.workload import Measurement, WorkloadClient, WorkloadOptions
from kvctl.bench.yardstick import Yardstick, measure_echo
from kvctl.client.client import DEFAULT_TIMEOUT_S, Client, connect
from kvctl.cluster.directory import choose_cluster
from kvctl_node.errors import InvalidRequestError
from kvctl_node.runtime.open_files import allow_open_files

CLIENTS_MAX = 256
_FILES_PER_CLIENT = 6
"""Pipes to and from a client's process, and what starting it opens for a moment."""
_FILES = 64
WARM_UP_S_MAX = 1.0
WARM_UP_SHARE = 0.1


class BenchReport(NamedTuple):
    """What a run measured. Latencies in milliseconds, None when no operation succeeded."""

    workload: str
    ops: int
    errors: int
    seconds: float
    ops_per_s: float
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    in_flight: int
    """Over all clients."""
    clients: int
    echo_per_s: float | None = None
    echo_ms: float | None = None
    error_samples: tuple[str, ...] = ()
    """The first few errors, for people; not part of the JSON."""

    def to_json(self) -> dict[str, Any]:
        """The object that `kvctl bench -o json` prints; `echo_*` null without the yardstick."""
        document = self._asdict()
        del document["error_samples"]
        return document


def run_bench(
    cluster: str | None = None,
    *,
    home: Path | None = None,
    workload: str = "put",
    put_kind: str = "overwrite",
    clients: int = 1,
    in_flight: int = 64,
    seconds: float = 10.0,
    value_bytes: int = 100,
    keys: int = 10_000,
    yardstick: bool = False,
    timeout_s: float = DEFAULT_TIMEOUT_S,
) -> BenchReport:
    """Measure a running cluster for `seconds`, plus warm-up and preloading.

    `workload`: put, get or mixed; `put_kind`: overwrite or blind; `clients`: processes (a single
    one runs in this process); `in_flight` and `keys`: per client; `yardstick`: measure a bare echo
    before and after, while the cluster is idle, and take the mean: a machine's speed drifts.

    Raises `InvalidRequestError` on options that cannot be, what a client raises when the cluster
    cannot be reached, and `KvctlError` when a process fails.
    """
    if not 1 <= clients <= CLIENTS_MAX:
        raise InvalidRequestError(f"there can be 1 to {CLIENTS_MAX} clients, not {clients}.")
    options = WorkloadOptions(
        workload=workload,
        put_kind=put_kind,
        in_flight=in_flight,
        seconds=seconds,
        warm_up_s=min(WARM_UP_S_MAX, seconds * WARM_UP_SHARE),
        value_bytes=value_bytes,
        keys=keys,
        run=SystemRandom().getrandbits(32),
    )
    options.validate()
    name = choose_cluster(cluster, home)
    allow_open_files(_FILES + _FILES_PER_CLIENT * clients, f"this benchmark ({clients} clients)")
    with connect(name, home=home, timeout_s=timeout_s) as client:
        client.describe()  # a cluster that cannot be reached is said before anything is measured
        echo = _echo_in_quiet(client) if yardstick else None
        if clients == 1:
            alone = WorkloadClient(client, options, 1)
            alone.preload()
            measurements = [alone.run()]
        else:
            orders = [
                WorkerOrder(name, None if home is None else str(home), timeout_s, number, options)
                for number in range(1, clients + 1)
            ]
            measurements = _run_workers(orders)
        if echo is not None:
            echo = echo.mean_with(_echo_in_quiet(client))
    return _sum_up(options, measurements, echo)


def _echo_in_quiet(client: Client) -> Yardstick:
    await_quiet(client)
    return measure_echo()


def _run_workers(orders: Sequence[WorkerOrder]) -> list[Measurement]:
    with ExitStack() as stack:
        workers: list[Worker] = []
        for order in orders:
            worker = Worker(order)
            stack.callback(worker.stop)
            workers.append(worker)
        for worker in workers:
            worker.wait_ready()
        for worker in workers:
            worker.go()
        return [worker.measurement() for worker in workers]


def _sum_up(
    options: WorkloadOptions, measurements: Sequence[Measurement], echo: Yardstick | None
) -> BenchReport:
    histogram = LatencyHistogram()
    for measured in measurements:
        histogram.add(LatencyHistogram(measured.histogram))
    ops = sum(measured.ops for measured in measurements)
    seconds = max(measured.seconds for measured in measurements)
    samples = [sample for measured in measurements for sample in measured.samples]
    return BenchReport(
        workload=options.workload,
        ops=ops,
        errors=sum(measured.errors for measured in measurements),
        seconds=seconds,
        ops_per_s=round(ops / seconds, 1),
        p50_ms=_milliseconds(histogram, 50),
        p95_ms=_milliseconds(histogram, 95),
        p99_ms=_milliseconds(histogram, 99),
        in_flight=options.in_flight * len(measurements),
        clients=len(measurements),
        echo_per_s=None if echo is None else round(echo.echo_per_s, 1),
        echo_ms=None if echo is None else round(echo.echo_ms, 4),
        error_samples=tuple(samples[:5]),
    )


def _milliseconds(histogram: LatencyHistogram, percent: float) -> float | None:
    latency_s = histogram.percentile_s(percent)
    return None if latency_s is None else round(latency_s * 1000, 4)
