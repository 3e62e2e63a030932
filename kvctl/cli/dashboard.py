"""The dashboard: watch the whole cluster in the terminal, and break it by key.

It attaches to a running cluster and owns nothing: closing or killing it leaves the cluster as it
was. Textual is loaded only here, when the command runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from kvctl.cli.invocation import Invocation, command, command_family
from kvctl_node.errors import InvalidRequestError

if TYPE_CHECKING:
    from kvctl.tui.app import KvctlApp
    from kvctl.tui.cluster_handle import ClusterHandle
    from kvctl.tui.cluster_reader import ClusterReader
    from kvctl.view.observation import ProcessWord
    from kvctl.view.process_lookup import ProcessLookup

app = command_family()


@command(
    app,
    "dashboard",
    examples=(
        "kvctl dashboard",
        "kvctl dashboard --read-only              only look",
        "kvctl dashboard --record monday.kvrec    keep what is seen",
        "kvctl dashboard --replay monday.kvrec    see it again; left and right jump",
        "kvctl dashboard --web                    in a browser, on this machine, to look only",
    ),
)
def dashboard(
    run: Invocation,
    *,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Watch only: keys and commands change nothing.")
    ] = False,
    record: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write all that is observed to a new file."),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Play a recording; needs no cluster."),
    ] = None,
    ascii_only: Annotated[
        bool, typer.Option("--ascii", help="Draw with ASCII characters only.")
    ] = False,
    web: Annotated[
        bool,
        typer.Option(
            "--web", help="Serve it to browsers of this machine, read-only; needs kvctl[web]."
        ),
    ] = False,
    port: Annotated[
        int | None,
        typer.Option(min=1, max=65535, help="With --web: the port of 127.0.0.1 (default: 8765)."),
    ] = None,
    writable: Annotated[
        bool,
        typer.Option("--writable", help="With --web: let every browser tab act on the cluster."),
    ] = False,
) -> None:
    """Watch the cluster on a screen of its own, and break it by key.

    The keys 1 to 7 choose a page, ? explains it, q leaves. The cluster goes on without it.
    """
    if record is not None and replay is not None:
        raise InvalidRequestError("--record and --replay exclude each other.")
    if web:
        _serve(
            run,
            record,
            replay,
            port=port,
            writable=writable and not read_only,
            ascii_only=ascii_only,
        )
        return
    if port is not None or writable:
        raise InvalidRequestError("--port and --writable belong to --web.")
    # Behind a browser tab the terminal is a pipe to the server that started this process.
    if "TEXTUAL_DRIVER" not in os.environ and not (sys.stdin.isatty() and sys.stdout.isatty()):
        raise InvalidRequestError(
            "the dashboard needs a terminal.", hint="kvctl status --watch works in a pipe."
        )
    if run.options.no_color:
        os.environ["NO_COLOR"] = "1"  # the one way Textual can be told
    with ExitStack() as resources:
        if replay is not None:
            application = _replaying(replay, ascii_only=ascii_only)
        else:
            application = _watching(
                run, resources, record, read_only=read_only, ascii_only=ascii_only
            )
        application.run()
    if application.return_code:
        raise typer.Exit(application.return_code)


def _serve(
    run: Invocation,
    record: Path | None,
    replay: Path | None,
    *,
    port: int | None,
    writable: bool,
    ascii_only: bool,
) -> None:
    """Start a dashboard for each browser tab until interrupted."""
    if record is not None:
        raise InvalidRequestError(
            "--record and --web exclude each other.", hint="record in a terminal beside it."
        )
    from kvctl.tui.web import DEFAULT_PORT, dashboard_command, serve

    cluster = "" if replay is not None else run.open_cluster()[0].name
    shown = None if replay is None else str(replay.absolute())
    command = dashboard_command(
        cluster=cluster, replay=shown, writable=writable, ascii_only=ascii_only
    )
    if run.options.no_color:
        os.environ["NO_COLOR"] = "1"
    serve(command, port=port or DEFAULT_PORT, title="kvctl dashboard", tell=run.out.note)


def _watching(
    run: Invocation,
    resources: ExitStack,
    record: Path | None,
    *,
    read_only: bool,
    ascii_only: bool,
) -> KvctlApp:
    """An application that watches the chosen cluster."""
    name = run.open_cluster()[0].name
    from kvctl.tui.app import KvctlApp, wall_clock_ms
    from kvctl.view.live_feed import LiveFeed
    from kvctl.view.recorder import Recorder

    recorder = None
    if record is not None:
        recorder = Recorder(record, cluster=name, began_ms=wall_clock_ms())
        resources.enter_context(recorder)
    return KvctlApp(
        LiveFeed(name, clock=wall_clock_ms, look_up=_late_lookup(name)),
        clock=wall_clock_ms,
        open_handle=None if read_only else lambda: _handle(name),
        open_reader=lambda: _reader(name),
        recorder=recorder,
        ascii=ascii_only,
        cluster_option=run.options.cluster or "",
    )


def _late_lookup(name: str) -> Callable[[str], ProcessWord]:
    """What the operating system says of a silent node; loaded when the first one is silent."""
    known: list[ProcessLookup] = []

    def look_up(node: str) -> ProcessWord:
        if not known:
            from kvctl.view.process_lookup import ProcessLookup

            known.append(ProcessLookup(name))
        return known[0](node)

    return look_up


def _handle(name: str) -> ClusterHandle:
    """Loaded when there is something to do: the first picture does not wait for it."""
    from kvctl.tui.local_cluster_handle import LocalClusterHandle

    return LocalClusterHandle(name)


def _reader(name: str) -> ClusterReader:
    """Loaded when a page looks something up."""
    from kvctl.tui.local_cluster_reader import LocalClusterReader

    return LocalClusterReader(name)


def _replaying(path: Path, *, ascii_only: bool) -> KvctlApp:
    """An application that plays a recording."""
    from kvctl.view.recording import ReplayFeed, read_recording

    recording = read_recording(path)
    from kvctl.tui.app import KvctlApp, wall_clock_ms

    return KvctlApp(
        ReplayFeed(recording, clock=wall_clock_ms), clock=wall_clock_ms, ascii=ascii_only
    )
