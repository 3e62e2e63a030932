"""Guided failure demos: `kvctl demo` plays one that is shipped, `kvctl run` a file of your own.

Both play scenario files (`kvctl.demos`), on a cluster of their own unless `-c` names one, and end
with a verdict as their exit code: 0 holds, 1 no, 7 undecided.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from kvctl.cli.invocation import Invocation, command, command_family
from kvctl.cli.output import Table
from kvctl.cli.streams import ReaderGoneError
from kvctl.demos.library import scenario_names, scenario_text, shipped_scenario
from kvctl.demos.scenario import Scenario, load_scenario
from kvctl.demos.stage import Timing
from kvctl.errors import ExitCode
from kvctl_node.errors import InvalidRequestError

app = command_family()

ByStep = Annotated[bool, typer.Option("--step", help="Wait for Enter before each step.")]
TimingOption = Annotated[
    Timing,
    typer.Option(
        help="How soon the scenario's own cluster notices things: as a real one, or four times as "
        "fast."
    ),
]


def complete_demo(incomplete: str) -> list[str]:
    """Names of demos that begin so."""
    return [name for name in scenario_names() if name.startswith(incomplete)]


@command(
    app,
    "demo",
    examples=(
        "kvctl demo                         list them",
        "kvctl demo partition --step        play one, at your own pace",
        "kvctl demo partition --show        its file, to read and to change",
        "kvctl demo partition -c default    on a cluster that runs already",
    ),
)
def demo(
    run: Invocation,
    *,
    name: Annotated[
        str | None,
        typer.Argument(metavar="NAME", help="Which one.", autocompletion=complete_demo),
    ] = None,
    step: ByStep = False,
    timing: TimingOption = Timing.REAL,
    show: Annotated[
        bool, typer.Option("--show", help="Print the scenario file instead of playing it.")
    ] = False,
) -> None:
    """Play a guided failure demo; without a name, list them.

    On a cluster of its own, removed at the end, unless -c names one. Shows every command it runs,
    checks what it claims, and exits with 0 if all of it holds, 1 if not, and 7 if the demo could
    not find out, since a fault hit nothing or nothing was read.
    """
    if name is None:
        if show or step:
            raise InvalidRequestError("no demo was named.", hint="kvctl demo lists them.")
        _list(run)
    elif show:
        run.out.content(scenario_text(name).encode())
    else:
        _play(run, shipped_scenario(name), by_step=step, timing=timing)


@command(
    app,
    "run",
    examples=(
        "kvctl demo partition --show > mine.toml",
        "kvctl run mine.toml --timing fast",
        "kvctl run mine.toml -o json | jq -r .verdict",
    ),
)
def run_file(
    run: Invocation,
    *,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The scenario, a TOML file.")],
    step: ByStep = False,
    timing: TimingOption = Timing.REAL,
) -> None:
    """Play a scenario file.

    On a cluster of its own, removed at the end, unless -c names one. Exits with 0 if all that the
    scenario claims holds, 1 if not, and 7 if it could not find out.
    """
    _play(run, load_scenario(file), by_step=step, timing=timing)


def _list(run: Invocation) -> None:
    scenarios = [shipped_scenario(name) for name in scenario_names()]
    items = [{"name": one.name, "summary": one.summary} for one in scenarios]
    run.out.result(
        {"demos": items},
        Table(("NAME", "WHAT IT SHOWS"), [(one.name, one.summary) for one in scenarios]),
        items,
    )
    run.out.told(f"hint: kvctl demo {scenarios[0].name} --step plays one.")


def _play(run: Invocation, scenario: Scenario, *, by_step: bool, timing: Timing) -> None:
    from kvctl.demos.performance import perform

    try:
        result = perform(
            scenario,
            run.out,
            cluster=run.options.cluster,
            timing=timing,
            by_step=by_step,
            start_timeout_s=run.wait_timeout_s,
        )
    except ReaderGoneError as error:  # the play ended before its verdict
        raise typer.Exit(int(ExitCode.UNDECIDED)) from error
    if run.out.is_json:
        document = msgspec.to_builtins(result)
        verdict = {name: value for name, value in document.items() if name != "checks"}
        run.out.result(document, Table(()), [*document["checks"], verdict])
    if result.verdict.exit_code:
        raise typer.Exit(int(result.verdict.exit_code))
