"""How replicas come together: hints and their handoff, Merkle comparison, repair."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvctl.cli.choices import HintAction
from kvctl.cli.complete_names import complete_node
from kvctl.cli.durations import format_duration
from kvctl.cli.invocation import Invocation, command, command_family, split_list
from kvctl.cli.output import OutputFormat, Table
from kvctl.cli.status import clear_screen
from kvctl.errors import ClusterUnreachableError, ExitCode
from kvctl_node.errors import InvalidRequestError

if TYPE_CHECKING:
    from kvctl.cluster.node_commands import Answers, NodeCommands

app = command_family()

POLL_INTERVAL_S = 0.05

Queue = dict[str, Any]


# ------------------------------------------------------------------ hints


@command(
    app,
    "hints",
    examples=(
        "kvctl hints             what waits where for whom",
        "kvctl hints hold        deliver nothing for now, to look at it",
        "kvctl hints release     deliver again",
    ),
    goes_on=True,
)
def hints(
    run: Invocation,
    *,
    action: Annotated[
        HintAction | None,
        typer.Argument(metavar="[hold|release]", help="Stop or resume delivery at all nodes."),
    ] = None,
) -> None:
    """Show the writes kept for nodes that could not be reached.

    HOLDER stands in for TARGET and pushes them there when it is back. A hold lasts until release,
    or until the node restarts.
    """
    with _nodes(run) as nodes:
        if action is None:
            answers = nodes.ask_all("hints")
        else:
            answers = nodes.ask_all("hints_hold", {"held": action is HintAction.HOLD})
        silent = nodes.silent(answers)
    _show_hints(run, answers)
    if silent:
        run.out.warn(f"no answer from {', '.join(silent)}: what is kept there is not shown.")


@command(app, "handoff", examples=("kvctl handoff", "kvctl handoff n4"), goes_on=True)
def handoff(
    run: Invocation,
    *,
    nodes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NODE",
            help="The holders that are to push (default: all).",
            autocompletion=complete_node,
        ),
    ] = None,
) -> None:
    """Push the hints home now, and wait until none is left.

    Ends with 1 and says what is left when it cannot be delivered: the target is away, or delivery
    is held.
    """
    with _nodes(run) as asked:
        holders = _checked(asked, nodes)
        answers = asked.ask({name: {} for name in holders}, "handoff")
        silent = [name for name in holders if name not in answers]
        if not answers:
            raise ClusterUnreachableError(
                f"no answer from {', '.join(silent)}.", hint="kvctl status shows why."
            )
        answers, waited_in_vain = _pushed(run, asked, answers)
    _show_hints(run, answers)
    if silent:
        run.out.warn(f"no answer from {', '.join(silent)}: what is kept there stays there.")
    if waited_in_vain:
        run.out.warn(
            f"not delivered: {'; '.join(_what_is_left(answers))}.",
            hint=run.shown("kvctl gossip shows who is away; kvctl hints release ends a hold."),
        )
    if waited_in_vain or silent:
        raise typer.Exit(int(ExitCode.NO))


def _pushed(run: Invocation, nodes: NodeCommands, answers: Answers) -> tuple[Answers, bool]:
    """Follow the queues until they are empty, stuck, or the time is over; whether any is left."""
    deadline_s = time.monotonic() + run.wait_timeout_s
    while any(_queues(answers)):
        if _stuck(nodes, answers) or time.monotonic() >= deadline_s:
            return answers, True
        time.sleep(POLL_INTERVAL_S)
        answers = {**answers, **nodes.ask({name: {} for name in answers}, "handoff")}
    return answers, False


def _stuck(nodes: NodeCommands, answers: Answers) -> bool:
    """Whether nothing that is left can be delivered: held, or its target is away."""
    rows = nodes.ask({name: {} for name in answers}, "gossip")
    return all(
        queue["held"]
        or rows.get(queue["holder"], {}).get(queue["target"], {}).get("state", "up") != "up"
        for queue in _queues(answers)
    )


def _what_is_left(answers: Answers) -> list[str]:
    return [
        f"{queue['count']} from {queue['holder']} for {queue['target']}"
        + (" (held)" if queue["held"] else "")
        for queue in _queues(answers)
    ]


def _queues(answers: Answers) -> list[Queue]:
    """All queues of all holders that hold something."""
    return [
        {"holder": holder, **queue}
        for holder, answer in sorted(answers.items())
        for queue in answer["queues"]
        if queue["count"]
    ]


def _show_hints(run: Invocation, answers: Answers) -> None:
    queues = _queues(answers)
    document = {
        "total": sum(queue["count"] for queue in queues),
        "queues": queues,
        "dropped": sum(answer["dropped"] for answer in answers.values()),
    }
    rows = [
        (
            queue["holder"],
            queue["target"],
            str(queue["count"]),
            str(queue["bytes"]),
            format_duration(queue["oldest_ms"] / 1000),
            str(queue["delivered"]),
            "held" if queue["held"] else "",
        )
        for queue in queues
    ]
    columns = ("HOLDER", "TARGET", ">HINTS", ">BYTES", ">OLDEST", ">DELIVERED", "STATE")
    run.out.result(document, Table(columns, rows), queues)
    if not queues:
        run.out.told("no hints.")
    if document["dropped"]:
        run.out.note(
            run.shown(f"{document['dropped']} hints were dropped; kvctl repair does their work.")
        )


# ------------------------------------------------------------------ Merkle trees


@command(
    app,
    "merkle",
    examples=(
        "kvctl merkle n1 n2                   how far apart are they",
        "kvctl merkle n1 n2 --partition 17    only one partition, with all leaves",
        "kvctl merkle n1 n2 --check           exit code 1 if they differ",
    ),
)
def merkle(
    run: Invocation,
    *,
    one: Annotated[
        str,
        typer.Argument(metavar="NODE", help="The node that asks.", autocompletion=complete_node),
    ],
    other: Annotated[
        str,
        typer.Argument(metavar="NODE", help="The one it asks.", autocompletion=complete_node),
    ],
    partition: Annotated[
        int | None,
        typer.Option(metavar="P", min=0, help="Only this partition (kvctl where KEY names it)."),
    ] = None,
    check: Annotated[bool, typer.Option("--check", help="Exit with 1 if they differ.")] = False,
) -> None:
    """Compare two nodes by their Merkle trees; changes nothing."""
    from kvctl.cluster.comparisons import compare

    with _nodes(run) as nodes:
        _checked(nodes, [one, other])
        rows: list[dict[str, Any]] = []
        for progress in compare(nodes, one, other, partition, timeout_s=run.wait_timeout_s):
            rows = list(progress.values()) or rows
    run.out.goes_on = check  # the exit code is what was asked for
    document = rows[0] if rows else {"a": one, "b": other, "partitions": 0, "state": "equal"}
    run.out.result(document, _comparison_table(rows))
    if not rows:
        run.out.note(f"{one} and {other} share no partition.")
    _explain_interrupted(run, rows)
    if any(_interrupted(row) or (check and row["keys_differing"]) for row in rows):
        raise typer.Exit(int(ExitCode.NO))


@command(
    app,
    "repair",
    examples=(
        "kvctl repair              every pair of nodes",
        "kvctl repair n3           n3 with every other node",
        "kvctl repair --watch      with the progress of each pair",
    ),
    goes_on=True,
)
def repair(
    run: Invocation,
    *,
    nodes: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="NODE",
            help="Repair only these with all others (default: all with all).",
            autocompletion=complete_node,
        ),
    ] = None,
    watch: Annotated[bool, typer.Option("--watch", help="Show how far each pair is.")] = False,
) -> None:
    """Compare Merkle trees and merge what differs, both ways.

    Returns when it is done. Ends with 1 if a pair was interrupted.
    """
    from kvctl.cluster.comparisons import repair as start_repair

    rows: list[dict[str, Any]] = []
    with _nodes(run) as asked:
        chosen = _checked(asked, nodes) if nodes else []
        shown: list[dict[str, Any]] = []
        for progress in start_repair(asked, chosen, timeout_s=run.given_timeout_s):
            rows = list(progress.values())
            if watch:
                _show_progress(run, rows, shown)
                shown = rows
    if not watch:
        run.out.result({"pairs": rows}, _comparison_table(rows), rows)
    _explain_interrupted(run, rows)
    if any(_interrupted(row) for row in rows):
        raise typer.Exit(int(ExitCode.NO))


def _show_progress(
    run: Invocation, rows: list[dict[str, Any]], shown: list[dict[str, Any]]
) -> None:
    """On a terminal the table again; elsewhere a line for each pair that got further."""
    changed = [row for row in rows if row not in shown]
    if not changed:
        return
    if run.out.format is OutputFormat.TABLE:
        clear_screen(run)
        run.out.result({"pairs": rows}, _comparison_table(rows))
    else:
        for row in changed:
            run.out.item(row, "\t".join(_comparison_row(row)))


def _comparison_table(rows: Iterable[dict[str, Any]]) -> Table:
    columns = (
        "A",
        "B",
        ">PARTITIONS",
        ">LEAVES DIFFER",
        ">KEYS DIFFER",
        ">REPAIRED",
        ">BYTES",
        ">FULL COPY",
        "STATE",
        "LEVEL",
    )
    return Table(columns, [_comparison_row(row) for row in rows])


def _comparison_row(row: dict[str, Any]) -> tuple[str, ...]:
    return (
        row["a"],
        row["b"],
        str(row["partitions"]),
        str(row["leaves_differing"]),
        str(row["keys_differing"]),
        str(row["keys_repaired"]),
        str(row["bytes"]),
        str(row["full_copy_bytes"]),
        row["state"],
        row["level"],
    )


def _interrupted(row: dict[str, Any]) -> bool:
    return bool(row["state"] == "interrupted")


def _explain_interrupted(run: Invocation, rows: Iterable[dict[str, Any]]) -> None:
    for row in rows:
        if _interrupted(row):
            run.out.warn(f"{row['a']} and {row['b']} were not compared: {row['reason']}.")


# ------------------------------------------------------------------ nodes


def _nodes(run: Invocation) -> NodeCommands:
    """Connections to all nodes of the cluster that is meant."""
    from kvctl.cluster.node_commands import NodeCommands

    directory, config = run.open_cluster()
    return NodeCommands(directory, config)


def _checked(nodes: NodeCommands, given: Sequence[str] | None) -> list[str]:
    """The named nodes, all if none is. Raises `InvalidRequestError` for one that does not exist."""
    names = split_list(given)
    for name in names:
        if name not in nodes.names:
            raise InvalidRequestError(
                f"there is no node {name!r}.", hint=f"the nodes are {', '.join(nodes.names)}."
            )
    return names or list(nodes.names)
