"""The state of a cluster: facts about processes, sockets and answers, never beliefs."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvctl.cli.invocation import Invocation, command, command_family
from kvctl.cli.output import OutputFormat, Table
from kvctl.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kvctl.cluster.facts import ClusterStatus, NodeStatus

app = command_family()

STATUS_TIMEOUT_S = 1.0
WATCH_INTERVAL_S = 1.0
_COLUMNS = (
    "NODE",
    "STATE",
    ">PID",
    "ENDPOINT",
    "ZONE",
    ">CAP",
    ">SHARE",
    ">KEYS",
    ">HINTS",
    ">CONFL",
    "REASON",
)


@command(
    app,
    "status",
    examples=(
        "kvctl status                                    a table",
        "kvctl status --check && deploy                  exit code 1 unless all nodes are up",
        "kvctl status -o json | jq -r '.nodes[].state'   for scripts",
    ),
)
def status(
    run: Invocation,
    *,
    watch: Annotated[
        bool, typer.Option("--watch", help="Show it again every second, until Ctrl-C.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Exit with 1 unless every node is up.")
    ] = False,
) -> None:
    """Show the facts about every node: process, socket, answer.

    States: up, unresponsive (process there, no answer), paused, stopped, dead, joining, leaving.
    """
    name = run.open_cluster()[0].name
    supervisor = run.supervisor()

    def observe() -> ClusterStatus:
        return supervisor.status(name, timeout_s=run.given_timeout_s or STATUS_TIMEOUT_S)

    run.out.goes_on = check and not watch  # the exit code is what was asked for
    current = observe()
    _show(run, current)
    while watch:
        time.sleep(WATCH_INTERVAL_S)
        current = observe()
        if run.out.format is OutputFormat.TABLE:
            clear_screen(run)
        _show(run, current)
    if check and not current.healthy:
        raise typer.Exit(int(ExitCode.NO))


def clear_screen(run: Invocation) -> None:
    """Begin again at the top of the terminal."""
    if run.out.is_terminal:
        run.out.write(b"\x1b[H\x1b[2J")


def status_document(status: ClusterStatus) -> dict[str, Any]:
    """What `-o json` prints."""
    quorum = status.quorum
    return {
        "cluster": status.cluster,
        "quorum": {"n": quorum.n, "r": quorum.r, "w": quorum.w, "mode": quorum.mode},
        "epoch": status.epoch,
        "nodes": [_node_document(node) for node in status.nodes],
    }


def _node_document(node: NodeStatus) -> dict[str, Any]:
    document: dict[str, Any] = {
        "id": node.id,
        "state": node.state,
        "pid": node.pid,
        "endpoint": node.endpoint,
        "zone": node.zone,
        "capacity": node.capacity,
        "share": node.share,
        "keys": node.keys,
        "hints": node.hints,
        "conflicts": node.conflicts,
    }
    if node.reason:
        document["reason"] = node.reason
    return document


def _show(run: Invocation, status: ClusterStatus) -> None:
    document = status_document(status)
    quorum = status.quorum
    title = (
        f"{status.cluster}: N={quorum.n} R={quorum.r} W={quorum.w} {quorum.mode}, "
        f"epoch {status.epoch}"
    )
    rows = list(_rows(status))
    if run.out.format is not OutputFormat.TABLE:
        run.out.result(document, Table(_COLUMNS, rows, title))
        return
    # A terminal is narrow: reasons, which are sentences, go below the table.
    narrow = [tuple(cell.removeprefix("tcp://") for cell in row[:-1]) for row in rows]
    run.out.result(document, Table(_COLUMNS[:-1], narrow, title))
    for node in status.nodes:
        if node.reason:
            run.out.note(run.shown(f"{node.id}: {node.reason}"))


def _rows(status: ClusterStatus) -> Iterator[tuple[str, ...]]:
    for node in status.nodes:
        yield (
            node.id,
            node.state,
            _figure(node.pid),
            node.endpoint,
            node.zone or "-",
            f"{node.capacity:g}",
            f"{node.share:.1%}",
            _figure(node.keys),
            _figure(node.hints),
            _figure(node.conflicts),
            node.reason,
        )


def _figure(value: int | None) -> str:
    return "-" if value is None else str(value)
