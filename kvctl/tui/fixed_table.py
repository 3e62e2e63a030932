"""A table with columns of fixed width that redraws only the rows that differ.

Textual's DataTable measures and redraws whole tables, which costs more than everything else on a
screen that is renewed several times a second. Here a row is a tuple of cells; `show` compares it
with what is on the screen, and only the lines of rows that changed are drawn again. A cell holds
any text: it is made safe, and cut by cells, where it is drawn.

The cursor stays with its row, by the row's key, wherever that row moves to.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import ClassVar, NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.events import Click, Resize
from textual.geometry import Region, Size
from textual.message import Message
from textual.scroll_view import ScrollView
from textual.strip import Strip

from kvctl.text.cells import MARKS_MAX, fitted, steady

SCROLLBAR_WIDTH = 2
"""What a table that is higher than its pane loses of its width."""
_HEAD = Style(bold=True)
_CURSOR = Style(bgcolor="#2c4f7c", bold=True)
_CURSOR_AWAY = Style(bgcolor="#1d2733")
_CURSOR_WITHOUT_COLORS = Style(reverse=True)
_CURSOR_AWAY_WITHOUT_COLORS = Style(underline=True)


class Column(NamedTuple):
    """A heading and a width in cells; numbers stand on the right."""

    title: str
    width: int
    right: bool = False


class Cell(NamedTuple):
    """A text in a style ("" is plain)."""

    text: str
    style: str = ""


class Row(NamedTuple):
    """A row, known by its key."""

    key: str
    cells: tuple[Cell, ...]


class FixedTable(ScrollView, can_focus=True):
    """Shows rows; arrow keys move the cursor."""

    DEFAULT_CSS = "FixedTable { height: auto; background: $background; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "move(-1)", "up", show=False),
        Binding("down", "move(1)", "down", show=False),
        Binding("pageup", "move(-10)", "page up", show=False),
        Binding("pagedown", "move(10)", "page down", show=False),
        Binding("home", "move(-1000000)", "first", show=False),
        Binding("end", "move(1000000)", "last", show=False),
    ]

    class CursorMoved(Message):
        """The cursor is on another row."""

        def __init__(self, table: FixedTable, key: str) -> None:
            super().__init__()
            self.table = table
            self.key = key

        @property
        def control(self) -> FixedTable:
            """The table."""
            return self.table

    def __init__(
        self, columns: Sequence[Column], *, empty: str = "", id: str | None = None
    ) -> None:
        """`empty` is shown while there are no rows."""
        super().__init__(id=id)
        self.columns = tuple(columns)
        self.rows: tuple[Row, ...] = ()
        self.cursor_key = ""
        self.rows_painted = 0
        """Lines drawn so far; what the budget of a paint is measured by."""
        self._empty = empty
        self._base_style: Style | None = None
        """`rich_style`, which is looked up through all ancestors, until styles change."""

    # ------------------------------------------------------------ content

    def set_columns(self, columns: Sequence[Column]) -> None:
        """Use other columns from now on; rows that fit them have to be shown next."""
        if tuple(columns) != self.columns:
            self.columns = tuple(columns)
            self.rows = ()
            self._resize_content()
            self.refresh()

    def set_empty(self, sentence: str) -> None:
        """What is shown while there are no rows."""
        if sentence != self._empty:
            self._empty = sentence
            self.refresh()

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows; what is on the screen already is not drawn again."""
        before, self.rows = self.rows, tuple(rows)
        if self.cursor_key not in {row.key for row in self.rows}:
            self._set_cursor(self.rows[0].key if self.rows else "")
        if len(before) != len(self.rows):
            self._resize_content()
            self.refresh()
            return
        for place, (old, new) in enumerate(zip(before, self.rows, strict=True)):
            if old != new:
                self._refresh_row(place)

    @property
    def cursor_place(self) -> int:
        """The place of the cursor's row, -1 without rows."""
        for place, row in enumerate(self.rows):
            if row.key == self.cursor_key:
                return place
        return -1

    def _resize_content(self) -> None:
        width = sum(column.width + 1 for column in self.columns)
        self.virtual_size = Size(width, max(1, len(self.rows)) + 1)

    def get_content_width(self, container: Size, viewport: Size) -> int:
        """As wide as all columns."""
        return sum(column.width + 1 for column in self.columns)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        """The heading and every row."""
        return max(1, len(self.rows)) + 1

    # ------------------------------------------------------------ cursor

    def action_move(self, by: int) -> None:
        """Move the cursor."""
        if self.rows:
            place = min(max(self.cursor_place + by, 0), len(self.rows) - 1)
            self.move_to(self.rows[place].key)

    def move_to(self, key: str) -> None:
        """Put the cursor on a row, in sight."""
        self._refresh_row(self.cursor_place)
        self._set_cursor(key)
        place = self.cursor_place
        self._refresh_row(place)
        if place >= 0:
            height = max(1, self.size.height - 1)
            top = self.scroll_offset.y
            if not top <= place < top + height:
                self.scroll_to(y=place if place < top else place - height + 1, animate=False)

    def _set_cursor(self, key: str) -> None:
        if key != self.cursor_key:
            self.cursor_key = key
            self.post_message(self.CursorMoved(self, key))

    def on_click(self, event: Click) -> None:
        """Put the cursor where the mouse is."""
        place = event.y - 1 + self.scroll_offset.y
        if event.y > 0 and 0 <= place < len(self.rows):
            self.move_to(self.rows[place].key)

    def on_focus(self) -> None:
        """Show the cursor as one that listens."""
        self._refresh_row(self.cursor_place)

    def on_blur(self) -> None:
        """Show the cursor as one that does not."""
        self._refresh_row(self.cursor_place)

    def on_resize(self, event: Resize) -> None:
        """Widths are fixed, what is in sight is not."""
        self._resize_content()

    # ------------------------------------------------------------ drawing

    def _refresh_row(self, place: int) -> None:
        y = place + 1 - self.scroll_offset.y
        if place >= 0 and 1 <= y < self.size.height:
            self.refresh(Region(0, y, self.size.width, 1))

    def notify_style_update(self) -> None:
        """Another theme, another focus."""
        self._base_style = None
        super().notify_style_update()

    @property
    def base_style(self) -> Style:
        """What is behind everything."""
        if self._base_style is None:
            self._base_style = self.rich_style
        return self._base_style

    def render_line(self, y: int) -> Strip:
        """The heading, or one row."""
        self.rows_painted += 1
        base = self.base_style
        offset_x, offset_y = self.scroll_offset
        if y == 0:
            heads = tuple(Cell(column.title) for column in self.columns)
            strip = self._strip(heads, _HEAD)
        elif not self.rows:
            strip = Strip([Segment(steady(self._empty) if y == 1 else "", Style(dim=True))])
        else:
            place = y - 1 + offset_y
            if place >= len(self.rows):
                return Strip.blank(self.size.width, base)
            row = self.rows[place]
            over = Style.null()
            if row.key == self.cursor_key:
                over = self._cursor_style()
            strip = self._strip(row.cells, over)
        return strip.crop_extend(offset_x, offset_x + self.size.width, base).apply_style(base)

    def _cursor_style(self) -> Style:
        if self.app.no_color:
            return _CURSOR_WITHOUT_COLORS if self.has_focus else _CURSOR_AWAY_WITHOUT_COLORS
        return _CURSOR if self.has_focus else _CURSOR_AWAY

    def _strip(self, cells: Sequence[Cell], over: Style) -> Strip:
        segments = []
        for column, cell in zip(self.columns, cells, strict=False):
            style = Style.parse(cell.style) + over if cell.style else over
            # No more of a text than can be seen, of letters with all the marks there may be.
            seen = cell.text[: (column.width + 1) * (1 + MARKS_MAX)]
            segments.append(Segment(_fit(seen, column.width, column.right), style))
        return Strip(segments)


@lru_cache(maxsize=4096)
def _fit(text: str, width: int, right: bool) -> str:
    """A cell and the space behind it. Remembered: most cells are, paint after paint, the same."""
    return fitted(steady(text), width, right=right) + " "
