"""One key at a time: put, get, del; and scan, all of them in turn.

A value is bytes. `get KEY` writes them unchanged, `put KEY -` reads them unchanged. Where several
keys share the stream each takes one line, `key<TAB>value`, with the few bytes that would break a
line escaped. Siblings are never chosen from: a read that meets them ends with exit code 6.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from kvctl.cli.choices import Mode, Repair
from kvctl.cli.complete_names import complete_node
from kvctl.cli.guard import print_failure
from kvctl.cli.invocation import Invocation, command, command_family, text_to_bytes
from kvctl.cli.output import OutputFormat, one_line
from kvctl.cli.streams import print_error
from kvctl.errors import ExitCode
from kvctl_node.errors import InvalidRequestError, TooLargeError

if TYPE_CHECKING:
    from kvctl.client import GetResult, PutResult

app = command_family()

Key = Annotated[str, typer.Argument(metavar="KEY", help="The key: UTF-8 text, 1 KiB at most.")]
Via = Annotated[
    str | None,
    typer.Option(
        metavar="NODE",
        help="Ask exactly this node, whatever it can reach.",
        autocompletion=complete_node,
    ),
]
RequestMode = Annotated[
    Mode | None,
    typer.Option(help="Quorum of this request: owners only, or stand-ins too."),
]
ReadQuorum = Annotated[
    int | None,
    typer.Option("-r", min=1, help="R of this request: answers to wait for."),
]
WriteQuorum = Annotated[
    int | None,
    typer.Option("-w", min=1, help="W of this request: acknowledgements to wait for."),
]
Context = Annotated[
    str | None,
    typer.Option(
        metavar="TOKEN",
        help="Supersede exactly what the get or put that printed this context saw.",
    ),
]


@command(
    app,
    "put",
    examples=(
        "kvctl put user:1 alice",
        "kvctl put photo - < photo.jpg",
        "kvctl put user:1 bob -w 3 -o json",
        'kvctl put user:1 carol --context "$(kvctl get user:1 -o json | jq -r .context)"',
    ),
    goes_on=True,
)
def put(
    run: Invocation,
    *,
    key: Key,
    value: Annotated[
        str | None,
        typer.Argument(metavar="VALUE", help="The value; - or a pipe reads standard input."),
    ] = None,
    w: WriteQuorum = None,
    mode: RequestMode = None,
    context: Context = None,
    blind: Annotated[
        bool, typer.Option("--blind", help="Supersede nothing: what is there stays as siblings.")
    ] = False,
    via: Via = None,
) -> None:
    """Store a value under a key.

    Without --context and --blind it overwrites what a read quorum holds at the moment. A value that
    begins with a dash goes after --, as in kvctl put KEY -- -5.
    """
    if blind and context is not None:
        raise InvalidRequestError("--blind and --context contradict each other.")
    content = _read_stdin(run) if value in (None, "-") else text_to_bytes(value or "")
    with run.connect() as client:
        result = client.put(
            text_to_bytes(key),
            content,
            w=w,
            mode=mode.value if mode else None,
            context=context,
            blind=blind,
            via=via,
        )
    show_put(run, result, "stored")


@command(app, "del", examples=("kvctl del user:1",), goes_on=True)
def delete(
    run: Invocation,
    *,
    key: Key,
    w: WriteQuorum = None,
    mode: RequestMode = None,
    context: Context = None,
    via: Via = None,
) -> None:
    """Delete a key.

    A delete is a write of its own: it takes a quorum, and one that is concurrent with a put leaves
    a conflict between the two.
    """
    with run.connect() as client:
        result = client.delete(
            text_to_bytes(key), context=context, w=w, mode=mode.value if mode else None, via=via
        )
    show_put(run, result, "deleted")


@command(
    app,
    "get",
    examples=(
        "kvctl get user:1",
        "kvctl get photo > photo.jpg",
        "kvctl get user:1 user:2 -o jsonl",
        "kvctl get user:1 --explain      who answered with which version",
    ),
)
def get(
    run: Invocation,
    *,
    keys: Annotated[list[str], typer.Argument(metavar="KEY", help="One key or several.")],
    r: ReadQuorum = None,
    mode: RequestMode = None,
    via: Via = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Say on stderr how the answer came about.")
    ] = False,
    repair: Annotated[
        Repair,
        typer.Option(
            help="Mend replicas that differ after the answer (async), or before it, so that a "
            "later read never sees less (blocking)."
        ),
    ] = Repair.ASYNC,
) -> None:
    """Print the value of a key.

    One key: its bytes, unchanged; only a terminal gets what is not printable by its code. Several:
    one line each, key<TAB>value. Exits with 1 if a key is not found and with 6 if one has siblings;
    those are listed on a terminal or with -o json.
    """
    worst = ExitCode.DONE
    with run.connect() as client:
        for key in keys:
            result = client.get(
                text_to_bytes(key),
                r=r,
                mode=mode.value if mode else None,
                repair=repair.value,
                via=via,
                explain=explain,
            )
            worst = max(worst, _show_get(run, result, alone=len(keys) == 1))
    run.out.note_shortened()
    if worst:
        raise typer.Exit(int(worst))


@command(
    app,
    "scan",
    examples=(
        "kvctl scan user:                   key<TAB>value lines",
        "kvctl scan --keys-only | wc -l",
        "kvctl scan user: -o jsonl | jq -r .key",
    ),
)
def scan(
    run: Invocation,
    *,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="Only keys that begin so (default: all).")
    ] = "",
    keys_only: Annotated[
        bool, typer.Option("--keys-only", help="Only the keys, not the values.")
    ] = False,
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many keys.")] = None,
    r: ReadQuorum = None,
    via: Via = None,
) -> None:
    """List keys and values, by prefix.

    In the order of the ring, not of the alphabet; sort sorts. Streams in bounded memory. Deleted
    keys do not appear; a key with siblings appears without a value, and the exit code is 6.
    """
    conflicts = 0
    with run.connect() as client:
        for result in client.scan(
            text_to_bytes(prefix), keys_only=keys_only, limit=limit, r=r, via=via
        ):
            if keys_only:
                run.out.item({"key": result.text}, one_line(result.key))
                continue
            siblings = len(result.siblings)
            conflicts += siblings > 1
            if run.out.is_json:
                run.out.json_line(result.to_json())
            elif siblings == 1:
                run.out.line(f"{one_line(result.key)}\t{run.out.brief(result.value or b'')}")
            else:
                run.out.line(one_line(result.key))
                print_error(f"warning: {result.text} has {siblings} conflicting versions.")
    run.out.note_shortened()
    if conflicts:
        if not run.out.is_json:
            print_error(run.shown("hint: kvctl conflicts lists them with their versions."))
        raise typer.Exit(int(ExitCode.CONFLICT))


def show_put(run: Invocation, result: PutResult, verb: str) -> None:
    """What a write did: JSON, a note at a terminal, a warning where it is due."""
    if run.out.is_json:
        run.out.json_line(result.to_json())
        return
    if run.out.format is OutputFormat.TABLE:
        version = ", ".join(f"{node}:{count}" for node, count in result.version)
        run.out.note(
            f"{verb} {result.text} as {version} on {', '.join(result.acked)} "
            f"(coordinator {result.coordinator})."
        )
        for holder, primary in sorted(result.hinted.items()):
            run.out.note(f"{holder} stands in for {primary} and keeps a hint.")
    if result.siblings > 1 and not run.out.quiet:
        from kvctl.text.shown_commands import kvctl_command

        run.out.warn(
            f"{result.text} now has {result.siblings} versions.",
            hint=run.shown(f"{kvctl_command('resolve', result.text)} shows them."),
        )


def show_siblings(run: Invocation, result: GetResult) -> None:
    """The versions of a key as a table on stdout."""
    from kvctl.cli.output import Table

    run.out.result(
        result.to_json(),
        Table(
            ("PICK", "VERSION", "VALUE"),
            [
                (
                    format_dot(version.dot),
                    " ".join(format_dot(entry) for entry in version.version),
                    run.out.brief(version.value),
                )
                for version in result.siblings
            ],
            title=f"{result.text}: {len(result.siblings)} versions",
        ),
    )
    run.out.note_shortened()


def format_dot(dot: tuple[str, int]) -> str:
    """`n1:3`: the name by which `resolve --pick` knows a version."""
    return f"{dot[0]}:{dot[1]}"


def conflict_hint(result: GetResult) -> str:
    """How to settle a conflict."""
    from kvctl.text.shown_commands import kvctl_command

    pick = ("--pick", format_dot(result.siblings[0].dot))
    return (
        f"{kvctl_command('resolve', result.text, options=pick)} keeps that version; "
        "--value and --merge put another in place of all."
    )


def _show_get(run: Invocation, result: GetResult, *, alone: bool) -> ExitCode:
    if run.out.is_json:
        run.out.json_line(result.to_json())
    elif result.explanation is not None:
        from kvctl.cli.explain_read import explain_read

        for sentence in explain_read(result):
            print_error(sentence)
    if not result.found:
        print_failure(
            int(ExitCode.NO), "not_found", f"{result.text} is not found.", "", json=run.out.is_json
        )
        return ExitCode.NO
    if len(result.siblings) > 1:
        if run.out.format is OutputFormat.TABLE:
            show_siblings(run, result)
        print_failure(
            int(ExitCode.CONFLICT),
            "conflict",
            f"{result.text} has {len(result.siblings)} conflicting versions.",
            run.shown(conflict_hint(result)),
            json=run.out.is_json,
        )
        return ExitCode.CONFLICT
    if run.out.is_json:
        return ExitCode.DONE
    value = result.value
    assert value is not None
    if alone:
        run.out.content(value)
    else:
        run.out.line(f"{one_line(result.key)}\t{run.out.brief(value)}")
    return ExitCode.DONE


def _read_stdin(run: Invocation) -> bytes:
    """The value on standard input. Raises `InvalidRequestError`, without reading what is over the
    limit, and `OSError`.
    """
    if sys.stdin.isatty():
        raise InvalidRequestError(
            "there is no value.",
            hint="give one as an argument, or pipe it in: kvctl put KEY < file.",
        )
    _, config = run.open_cluster()
    limit = config.limits.value_bytes_max
    value = sys.stdin.buffer.read(limit + 1)
    if len(value) > limit:
        raise TooLargeError(
            f"the value has more than {limit} bytes, which is the limit.",
            hint="limits.value_bytes_max in the cluster's configuration sets it.",
        )
    return value
