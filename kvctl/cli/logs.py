"""Looking back and watching: the nodes' logs for people, their events for programs.

Both are files each node writes in its directory, so they can be read while the node is dead, which
is when they matter. Lines of several nodes are merged by their stamps. `-f` goes on with what the
nodes write from now on, over restarts and rotations.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from heapq import merge
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import msgspec
import typer

from kvctl.cli.complete_names import complete_node
from kvctl.cli.invocation import Invocation, command, command_family, split_list
from kvctl.cli.output import one_line
from kvctl.cli.rotated_lines import RotatedLines
from kvctl_node.documents import UNREADABLE

if TYPE_CHECKING:
    from kvctl.cluster.directory import ClusterDirectory

app = command_family()

LOG_FILE_NAME = "node.log"
EVENT_FILE_NAME = "events.jsonl"
POLL_INTERVAL_S = 0.2
_STAMP_LENGTH = len("2026-01-01T00:00:00.000Z")
_EVENT_HEAD = ("at", "node", "generation", "seq", "kind", "clock")

Tail = Annotated[
    int | None, typer.Option("--tail", min=0, help="Begin with the last so many lines only.")
]
Follow = Annotated[
    bool, typer.Option("-f", "--follow", help="Go on with what is written from now on.")
]


class Line(NamedTuple):
    """One line of one node's file, in the order in which lines are merged."""

    at: str | int
    """Its stamp: ISO 8601 text of a log line, milliseconds of an event."""
    node: str
    text: bytes


@command(app, "logs", examples=("kvctl logs", "kvctl logs n1 n2 -f", "kvctl logs --tail 20"))
def logs(
    run: Invocation,
    *,
    nodes: Annotated[
        list[str] | None,
        typer.Argument(metavar="NODE", help="Only these nodes.", autocompletion=complete_node),
    ] = None,
    follow: Follow = False,
    tail: Tail = None,
) -> None:
    """Print the nodes' logs, merged by time."""
    directory, names = _chosen_nodes(run, nodes)
    width = max(len(name) for name in names)

    def show(line: Line) -> None:
        text = one_line(line.text)
        run.out.item(
            {"node": line.node, "at": line.at, "line": text}, f"{line.node:<{width}}  {text}"
        )

    _print_lines(directory, names, LOG_FILE_NAME, stamped_log_lines, show, follow=follow, tail=tail)


@command(
    app,
    "events",
    examples=(
        "kvctl events -f                        everything, as it happens",
        "kvctl events --key user:1              the story of one key",
        "kvctl events -f -o jsonl | jq .kind    for programs",
    ),
)
def events(
    run: Invocation,
    *,
    follow: Follow = False,
    node: Annotated[
        list[str] | None,
        typer.Option(metavar="NODE,...", help="Only of these nodes.", autocompletion=complete_node),
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="K", help="Only about this key.")] = None,
    kind: Annotated[
        list[str] | None, typer.Option(metavar="KIND,...", help="Only of these kinds.")
    ] = None,
    tail: Tail = None,
) -> None:
    """Print what happened inside the nodes, merged by time."""
    directory, names = _chosen_nodes(run, node)
    kinds = split_list(kind)

    def show(line: Line) -> None:
        event = decode_event(line.text)
        assert event is not None  # `stamped_events` let it pass
        run.out.item(event, format_event(event))

    def wanted(lines: Iterable[bytes], name: str) -> Iterator[Line]:
        return stamped_events(lines, name, key=key, kinds=kinds)

    _print_lines(directory, names, EVENT_FILE_NAME, wanted, show, follow=follow, tail=tail)


def _chosen_nodes(run: Invocation, wanted: list[str] | None) -> tuple[ClusterDirectory, list[str]]:
    directory, config = run.open_cluster()
    named = split_list(wanted)
    for name in named:
        config.node(name)  # raises for a name nobody has
    return directory, named or [node.name for node in config.nodes]


def _print_lines(
    directory: ClusterDirectory,
    names: list[str],
    file_name: str,
    stamp: Callable[[Iterable[bytes], str], Iterator[Line]],
    show: Callable[[Line], None],
    *,
    follow: bool,
    tail: int | None,
) -> None:
    """History first, or its last lines; then, if followed, whatever comes."""
    sources = {name: RotatedLines(directory.node(name) / file_name) for name in names}

    def new_lines() -> Iterator[Line]:
        return merge(*(stamp(source.new_lines(), name) for name, source in sources.items()))

    history = new_lines()
    for line in history if tail is None else deque(history, maxlen=tail):
        show(line)
    while follow:
        time.sleep(POLL_INTERVAL_S)
        for line in new_lines():
            show(line)


def stamped_log_lines(lines: Iterable[bytes], node: str) -> Iterator[Line]:
    """Log lines with their stamps; a line without one belongs to the line before it."""
    at = ""
    for text in lines:
        head = text[:_STAMP_LENGTH]
        if head[:1].isdigit() and head.endswith(b"Z"):
            at = head.decode("ascii", "replace")
        yield Line(at, node, text)


def stamped_events(
    lines: Iterable[bytes], node: str, *, key: str | None, kinds: list[str]
) -> Iterator[Line]:
    """The events that were asked for; a torn line (the disk was full) is left out."""
    for text in lines:
        event = decode_event(text)
        if event is None or (kinds and event["kind"] not in kinds):
            continue
        if key is None or event.get("key") == key:
            yield Line(event["at"], node, text)


def decode_event(text: bytes) -> dict[str, Any] | None:
    """One event as a dictionary; None if the line is not one."""
    try:
        event = msgspec.json.decode(text, type=dict[str, Any])
    except UNREADABLE:
        return None
    return event if isinstance(event.get("at"), int) and "kind" in event else None


def format_event(event: dict[str, Any]) -> str:
    """`12:03:04.120  n1  hint_stored  target=n3 key=user:1`."""
    from datetime import datetime

    at = datetime.fromtimestamp(event["at"] / 1000)
    clock = f"{at:%H:%M:%S}.{event['at'] % 1000:03d}"
    details = " ".join(
        f"{name}={_brief(value)}" for name, value in event.items() if name not in _EVENT_HEAD
    )
    return f"{clock}  {event.get('node', '?')}  {event['kind']}  {details}".rstrip()


def _brief(value: Any) -> str:
    if isinstance(value, str):
        return one_line(value.encode("utf-8", "surrogateescape"))
    return msgspec.json.encode(value).decode()
