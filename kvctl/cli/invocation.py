"""One run of one command: the global options, and how a command reaches what it works on.

Global options are accepted before and after the command (`kvctl -o json get k`, `kvctl get k -o
json`); the one after it wins. Typer reads a command's options from its signature, so `command`
gives every command function the global ones in addition and hands the function an `Invocation`
instead. The function's body runs under `guard`.
"""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated, Any, Concatenate, ParamSpec, get_type_hints

import typer

from kvctl.cli.complete_names import complete_cluster
from kvctl.cli.durations import parse_duration
from kvctl.cli.guard import run_guarded, shown_hint
from kvctl.cli.output import Output, OutputFormat
from kvctl.cli.quick_parameters import QuickCommand, QuickGroup
from kvctl_node.errors import InvalidRequestError

if TYPE_CHECKING:
    from kvctl.client import Client
    from kvctl.cluster.directory import ClusterDirectory
    from kvctl.cluster.supervisor import Supervisor
    from kvctl_node.config import ClusterConfig

REQUEST_TIMEOUT_S = 5.0
"""How long a request may take when `--timeout` does not say."""
WAIT_TIMEOUT_S = 30.0
"""How long a command waits for nodes when `--timeout` does not say."""

Parameters = ParamSpec("Parameters")
_CONTEXT = inspect.Parameter(
    "typer_context", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context
)


def print_version(wanted: bool) -> None:
    """Callback of `--version`."""
    if wanted:
        from importlib.metadata import version

        typer.echo(f"kvctl {version('kvctl')}")
        raise typer.Exit


@dataclass(slots=True)
class GlobalOptions:
    """What may stand before or after any command. None (False for flags): not given here."""

    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            "-c",
            metavar="NAME",
            help="The cluster to work on (default: $KVCTL_CLUSTER, else the only one there is).",
            autocompletion=complete_cluster,
        ),
    ] = None
    output: Annotated[
        OutputFormat | None,
        typer.Option(
            "--output",
            "-o",
            help="How to print results (default: table on a terminal, plain in a pipe).",
        ),
    ] = None
    timeout: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="How long to wait, such as 500ms, 5s or 1m (default: 5s for requests, 30s for "
            "starting and stopping nodes).",
        ),
    ] = None
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Leave out notes; errors and warnings stay.")
    ] = False
    no_color: Annotated[
        bool, typer.Option("--no-color", help="Print without colours, as NO_COLOR=1 does.")
    ] = False
    debug: Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")] = False
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version and exit.", is_eager=True, callback=print_version
        ),
    ] = False


def _over(given: GlobalOptions, before: object) -> GlobalOptions:
    """`given`, and where nothing was given, what stood before the command."""
    if not isinstance(before, GlobalOptions):
        return given
    return GlobalOptions(
        *(getattr(given, each.name) or getattr(before, each.name) for each in fields(given))
    )


class Invocation:
    """What a command works with: settings, streams, the cluster, a client, a supervisor."""

    def __init__(self, options: GlobalOptions, *, goes_on: bool = False) -> None:
        """Raises `InvalidRequestError` when an option is malformed. `goes_on`: see `command`."""
        self.options = options
        self.out = Output(options.output, quiet=options.quiet, color=not options.no_color)
        self.out.goes_on = goes_on
        self._timeout_s: float | None = None
        if options.timeout is not None:
            self._timeout_s = parse_duration(options.timeout, option="--timeout")

    @property
    def request_timeout_s(self) -> float:
        """How long one request may take."""
        return self._timeout_s or REQUEST_TIMEOUT_S

    @property
    def wait_timeout_s(self) -> float:
        """How long a command may wait for nodes."""
        return self._timeout_s or WAIT_TIMEOUT_S

    @property
    def given_timeout_s(self) -> float | None:
        """`--timeout`, None if it was not given."""
        return self._timeout_s

    def cluster_name(self) -> str:
        """The cluster the command means, whether or not it exists. Raises if there is a choice."""
        from kvctl.cluster.directory import choose_cluster

        return choose_cluster(self.options.cluster)

    def open_cluster(self) -> tuple[ClusterDirectory, ClusterConfig]:
        """Directory and configuration of an existing cluster, or `ClusterNotFoundError`."""
        from kvctl.cluster.directory import open_cluster

        return open_cluster(self.options.cluster)

    def connect(self) -> Client:
        """A client of the cluster; a context manager."""
        from kvctl.client import connect

        return connect(self.options.cluster, timeout_s=self.request_timeout_s)

    def shown(self, text: str) -> str:
        """Text with commands in it, as it may be shown: they name the cluster if this one does."""
        return shown_hint(text, self.options.cluster)

    def supervisor(self) -> Supervisor:
        """The supervisor of this home directory; it tells on stderr what it waits for."""
        from kvctl.cluster.supervisor import Supervisor

        return Supervisor(notify=self.out.note, lock_wait_s=self.wait_timeout_s)


