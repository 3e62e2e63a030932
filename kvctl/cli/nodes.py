"""Single nodes: start, stop, restart, kill, pause, resume, wipe.

Each returns when what it says is done, and names the nodes it did it to; a node that was already in
that state is left alone and not named.
"""

from __future__ import annotations

from typing import Annotated

import typer

from kvctl.cli.complete_names import complete_node
from kvctl.cli.durations import format_duration, parse_duration
from kvctl.cli.invocation import Invocation, command, command_family, split_list
from kvctl.cli.output import Table
from kvctl_node.errors import InvalidRequestError

app = command_family()

Nodes = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="NODE", help="Nodes, by name; commas work, too.", autocompletion=complete_node
    ),
]
All = Annotated[bool, typer.Option("--all", help="All nodes of the cluster.")]
NoWait = Annotated[
    bool, typer.Option("--no-wait", help="Return at once, not when the nodes serve again.")
]
For = Annotated[
    str | None,
    typer.Option("--for", metavar="DURATION", help="Undo it by itself after so long, such as 10s."),
]


@command(app, "start", examples=("kvctl start n1 n2", "kvctl start --all"), goes_on=True)
def start(
    run: Invocation, nodes: Nodes = None, everyone: All = False, no_wait: NoWait = False
) -> None:
    """Start nodes and wait until they serve.

    Returns when each serves again and its running peers see it.
    """
    done = run.supervisor().start(
        run.cluster_name(),
        _chosen(nodes, everyone),
        wait=not no_wait,
        timeout_s=run.wait_timeout_s,
    )
    _show(run, "started", done)


@command(app, "stop", examples=("kvctl stop n3", "kvctl stop n3 --for 10s"), goes_on=True)
def stop(run: Invocation, *, nodes: Nodes = None, everyone: All = False, for_: For = None) -> None:
    """Stop nodes cleanly.

    A node finishes what it is doing; one that does not end in time is killed.
    """
    for_s = _for_s(for_)
    done = run.supervisor().stop(
        run.cluster_name(),
        _chosen(nodes, everyone),
        for_s=for_s,
        grace_s=run.given_timeout_s or 10.0,
    )
    _show(run, "stopped", done, for_s)


@command(app, "restart", examples=("kvctl restart n1", "kvctl restart --all"), goes_on=True)
def restart(
    run: Invocation, nodes: Nodes = None, everyone: All = False, no_wait: NoWait = False
) -> None:
    """Stop nodes cleanly and start them again."""
    done = run.supervisor().restart(
        run.cluster_name(),
        _chosen(nodes, everyone),
        wait=not no_wait,
        timeout_s=run.wait_timeout_s,
    )
    _show(run, "restarted", done)


@command(app, "kill", examples=("kvctl kill n2", "kvctl kill n1,n2 --for 30s"), goes_on=True)
def kill(run: Invocation, *, nodes: Nodes = None, everyone: All = False, for_: For = None) -> None:
    """Kill nodes at once (SIGKILL).

    Loses nothing that was acknowledged. kvctl start NODE brings it back.
    """
    for_s = _for_s(for_)
    done = run.supervisor().kill(run.cluster_name(), _chosen(nodes, everyone), for_s=for_s)
    _show(run, "killed", done, for_s)


@command(app, "pause", examples=("kvctl pause n2", "kvctl pause n2 --for 10s"), goes_on=True)
def pause(run: Invocation, *, nodes: Nodes = None, everyone: All = False, for_: For = None) -> None:
    """Freeze nodes (SIGSTOP): there, but silent.

    What a machine looks like that swaps, hangs, or collects garbage for too long.
    """
    for_s = _for_s(for_)
    done = run.supervisor().pause(run.cluster_name(), _chosen(nodes, everyone), for_s=for_s)
    _show(run, "paused", done, for_s)


@command(app, "resume", examples=("kvctl resume n2",), goes_on=True)
def resume(run: Invocation, *, nodes: Nodes = None, everyone: All = False) -> None:
    """Let paused nodes go on (SIGCONT)."""
    done = run.supervisor().resume(run.cluster_name(), _chosen(nodes, everyone))
    _show(run, "resumed", done)


@command(app, "wipe", examples=("kvctl wipe n3",), goes_on=True)
def wipe(
    run: Invocation, nodes: Nodes = None, everyone: All = False, no_wait: NoWait = False
) -> None:
    """Destroy the disks of nodes; they start again empty.

    What replacing a broken disk looks like: the node keeps its name and its place in the ring.
    Wiping W or more nodes before the others caught up loses data.
    """
    done = run.supervisor().wipe(
        run.cluster_name(),
        _chosen(nodes, everyone),
        wait=not no_wait,
        timeout_s=run.wait_timeout_s,
    )
    _show(run, "wiped", done)


def _chosen(nodes: list[str] | None, everyone: bool) -> list[str]:
    """The nodes that were named; [] means all to the supervisor, so all must be said."""
    names = split_list(nodes)
    if everyone and names:
        raise InvalidRequestError("--all and names of nodes contradict each other.")
    if not everyone and not names:
        raise InvalidRequestError("no node was named.", hint="name nodes, or say --all.")
    return names


def _for_s(text: str | None) -> float | None:
    return parse_duration(text, option="--for") if text else None


def _show(run: Invocation, verb: str, nodes: tuple[str, ...], for_s: float | None = None) -> None:
    document = {verb: list(nodes), "for_s": for_s} if for_s else {verb: list(nodes)}
    run.out.result(document, Table((verb.upper(),), [(node,) for node in nodes]))
    if not nodes:
        run.out.told("nothing to do.")
    elif for_s:
        run.out.told(f"undone by itself in {format_duration(for_s)}.")
