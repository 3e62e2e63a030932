"""The timeline: the events of all nodes as a space-time diagram, a column for each node."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from kvctl.errors import HomeError
from kvctl.text.cells import steady, width_of
from kvctl.tui.exports import write_new_file
from kvctl.tui.fixed_table import SCROLLBAR_WIDTH, Cell, Column, Row
from kvctl.tui.glyphs import BAD, DIM, OK, PLAIN, WARN, color_of_node
from kvctl.tui.page import Lookup, Page
from kvctl.tui.scene import Scene
from kvctl.tui.tail_table import TailTable
from kvctl.tui.wrapped_text import WrappedText
from kvctl.view.happened_before import (
    SHIVIZ_PATTERN,
    Histories,
    clock_text,
    key_of,
    own_count,
    shiviz_log,
)
from kvctl.view.space_time import (
    ASCII_SIGNS,
    LINE_SIGNS,
    clock_time,
    details_of,
    diagram_head,
    diagram_row,
    timeline_svg,
    timeline_text,
)
from kvctl.view.state import ClusterView, TimelineEvent

KIND_WIDTH = 18
EVENTS_SHOWN_MAX = 500
"""The newest so many that pass the filter."""

_STYLE_OF_KIND = {
    "member_down": BAD,
    "member_suspected": WARN,
    "member_alive": OK,
    "peer_unreachable": WARN,
    "hint_stored": WARN,
    "hint_delivered": OK,
    "hint_dropped": BAD,
    "fault_set": BAD,
    "fault_lifted": OK,
    "sibling_created": WARN,
    "copy_lost": BAD,
}


class TimelinePage(Page):
    """The sixth page."""

    KEY = "6"
    NAME = "timeline"
    SUMMARY = "events as a space-time diagram"
    KEYS = (("up/down", "step"), ("end", "follow"), ("E", "export"))
    HELP = (
        "Time runs downward. A full dot stands in the column of the node that tells, a hollow one "
        "in that of the node it tells about. Up and down step from event to event, End follows "
        "what happens now, / keeps only events in whose key, kind, node or details the text is. "
        "CLOCK of the event under the cursor is its trace clock: how many events of each node are "
        "known to have happened before. AFTER are the newest events of others that it knew of, and "
        "its node did not know at its own event before: they can have led to it. E writes what is "
        "shown as text, as SVG with arrows from causes, and as a log for ShiViz."
    )
    DEFAULT_CSS = """
    TimelinePage #events { height: 1fr; }
    TimelinePage #event { height: 4; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("E", "export", "export", show=False)]

    def __init__(self) -> None:
        super().__init__()
        self._scene: Scene | None = None
        self._events: dict[str, TimelineEvent] = {}
        self._rows: dict[str, Row] = {}
        """Rows made so far; an event never changes, so its row is made once."""
        self._layout: tuple[object, ...] = ()
        self._shows: tuple[object, ...] = ()
        """What the rows were made of."""
        self._histories = Histories(())
        self._detail: list[Text] = []
        self._past: list[TimelineEvent] | None = None
        """What happened before the dashboard began, None until it was read."""

    def compose(self) -> ComposeResult:
        """The diagram, and the event under the cursor in full."""
        yield TailTable((), empty="nothing happened yet", id="events")
        yield WrappedText(id="event")

    @property
    def event(self) -> TimelineEvent | None:
        """The event under the cursor."""
        return self._events.get(self.query_one("#events", TailTable).cursor_key)

    @property
    def selected_node(self) -> str:
        """The node that tells the event under the cursor."""
        return "" if self.event is None else self.event.node

    def lookup(self, view: ClusterView) -> Lookup | None:
        """Once, what happened before."""
        return None if self._past is not None else lambda reader: reader.past_events()

    def take(self, answer: object) -> None:
        """What happened before."""
        assert isinstance(answer, list)
        self._past = [
            TimelineEvent(
                one.at_ms, one.node, one.generation, one.seq, one.kind, one.fields, one.clock
            )
            for one in answer
        ]
        self.revision += 1

    def _all_events(self, view: ClusterView) -> list[TimelineEvent]:
        """The past, and what was seen as it happened, each once."""
        seen = {_key(event) for event in view.events}
        past = [event for event in self._past or () if _key(event) not in seen]
        return [*past, *view.events]

    def paint(self, scene: Scene) -> None:
        """Show what is true now."""
        self._scene = scene
        table = self.query_one("#events", TailTable)
        nodes = tuple(scene.view.nodes)
        column_width = _column_width(nodes, self.app.size.width)
        layout = (nodes, column_width, self.app.size.width, scene.glyphs)
        if layout != self._layout:
            self._layout, self._rows = layout, {}
            table.set_columns(_columns(nodes, column_width, self.app.size.width))
        shows = (scene.view.events, self._past, scene.filter, layout)
        if not _is_same(shows, self._shows):
            self._shows = shows
            self._show_events(scene, table, column_width)
        detail = self._detail_lines(scene, table)
        if detail != self._detail:
            self._detail = detail
            self.query_one("#event", WrappedText).show(*detail, layout=False)

    def _show_events(self, scene: Scene, table: TailTable, column_width: int) -> None:
        events = self._all_events(scene.view)
        self._histories = Histories(events)
        shown = [event for event in events if _passes(scene, event)][-EVENTS_SHOWN_MAX:]
        self._events = {_key(event): event for event in shown}
        self._rows = {
            key: self._rows.get(key) or _row(scene, key, event, column_width)
            for key, event in self._events.items()
        }
        table.set_empty("no event matches" if events else "nothing happened yet")
        table.show(list(self._rows.values()))

    def _detail_lines(self, scene: Scene, table: TailTable) -> list[Text]:
        event = self.event
        if event is None:
            return []
        head, text = Text(end=""), Text(end="")
        head.append(f"{clock_time(event.at_ms)} {event.node} {event.kind}", "bold")
        head.append(f"  generation {event.generation}, event {event.seq}", DIM)
        if not table.follows:
            head.append("  standing still, End follows", WARN)
        text.append("CLOCK ", DIM)
        text.append(clock_text(event.clock) or "not known: it happened before this dashboard began")
        if own_count(event):
            led_by = [
                f"{one.node} {one.kind} (event {one.seq})"
                for one in self._histories.causes_of(event)
            ]
            if led_by:
                text.append("  AFTER ", DIM)
                text.append(", ".join(led_by))
        if scene.view.events_missed:
            text.append(f"  {scene.view.events_missed} events were missed", WARN)
        return [head, text, Text(details_of(event.fields))]

    def on_fixed_table_cursor_moved(self) -> None:
        """Another event."""
        self.revision += 1

    def action_export(self) -> None:
        """Write what is shown into two new files of the working directory."""
        if self._scene is None or not self._events:
            self.post_message(self.Says("there is nothing to export."))
            return
        if self.app.is_web:
            sentence = "files are written by the dashboard in a terminal only."
            self.post_message(self.Says(sentence))
            return
        nodes = list(self._scene.view.nodes)
        events = list(self._events.values())
        colors = [color_of_node(place) for place in range(len(nodes))]
        stem = f"kvctl-timeline-{self._scene.view.cluster}"
        try:
            text = write_new_file(stem, "txt", timeline_text(events, nodes))
            svg = write_new_file(stem, "svg", timeline_svg(events, nodes, colors))
            log = write_new_file(
                stem,
                "shiviz.log",
                shiviz_log(events, {key_of(event): details_of(event.fields) for event in events}),
            )
        except HomeError as error:
            self.post_message(self.Says(error.message, error.hint))
        else:
            sentence = f"{len(events)} events written to {text}, {svg} and {log}."
            self.post_message(self.Says(sentence, f"ShiViz reads it with {SHIVIZ_PATTERN}"))


