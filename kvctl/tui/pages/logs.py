"""The nodes' logs, merged by time, of all nodes or of one."""

from __future__ import annotations

from collections import deque
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from kvctl.tui.cluster_reader import LOG_LINES_MAX, STAMP_LENGTH, LogLine
from kvctl.tui.fixed_table import SCROLLBAR_WIDTH, Cell, Column, Row
from kvctl.tui.glyphs import BAD, DIM, PLAIN, WARN, color_of_node
from kvctl.tui.page import Lookup, Page
from kvctl.tui.scene import Scene
from kvctl.tui.tail_table import TailTable
from kvctl.tui.text_pane import TextPane
from kvctl.tui.wrapped_text import WrappedText
from kvctl.view.feed import FeedKind
from kvctl.view.state import ClusterView

NODE_WIDTH = 7
_TIME = slice(11, 23)
"""Hours to milliseconds within a stamp."""
_STYLE_OF_LEVEL = {"WARNING": WARN, "ERROR": BAD, "CRITICAL": BAD}


class LogsPage(Page):
    """The seventh page."""

    KEY = "7"
    NAME = "logs"
    SUMMARY = "what the nodes write for people"
    KEYS = (("left/right", "node"), ("up/down", "look back"), ("end", "follow"), ("/", "search"))
    HELP = (
        "The log files of the nodes, merged by time; they are read from the nodes' directories, so "
        "those of dead nodes are here, too. Left and right choose a node or all, / keeps the lines "
        "with a text in them, up looks back, End follows what is written now. The line under the "
        "cursor is shown in full below."
    )
    DEFAULT_CSS = """
    LogsPage #log-nodes { height: 1; }
    LogsPage #log-lines { height: 1fr; }
    LogsPage #log-line { height: auto; max-height: 5; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(-1)", "node before", show=False),
        Binding("right", "choose(1)", "next node", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._lines: deque[LogLine] = deque(maxlen=LOG_LINES_MAX)
        self._chosen = ""
        self._names: tuple[str, ...] = ()
        self._shown: tuple[object, ...] = ()
        self._texts: dict[str, str] = {}
        self._line = ""

    def compose(self) -> ComposeResult:
        """Whose log it is, the lines, and one of them in full."""
        yield TextPane(id="log-nodes")
        yield TailTable((), empty="reading ...", id="log-lines")
        yield WrappedText(id="log-line")

    # ------------------------------------------------------------ reading

    def lookup(self, view: ClusterView) -> Lookup | None:
        """Read on."""
        return lambda reader: reader.new_log_lines()

    def take(self, answer: object) -> None:
        """New lines."""
        assert isinstance(answer, list)
        if answer:
            self._lines.extend(answer)
            self.revision += 1

    @property
    def selected_node(self) -> str:
        """The node whose log it is, or that of the line under the cursor."""
        if self._chosen:
            return self._chosen
        return self.query_one("#log-lines", TailTable).cursor_key.partition(" ")[0]

    def action_choose(self, by: int) -> None:
        """The log of another node, or of all."""
        choices = ("", *self._names)
        place = choices.index(self._chosen) if self._chosen in choices else 0
        self._chosen = choices[(place + by) % len(choices)]
        self.revision += 1

    def on_fixed_table_cursor_moved(self) -> None:
        """Another line."""
        self.revision += 1

    # ------------------------------------------------------------ showing

    def paint(self, scene: Scene) -> None:
        """Show what is there now."""
        self._names = tuple(scene.view.nodes)
        table = self.query_one("#log-lines", TailTable)
        width = self.app.size.width
        shown = (self._names, self._chosen, scene.filter, width, len(self._lines), self._newest)
        if shown != self._shown:
            self._shown = shown
            rest = max(20, width - NODE_WIDTH - 15 - SCROLLBAR_WIDTH)
            table.set_columns(
                (Column("TIME", 12), Column("NODE", NODE_WIDTH), Column("LINE", rest))
            )
            lines = [line for line in self._lines if self._passes(scene, line)]
            self._texts = {_key(line): line.text for line in lines}
            table.set_empty(_why_empty(scene, bool(self._lines)))
            table.show([_row(scene, line) for line in lines])
            self.query_one("#log-nodes", TextPane).show_lines([self._choices()])
        text = self._texts.get(table.cursor_key, "")
        if text != self._line:
            self._line = text
            self.query_one("#log-line", WrappedText).show(text)

    @property
    def _newest(self) -> str:
        return _key(self._lines[-1]) if self._lines else ""

    def _passes(self, scene: Scene, line: LogLine) -> bool:
        return (not self._chosen or line.node == self._chosen) and scene.matches(line.text)

    def _choices(self) -> Text:
        text = Text(no_wrap=True, end="")
        for name in ("", *self._names):
            text.append(f" {name or 'all'} ", "reverse" if name == self._chosen else DIM)
        return text


def _key(line: LogLine) -> str:
    return f"{line.node} {line.number}"


def _row(scene: Scene, line: LogLine) -> Row:
    is_stamped = line.text.startswith(line.at) and bool(line.at)
    rest = line.text[STAMP_LENGTH + 1 :] if is_stamped else line.text
    level = next((style for word, style in _STYLE_OF_LEVEL.items() if word in rest[:24]), PLAIN)
    return Row(
        _key(line),
        (
            Cell(line.at[_TIME], DIM),
            Cell(line.node, color_of_node(scene.places.get(line.node, 0))),
            Cell(rest, level),
        ),
    )


def _why_empty(scene: Scene, is_read: bool) -> str:
    if scene.kind is FeedKind.REPLAY:
        return "a recording has no logs; the timeline has its events"
    return "no line matches" if is_read else "reading ..."