def command_family(help: str | None = None) -> typer.Typer:
    """The Typer app a module registers its commands with; plain help, quick to load.

    With `help` the app is itself a command that has commands, such as `config`.
    """
    family = typer.Typer(
        cls=QuickGroup,
        help=help,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    if help is not None:
        family.callback()(group_callback())
    return family


CommandFunction = Callable[Concatenate[Invocation, Parameters], None]


def command(
    app: typer.Typer, name: str, *, examples: Sequence[str] = (), goes_on: bool = False
) -> Callable[[CommandFunction[Parameters]], CommandFunction[Parameters]]:
    """Register a function as a command; its parameters after the `Invocation` become options.

    The docstring is the help text, its first line the summary. `examples` stand below the options.
    With `goes_on` a closed stdout ends the output and not the command, whose exit code says how it
    ended: for those that change something, and those whose exit code is the answer.
    """

    def register(function: CommandFunction[Parameters]) -> CommandFunction[Parameters]:
        decorate = app.command(name, cls=QuickCommand, epilog=format_examples(examples))
        decorate(_with_global_options(function, goes_on))
        return function

    return register


def format_examples(examples: Sequence[str]) -> str | None:
    """The examples as a paragraph that keeps its lines (click's `\\b` mark)."""
    if not examples:
        return None
    return "\b\nExamples:\n" + "\n".join(f"  {example}" for example in examples)


def _with_global_options(function: Callable[..., None], goes_on: bool) -> Callable[..., None]:
    hints = get_type_hints(function, include_extras=True)
    own = list(inspect.signature(function).parameters.values())[1:]
    shared = _global_parameters()
    shared_names = [parameter.name for parameter in shared]

    @functools.wraps(function)
    def run(**arguments: Any) -> None:
        before = arguments.pop(_CONTEXT.name).obj
        given = GlobalOptions(**{name: arguments.pop(name) for name in shared_names})
        options = _over(given, before)
        run_guarded(
            lambda: function(Invocation(options, goes_on=goes_on), **arguments),
            json=options.output in (OutputFormat.JSON, OutputFormat.JSONL),
            debug=options.debug,
            cluster=options.cluster,
        )

    parameters = [
        parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY, annotation=hints[parameter.name])
        for parameter in own
    ]
    _adopt_signature(run, [_CONTEXT, *parameters, *shared])
    return run


def group_callback() -> Callable[..., None]:
    """The function of a group: keeps the global options that stand before the command."""

    def keep(**arguments: Any) -> None:
        context = arguments.pop(_CONTEXT.name)
        context.obj = _over(GlobalOptions(**arguments), context.obj)

    _adopt_signature(keep, [_CONTEXT, *_global_parameters()])
    return keep


@functools.cache
def _global_parameters() -> tuple[inspect.Parameter, ...]:
    hints = get_type_hints(GlobalOptions, include_extras=True)
    return tuple(
        inspect.Parameter(
            each.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=each.default,
            annotation=hints[each.name],
        )
        for each in fields(GlobalOptions)
    )


def _adopt_signature(function: Callable[..., None], parameters: list[inspect.Parameter]) -> None:
    vars(function)["__signature__"] = inspect.Signature(parameters)
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    vars(function).pop("__wrapped__", None)  # Typer would read the hints of what is wrapped


def split_list(values: Sequence[str] | None) -> list[str]:
    """List options take commas and may be repeated: `n1,n2 n3` is three names, each once."""
    names = [part.strip() for value in values or () for part in value.split(",")]
    return list(dict.fromkeys(name for name in names if name))


def split_assignments(values: Sequence[str] | None, *, option: str) -> dict[str, str]:
    """`n1=2,n2=1`, repeated or not, as a dictionary. Raises `InvalidRequestError`."""
    assigned: dict[str, str] = {}
    for part in split_list(values):
        name, equals, value = part.partition("=")
        if not equals or not name or not value:
            raise InvalidRequestError(
                f"{option} takes NAME=VALUE, not {part!r}.", hint=f"for example {option} n1=2,n2=1."
            )
        if assigned.get(name, value) != value:
            raise InvalidRequestError(f"{option} gives {name} two values.")
        assigned[name] = value
    return assigned


def text_to_bytes(text: str) -> bytes:
    """An argument as the bytes the shell passed, whatever the locale made of them."""
    return os.fsencode(text)