def _is_same(one: tuple[object, ...], other: tuple[object, ...]) -> bool:
    """Events and past by identity, for they are long; the rest by value."""
    return (
        len(one) == len(other)
        and one[0] is other[0]
        and one[1] is other[1]
        and one[2:] == other[2:]
    )


def _key(event: TimelineEvent) -> str:
    return f"{event.node} {event.generation} {event.seq}"


def _passes(scene: Scene, event: TimelineEvent) -> bool:
    return not scene.filter or scene.matches(event.kind, event.node, details_of(event.fields))


def _column_width(nodes: tuple[str, ...], width: int) -> int:
    """As wide as the longest name, narrower if the columns would take more than half."""
    widest = max([3, *(width_of(steady(name)) + 1 for name in nodes)])
    return max(2, min(widest + 1, width // 2 // max(1, len(nodes))))


def _columns(nodes: tuple[str, ...], column_width: int, width: int) -> tuple[Column, ...]:
    diagram = max(4, column_width * len(nodes))
    rest = max(10, width - 12 - diagram - KIND_WIDTH - 4 - SCROLLBAR_WIDTH)
    return (
        Column("TIME", 12),
        Column(diagram_head(nodes, column_width), diagram),
        Column("EVENT", KIND_WIDTH),
        Column("DETAILS", rest),
    )


def _style_of(event: TimelineEvent) -> str:
    """What is bad or good in colour; what found nothing to do, faint."""
    if event.fields.get("state") == "equal":
        return DIM
    return _STYLE_OF_KIND.get(event.kind, PLAIN)


def _row(scene: Scene, key: str, event: TimelineEvent, column_width: int) -> Row:
    nodes = list(scene.view.nodes)
    signs = ASCII_SIGNS if scene.glyphs.ascii else LINE_SIGNS
    place = scene.places.get(event.node, 0)
    return Row(
        key,
        (
            Cell(clock_time(event.at_ms), DIM),
            Cell(diagram_row(event, nodes, column_width, signs), color_of_node(place)),
            Cell(event.kind, _style_of(event)),
            Cell(details_of(event.fields), DIM),
        ),
    )
