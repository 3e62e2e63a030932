"""Lines of text of which only those that changed are drawn again.

A `Static` draws all of itself and lays the whole screen out anew whenever its content changes. For
a pane of fixed size, of whose lines two or three differ every second, that is most of what an idle
dashboard would cost. A line that is too long is cut by cells, which leaves a mark.
"""

from __future__ import annotations

from collections.abc import Iterable

from rich.style import Style
from rich.text import Text
from textual.geometry import Region
from textual.strip import Strip
from textual.widget import Widget

from kvctl.tui.glyphs import DIM
from kvctl.tui.steady_text import steady_text

CUT_MARK = "~"


class TextPane(Widget):
    """Shows a text, line by line."""

    DEFAULT_CSS = "TextPane { height: 1; background: $background; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.lines: tuple[Text, ...] = ()
        self.lines_painted = 0
        """Lines drawn so far; what the budget of a paint is measured by."""
        self._base_style: Style | None = None

    @property
    def plain(self) -> str:
        """What it shows, without styles."""
        return "\n".join(line.plain for line in self.lines)

    def show_lines(self, lines: Iterable[Text]) -> None:
        """Show these from now on. A line that is the very same as before costs nothing."""
        before, self.lines = self.lines, tuple(lines)
        for y in range(max(len(before), len(self.lines))):
            if before[y : y + 1] != self.lines[y : y + 1]:
                self.refresh(Region(0, y, self.size.width, 1))

    def notify_style_update(self) -> None:
        """Another theme."""
        self._base_style = None
        super().notify_style_update()

    def render_line(self, y: int) -> Strip:
        """One line, cut off or filled up to the width."""
        self.lines_painted += 1
        width = self.size.width
        if self._base_style is None:
            self._base_style = self.rich_style
        base = self._base_style
        if y >= len(self.lines):
            return Strip.blank(width, base)
        line = steady_text(self.lines[y])
        if line.cell_len > width:
            line = line.copy()
            line.truncate(width - len(CUT_MARK))
            line.append(CUT_MARK, DIM)
        segments = line.render(self.app.console)
        return Strip(segments).adjust_cell_length(width, base).apply_style(base)
