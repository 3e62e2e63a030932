"""Beliefs, as opposed to facts: what each node thinks of each; and waiting for either."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from kvctl.cli.durations import format_duration
from kvctl.cli.invocation import Invocation, command, command_family
from kvctl.cli.output import Table

app = command_family()


@command(app, "gossip", examples=("kvctl gossip", "kvctl gossip -o json | jq .views.n1.n3.state"))
def gossip(run: Invocation) -> None:
    """Show what each node believes of each other.

    States: up, suspect, down, left. One row per node that answers; behind a state that is not up
    stands how old the last sign of life is. kvctl status shows the facts.
    """
    from kvctl.cluster.node_commands import NodeCommands

    directory, config = run.open_cluster()
    with NodeCommands(directory, config) as nodes:
        rows = nodes.ask_all("gossip")
        silent = nodes.silent(rows)
    members = list(dict.fromkeys([spec.name for spec in config.nodes] + _members(rows)))
    document = {"views": {name: rows[name] for name in sorted(rows, key=members.index)}}
    table = Table(
        ("NODE", *(f"SEES {member}" for member in members)),
        [(name, *(_belief(rows[name].get(member)) for member in members)) for name in rows],
    )
    items = [
        {"node": name, "member": member, **belief}
        for name, row in document["views"].items()
        for member, belief in row.items()
    ]
    run.out.result(document, table, items)
    if silent:
        run.out.note(f"no answer from {', '.join(silent)}.")


def _members(rows: dict[str, dict[str, Any]]) -> list[str]:
    return [member for row in rows.values() for member in row]


def _belief(belief: dict[str, Any] | None) -> str:
    if belief is None:
        return "-"
    state = str(belief["state"])
    if state == "up" or "age_ms" not in belief:
        return state
    return f"{state} {format_duration(belief['age_ms'] / 1000)}"


@command(
    app,
    "wait",
    examples=(
        "kvctl wait ready                        every node serves and sees every other",
        "kvctl wait converged --timeout 1m       no hints, views agree, all replicas equal",
        "kvctl wait hints=0                      every hint is delivered",
        "kvctl wait 'seen n3=down'               all other nodes think n3 is down",
    ),
    goes_on=True,
)
def wait(
    run: Invocation,
    *,
    condition: Annotated[
        list[str],
        typer.Argument(metavar="CONDITION", help="ready, converged, hints=0 or 'seen n3=down'."),
    ],
) -> None:
    """Wait until something is true of the cluster.

    Waits up to --timeout (default: 30s), and ends with 124 when that was in vain, saying what was
    still missing.
    """
    from kvctl.cluster.conditions import wait_for

    directory, config = run.open_cluster()
    text = " ".join(condition)
    seconds = wait_for(directory, config, text, timeout_s=run.wait_timeout_s)
    if run.out.is_json:
        run.out.json_line({"condition": text, "seconds": round(seconds, 3)})
    else:
        run.out.told(f"{text} after {format_duration(seconds)}.")
