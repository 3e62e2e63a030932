"""Siblings: listing the keys that have them, and settling one key.

The store keeps concurrent versions and never chooses; `resolve` is where a person or a program
does. It reads, and writes with the context of that very read, so whatever was written in between
is not covered and survives as a sibling.
"""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Annotated

import msgspec
import typer

from kvctl.cli.complete_names import complete_node
from kvctl.cli.data import Key, Via, conflict_hint, format_dot, show_put, show_siblings
from kvctl.cli.invocation import Invocation, command, command_family, text_to_bytes
from kvctl.cli.output import Output, one_line
from kvctl.cli.streams import print_error_lines
from kvctl.errors import ExitCode, KvctlError
from kvctl_node.errors import InvalidRequestError

if TYPE_CHECKING:
    from kvctl.client import GetResult, Version

app = command_family()


class MergeFailedError(KvctlError):
    """The command given to `--merge` ended with an error; nothing was written."""

    kind = "merge_failed"


@command(
    app,
    "conflicts",
    examples=("kvctl conflicts", "kvctl conflicts cart: -o jsonl | jq -r .key"),
)
def conflicts(
    run: Invocation,
    *,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="Only keys that begin so (default: all).")
    ] = "",
    limit: Annotated[int | None, typer.Option(min=1, help="Stop after so many keys.")] = None,
    via: Annotated[
        str | None,
        typer.Option(metavar="NODE", help="Ask exactly this node.", autocompletion=complete_node),
    ] = None,
) -> None:
    """List the keys that have siblings.

    One line each: the key, then dot=value for every version. A terminal gets the beginning of a
    long value; a pipe, or -o jsonl, gets all of it.
    """
    with run.connect() as client:
        for result in client.scan(text_to_bytes(prefix), conflicts_only=True, limit=limit, via=via):
            siblings = result.siblings
            if len(siblings) < 2:
                continue  # retries of one write, which show as one version
            run.out.item(
                {"key": result.text, "siblings": [version.to_json() for version in siblings]},
                "\t".join(
                    [one_line(result.key), *(_brief(run.out, version) for version in siblings)]
                ),
            )
    run.out.note_shortened()


def _brief(out: Output, version: Version) -> str:
    return f"{format_dot(version.dot)}={out.brief(version.value)}"


@command(
    app,
    "resolve",
    examples=(
        "kvctl resolve cart:7                    show the versions",
        "kvctl resolve cart:7 --pick n1:3        keep one of them",
        "kvctl resolve cart:7 --value '[]'       replace them all",
        "kvctl resolve cart:7 --merge 'jq -s \"map(.value|fromjson)|add\"'",
    ),
    goes_on=True,
)
def resolve(
    run: Invocation,
    *,
    key: Key,
    pick: Annotated[
        str | None,
        typer.Option(metavar="DOT", help="Keep this version, by the name shown, such as n1:3."),
    ] = None,
    value: Annotated[
        str | None, typer.Option(metavar="V", help="Replace all versions by this value.")
    ] = None,
    merge: Annotated[
        str | None,
        typer.Option(
            metavar="CMD",
            help="Replace them by what this shell command prints; it reads the versions as JSON "
            "Lines.",
        ),
    ] = None,
    via: Via = None,
) -> None:
    """Replace the siblings of a key by one value.

    Shows what it settles, then writes with the context of what it read: a version written
    meanwhile survives. Without a rule it shows the versions and exits with 6.
    """
    if sum(rule is not None for rule in (pick, value, merge)) > 1:
        raise InvalidRequestError("--pick, --value and --merge exclude each other.")
    with run.connect() as client:
        found = client.get(text_to_bytes(key), via=via)
        if not found.found:
            raise KeyNotFoundError(f"{key} is not found.")
        if len(found.siblings) == 1:
            run.out.note(f"{key} has one version; there is nothing to resolve.")
            return
        if pick is None and value is None and merge is None:
            show_siblings(run, found)
            run.out.note(f"hint: {run.shown(conflict_hint(found))}")
            raise typer.Exit(int(ExitCode.CONFLICT))
        for version in found.siblings:
            replaced = run.out.brief(version.value, terminal=sys.stderr.isatty())
            run.out.note(f"replacing {format_dot(version.dot)}={replaced}")
        settled = _settle(found, pick, value, merge)
        if settled is None:
            result = client.delete(found.key, context=found.context, via=via)
        else:
            result = client.put(found.key, settled, context=found.context, via=via)
    show_put(run, result, "resolved" if settled is not None else "deleted")


class KeyNotFoundError(KvctlError):
    """There is no such key."""

    kind = "not_found"


def _settle(
    found: GetResult, pick: str | None, value: str | None, merge: str | None
) -> bytes | None:
    """The value all versions are replaced by; None to delete the key."""
    if pick is not None:
        for version in found.siblings:
            if format_dot(version.dot) == pick:
                return version.value
        known = ", ".join(format_dot(version.dot) for version in found.siblings)
        raise InvalidRequestError(f"{found.text} has no version {pick}.", hint=f"it has {known}.")
    if value is not None:
        return text_to_bytes(value)
    assert merge is not None
    return _merge(found, merge)


def _merge(found: GetResult, command_line: str) -> bytes:
    """Run the person's own shell command on the versions."""
    lines = b"".join(
        msgspec.json.encode({"key": found.text, **version.to_json()}) + b"\n"
        for version in found.siblings
    )
    merged = subprocess.run(command_line, shell=True, input=lines, capture_output=True, check=False)
    if merged.stderr:
        print_error_lines(merged.stderr.decode("utf-8", "surrogateescape"))
    if merged.returncode != 0:
        raise MergeFailedError(
            f"the merge command ended with {merged.returncode}; nothing was written.",
            hint="it gets one JSON object per version on stdin and prints the merged value.",
        )
    return merged.stdout
