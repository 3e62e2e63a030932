"""The timeline as a space-time diagram: time runs downward, every node has a column.

    time          n1  n2  n3   event
    12:03:04.120  ●   │   │    node_started
    12:03:07.481  │   ●╌╌╌◇    member_suspected  member=n3
    12:03:07.920  ●╌╌╌┼╌╌╌◇    member_down  member=n3

The filled sign is the node that tells, the hollow one the node it tells about. Rows stand in the
order the watcher learned of them; what happened before what is certain only along a column, and
where an event's trace clock says so (`happened_before`). The same rows become text or SVG, and in
the latter arrows lead from the causes of each event to it.
"""

from __future__ import annotations

import html
import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from kvctl.text.cells import fitted, steady, width_of
from kvctl.text.escaping import printable
from kvctl.view.happened_before import causes, key_of
from kvctl.view.state import TimelineEvent

_SUBJECT_FIELDS = ("member", "target", "peer", "primary", "to")
_ROW_PX = 18
_COLUMN_PX = 56
_LEFT_PX = 120
_TEXT_PX = 900


class Signs(NamedTuple):
    """The characters of a diagram."""

    teller: str = "●"
    subject: str = "◇"
    life: str = "│"
    link: str = "╌"
    crossing: str = "┼"


LINE_SIGNS = Signs()
ASCII_SIGNS = Signs("*", "o", "|", "-", "+")


def subject_of(event: TimelineEvent, nodes: Iterable[str]) -> str | None:
    """The other node an event is about, if it is about one."""
    for field in _SUBJECT_FIELDS:
        name = event.fields.get(field)
        if isinstance(name, str) and name != event.node and name in nodes:
            return name
    return None


def diagram_row(
    event: TimelineEvent, nodes: Sequence[str], column_width: int, signs: Signs = LINE_SIGNS
) -> str:
    """The columns of one event, `column_width` characters each."""
    teller = nodes.index(event.node) if event.node in nodes else -1
    subject = subject_of(event, nodes)
    end = teller if subject is None else nodes.index(subject)
    low, high = (min(teller, end), max(teller, end)) if teller >= 0 else (0, 0)
    cells = []
    for place in range(len(nodes)):
        linked = low <= place < high
        if place == teller:
            sign = signs.teller
        elif place == end and subject is not None and teller >= 0:
            sign = signs.subject
        elif low < place < high:
            sign = signs.crossing
        else:
            sign = signs.life
        cells.append(sign + (signs.link if linked else " ") * (column_width - 1))
    return "".join(cells)


def diagram_head(nodes: Sequence[str], column_width: int) -> str:
    """The names above the columns."""
    return "".join(fitted(steady(name), column_width - 1) + " " for name in nodes)


def clock_time(at_ms: int) -> str:
    """Local time to the millisecond."""
    return f"{time.strftime('%H:%M:%S', time.localtime(at_ms // 1000))}.{at_ms % 1000:03d}"


def details_of(fields: Mapping[str, Any]) -> str:
    """What an event says beyond its kind, in one line that drives no terminal."""
    return printable(" ".join(f"{name}={_plain(value)}" for name, value in fields.items()))


def told_by(event: TimelineEvent) -> str:
    """An event in one line: its kind, and what it says."""
    return f"{printable(event.kind)}  {details_of(event.fields)}".rstrip()


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def timeline_text(events: Iterable[TimelineEvent], nodes: Sequence[str]) -> str:
    """The diagram as a text file."""
    width = max([4, *(width_of(steady(name)) + 1 for name in nodes)])
    lines = [f"{'time':<13} {diagram_head(nodes, width)}  event"]
    for event in events:
        row = diagram_row(event, nodes, width)
        lines.append(f"{clock_time(event.at_ms):<13} {row}  {told_by(event)}")
    return "\n".join(line.rstrip() for line in lines) + "\n"


def timeline_svg(
    events: Sequence[TimelineEvent], nodes: Sequence[str], colors: Sequence[str]
) -> str:
    """The diagram as an SVG document; `colors` are those of the nodes. Needs nothing from outside.

    A full dot tells, a hollow one is told about; arrows lead from what was known to have happened.
    """
    height = _ROW_PX * (len(events) + 3)
    width = _LEFT_PX + _COLUMN_PX * len(nodes) + _TEXT_PX
    color_of = dict(zip(nodes, colors, strict=True))
    x_of = {name: _LEFT_PX + _COLUMN_PX * place + 16 for place, name in enumerate(nodes)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" '
        'font-family="monospace" font-size="12">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
        '<marker id="head" viewBox="0 0 8 8" refX="11" refY="4" markerWidth="6" markerHeight="6" '
        'orient="auto"><path d="M0 0 8 4 0 8z" fill="#777777"/></marker>',
    ]
    for name in nodes:
        x = x_of[name]
        parts.append(
            f'<text x="{x}" y="{_ROW_PX}" text-anchor="middle" font-weight="bold" '
            f'fill="{color_of[name]}">{html.escape(printable(name))}</text>'
            f'<line x1="{x}" y1="{_ROW_PX + 6}" x2="{x}" y2="{height}" stroke="#cccccc"/>'
        )
    text_x = _LEFT_PX + _COLUMN_PX * len(nodes) + 8
    y_of = {key_of(event): _ROW_PX * (place + 2) + 4 for place, event in enumerate(events)}
    for key, led_by in causes(events).items():
        for cause in led_by:
            if key[0] in x_of and cause.node in x_of:
                parts.append(
                    f'<line class="cause" x1="{x_of[cause.node]}" y1="{y_of[key_of(cause)]}" '
                    f'x2="{x_of[key[0]]}" y2="{y_of[key]}" stroke="#777777" '
                    'marker-end="url(#head)"/>'
                )
    for event in events:
        y = y_of[key_of(event)]
        parts.append(_svg_row(event, y, x_of, color_of, text_x))
    return "\n".join([*parts, "</svg>\n"])


def _svg_row(
    event: TimelineEvent,
    y: int,
    x_of: Mapping[str, int],
    color_of: Mapping[str, str],
    text_x: int,
) -> str:
    told = html.escape(told_by(event))
    row = f'<text x="8" y="{y + 4}" fill="#666666">{clock_time(event.at_ms)}</text>'
    row += f'<text x="{text_x}" y="{y + 4}">{told}</text>'
    if event.node not in x_of:
        return row
    x, color = x_of[event.node], color_of[event.node]
    subject = subject_of(event, x_of)
    if subject is not None:
        row += (
            f'<line x1="{x}" y1="{y}" x2="{x_of[subject]}" y2="{y}" stroke="{color}" '
            'stroke-dasharray="3 2"/>'
            f'<circle cx="{x_of[subject]}" cy="{y}" r="4" fill="#ffffff" stroke="{color}"/>'
        )
    return row + f'<circle cx="{x}" cy="{y}" r="4" fill="{color}"/>'
