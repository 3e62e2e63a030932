"""Whole clusters: up, down, ls, doctor."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer

from kvctl.cli.choices import Durability, Mode
from kvctl.cli.durations import format_duration, parse_duration
from kvctl.cli.invocation import Invocation, command, command_family, split_assignments
from kvctl.cli.output import Table
from kvctl.errors import ExitCode
from kvctl_node.errors import InvalidRequestError

if TYPE_CHECKING:
    from kvctl.cluster.facts import Finding, UpReport
    from kvctl.cluster.options import UpOptions

app = command_family()


@command(
    app,
    "up",
    examples=(
        "kvctl up                                 five nodes, N=3 R=2 W=2",
        "kvctl up -n 3 --mode strict --ttl 10m    three nodes for ten minutes",
        "kvctl up --zone n1=a,n2=b,n3=c -n 3      replicas in distinct zones",
        "kvctl up -c shop --config shop.toml      as the file says",
    ),
    goes_on=True,
)
def up(
    run: Invocation,
    *,
    nodes: Annotated[
        int | None,
        typer.Option("-n", "--nodes", min=1, help="How many nodes a new cluster has (default: 5)."),
    ] = None,
    replicas: Annotated[
        int | None,
        typer.Option(min=1, help="N, the copies of each key (default: 3, or fewer nodes)."),
    ] = None,
    r: Annotated[
        int | None, typer.Option("-r", min=1, help="R, answers a read waits for (default: most).")
    ] = None,
    w: Annotated[
        int | None,
        typer.Option("-w", min=1, help="W, acknowledgements a write waits for (default: most)."),
    ] = None,
    mode: Annotated[
        Mode | None,
        typer.Option(help="Who counts toward R and W: owners only, or stand-ins too."),
    ] = None,
    capacity: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE=X,...", help="Relative capacities: twice owns twice as much."),
    ] = None,
    zone: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE=Z,...", help="Failure domains; replicas go to distinct ones."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A configuration file, TOML or JSON; changed, for a cluster there is.",
        ),
    ] = None,
    durability: Annotated[
        Durability | None,
        typer.Option(help="What a write survives: os, kill -9; fsync, a power loss as well."),
    ] = None,
    base_port: Annotated[
        int | None,
        typer.Option(
            min=1, max=65535, metavar="P", help="First port, three for each node in turn."
        ),
    ] = None,
    partitions: Annotated[
        int | None,
        typer.Option(min=8, help="Equal parts of the ring, a power of two (default: 1024)."),
    ] = None,
    ephemeral: Annotated[
        bool, typer.Option("--ephemeral", help="Remove the cluster and its data when it stops.")
    ] = False,
    ttl: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Stop by itself after so long, such as 10m."),
    ] = None,
    foreground: Annotated[
        bool, typer.Option("--fg", help="Stay in the foreground; Ctrl-C stops the cluster.")
    ] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Return at once, not when all nodes serve.")
    ] = False,
) -> None:
    """Start a cluster, making it first if there is none.

    Repeating it is safe: what runs is left alone, and options left out keep what the cluster was
    made with. It returns when every node serves and sees every other.
    """
    from kvctl.cluster.options import UpOptions
    from kvctl_node.config import load_config

    if foreground and no_wait:
        raise InvalidRequestError("--fg and --no-wait contradict each other.")
    options = UpOptions(
        nodes=nodes,
        replicas=replicas,
        r=r,
        w=w,
        mode=mode.value if mode else None,
        durability=durability.value if durability else None,
        partitions=partitions,
        base_port=base_port,
        capacity=_capacities(capacity),
        zone=split_assignments(zone, option="--zone"),
        config=load_config(config) if config else None,
        ephemeral=ephemeral or None,
        ttl_s=parse_duration(ttl, option="--ttl") if ttl else None,
    )
    if foreground:
        _run_in_foreground(run, options)
        return
    report = run.supervisor().up(
        run.cluster_name(), options, wait=not no_wait, timeout_s=run.wait_timeout_s
    )
    _show_up(run, report, waited=not no_wait)


def _run_in_foreground(run: Invocation, options: UpOptions) -> None:
    def ready(report: UpReport) -> None:
        _show_up(run, report, waited=True)
        run.out.note("Ctrl-C stops the cluster.")

    run.supervisor().run_in_foreground(
        run.cluster_name(), options, ready=ready, timeout_s=run.wait_timeout_s
    )


def _capacities(values: list[str] | None) -> dict[str, float]:
    capacities = {}
    for name, text in split_assignments(values, option="--capacity").items():
        try:
            capacities[name] = float(text)
        except ValueError as error:
            raise InvalidRequestError(
                f"--capacity {name}={text} is not a number.", hint="for example --capacity n1=2."
            ) from error
    return capacities


def _show_up(run: Invocation, report: UpReport, *, waited: bool) -> None:
    config = report.config
    quorum = config.quorum
    for announcement in report.announcements:
        run.out.note(announcement)
    document = {
        "cluster": report.name,
        "created": report.created,
        "started": list(report.started),
        "nodes": [node.name for node in config.nodes],
        "quorum": msgspec.to_builtins(quorum),
        "seconds": round(report.seconds, 3),
        "announcements": list(report.announcements),
    }
    if run.out.is_json:
        run.out.json_line(document)
        return
    count = len(config.nodes)
    what = f"cluster {report.name}: {count} node{'s' if count != 1 else ''}"
    if not report.started:
        run.out.note(f"{what}, all of them ran already.")
        return
    verb = "serving" if waited else "starting"
    run.out.note(
        f"{what} {verb} after {format_duration(report.seconds)}; N={quorum.n} R={quorum.r} "
        f"W={quorum.w}, {quorum.mode}."
    )


@command(
    app,
    "down",
    examples=(
        "kvctl down              stop all nodes, keep the data",
        "kvctl down --purge      and delete the cluster",
    ),
    goes_on=True,
)
def down(
    run: Invocation,
    *,
    purge: Annotated[
        bool, typer.Option("--purge", help="Delete the cluster with all its data.")
    ] = False,
) -> None:
    """Stop a cluster; its data stays unless --purge.

    Nodes finish what they are doing; one that does not end in time is killed, which loses nothing
    that was acknowledged.
    """
    report = run.supervisor().down(
        run.cluster_name(), purge=purge, grace_s=run.given_timeout_s or 10.0
    )
    if report.killed:
        run.out.warn(f"had to be killed: {', '.join(report.killed)}.")
    if run.out.is_json:
        run.out.json_line(
            {
                "cluster": report.name,
                "stopped": list(report.stopped),
                "killed": list(report.killed),
                "purged": report.purged,
            }
        )
        return
    ended = len(report.stopped) + len(report.killed)
    if report.purged:
        run.out.note(f"cluster {report.name} is stopped and deleted.")
    elif ended:
        run.out.note(run.shown(f"cluster {report.name} is stopped; kvctl up starts it again."))
    else:
        run.out.note(f"cluster {report.name} was not running.")


@command(app, "ls")
def ls(run: Invocation) -> None:
    """List the clusters on this machine."""
    clusters = run.supervisor().list_clusters()
    items = [msgspec.to_builtins(cluster) for cluster in clusters]
    rows = [
        (
            cluster.name,
            str(cluster.nodes),
            str(cluster.running),
            "yes" if cluster.ephemeral else "no",
            _stamp(cluster.expires_ms),
            cluster.problem,
        )
        for cluster in clusters
    ]
    columns = ("NAME", ">NODES", ">RUNNING", "EPHEMERAL", "EXPIRES", "PROBLEM")
    run.out.result({"clusters": items}, Table(columns, rows), items)


def _stamp(at_ms: int) -> str:
    if not at_ms:
        return "-"
    from datetime import datetime

    return datetime.fromtimestamp(at_ms / 1000).isoformat(sep=" ", timespec="seconds")


@command(
    app,
    "doctor",
    examples=(
        "kvctl doctor            what is wrong, and what --fix would do",
        "kvctl doctor --fix      mend it",
    ),
    goes_on=True,
)
def doctor(
    run: Invocation,
    *,
    fix: Annotated[bool, typer.Option("--fix", help="Mend what can be mended.")] = False,
) -> None:
    """Find what is left over or damaged, and mend it with --fix.

    Looks at all clusters: processes nobody remembers, records of processes long gone, unreadable
    configurations, loose permissions. Exits with 1 while something is wrong.
    """
    findings = run.supervisor().doctor(fix=fix)
    items: list[dict[str, Any]] = [msgspec.to_builtins(finding) for finding in findings]
    rows = [
        (finding.kind, finding.subject, finding.message, _remedy(finding)) for finding in findings
    ]
    run.out.result(
        {"findings": items}, Table(("KIND", "SUBJECT", "FINDING", "REMEDY"), rows), items
    )
    if not findings:
        run.out.told("nothing is wrong.")
    if not all(finding.fixed for finding in findings):
        raise typer.Exit(int(ExitCode.NO))


def _remedy(finding: Finding) -> str:
    if finding.fixed:
        return f"done: {finding.fix}"
    return f"--fix: {finding.fix}" if finding.fixable else finding.fix
