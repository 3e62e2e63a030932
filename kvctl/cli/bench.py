"""`kvctl bench`: measure a cluster, verify every answer, and compare with a bare echo."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kvctl.cli.choices import PutSort, Workload
from kvctl.cli.durations import parse_duration
from kvctl.cli.invocation import Invocation, command, command_family
from kvctl.cli.output import Table
from kvctl.errors import ExitCode

app = command_family()


@command(
    app,
    "bench",
    examples=(
        "kvctl bench                                    puts for ten seconds",
        "kvctl bench --workload get --time 5s",
        "kvctl bench --clients 2 --in-flight 128 --yardstick -o json",
    ),
    goes_on=True,
)
def bench(
    run: Invocation,
    *,
    workload: Annotated[Workload, typer.Option(help="What to do.")] = Workload.PUT,
    put: Annotated[
        PutSort,
        typer.Option(help="Puts supersede what is there, or join it as siblings (on new keys)."),
    ] = PutSort.OVERWRITE,
    clients: Annotated[
        int, typer.Option(min=1, max=256, metavar="C", help="Client processes.")
    ] = 1,
    in_flight: Annotated[
        int, typer.Option(min=1, max=4096, metavar="D", help="Requests under way for each client.")
    ] = 64,
    duration: Annotated[
        str, typer.Option("--time", metavar="DURATION", help="How long to measure.")
    ] = "10s",
    value_size: Annotated[int, typer.Option(min=0, metavar="B", help="Bytes of each value.")] = 100,
    keys: Annotated[
        int, typer.Option(min=1, metavar="K", help="How many different keys.")
    ] = 10_000,
    yardstick: Annotated[
        bool,
        typer.Option("--yardstick", help="Also measure a bare echo between two processes here."),
    ] = False,
) -> None:
    """Measure throughput and latency, and verify what is read.

    A closed loop: each client keeps so many requests under way. Every answer is checked; one that
    is wrong or older than what was acknowledged counts as an error, and the exit code is 1.
    """
    seconds = parse_duration(duration, option="--time")
    from kvctl.bench.bench import run_bench

    report = run_bench(
        run.open_cluster()[0].name,
        workload=workload.value,
        put_kind=put.value,
        clients=clients,
        in_flight=in_flight,
        seconds=seconds,
        value_bytes=value_size,
        keys=keys,
        yardstick=yardstick,
        timeout_s=run.request_timeout_s,
    )
    figures = report.to_json()
    rows = [(name, _figure(value)) for name, value in figures.items() if value is not None]
    run.out.result(figures, Table(("FIGURE", ">VALUE"), rows))
    for sample in report.error_samples:
        run.out.warn(sample)
    if report.errors:
        raise typer.Exit(int(ExitCode.NO))


def _figure(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 1000 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)
