"""The ring: every partition in the colour of its primary owner, two pixels to a character cell.

Without colours each cell holds the sign of the owner instead. In the middle, and as a mark on the
ring, stands what is being looked at: the way of a key, or the last operation.
"""

from __future__ import annotations

from typing import NamedTuple

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip
from textual.widget import Widget

from kvctl.text.cells import cut, cut_middle, steady, width_of
from kvctl.tui.glyphs import MARK, Glyphs, color_of_node, sign_of_node
from kvctl.view.ring_raster import partition_at, ring_raster, ring_strip
from kvctl_node.ring.partition_map import PartitionMap

STRIP_HEIGHT_MAX = 3
"""A pane lower than this shows the circle unrolled."""
MARK_REACH = 0.006
"""How far around its position a mark shows, as a part of the circle."""


class RingPicture(NamedTuple):
    """What a ring pane shows; equal pictures are drawn once."""

    ring: PartitionMap | None = None
    places: tuple[tuple[str, int], ...] = ()
    """(node, its place in the configuration)."""
    glyphs: Glyphs = Glyphs()
    mark: float | None = None
    """A position on the circle, 0 to 1."""
    middle: tuple[tuple[str, str], ...] = ()
    """Lines in the middle of the ring, each with its style; beside a strip they stand in a row."""


class RingPane(Widget):
    """Draws a `RingPicture`."""

    DEFAULT_CSS = "RingPane { background: $background; }"

    def __init__(self, id: str | None = None) -> None:
        super().__init__(id=id)
        self.picture = RingPicture()
        self._owners: dict[str, int] = {}

    def show(self, picture: RingPicture) -> None:
        """Show this, unless it is what is shown."""
        if picture != self.picture:
            self.picture = picture
            self._owners = dict(picture.places)
            self.refresh()

    def render_line(self, y: int) -> Strip:
        """One line of the raster, or of the strip."""
        width, height = self.size
        if self.picture.ring is None:
            return Strip.blank(width, self.rich_style)
        if height < STRIP_HEIGHT_MAX:
            segments = self._strip_line(width) if y == 0 else self._words(width)
        else:
            segments = self._raster_line(width, height, y)
        strip = Strip(segments).adjust_cell_length(width, self.rich_style)
        return strip.apply_style(self.rich_style)

    # ------------------------------------------------------------ raster

    def _raster_line(self, width: int, height: int, y: int) -> list[Segment]:
        row = ring_raster(width, height)[y]
        segments = [self._cell(upper, lower) for upper, lower in row]
        text, style = self._middle_line(height, y)
        text = cut_middle(steady(text), width)
        cells = width_of(text)
        start = (width - cells) // 2
        segments[start : start + cells] = [Segment(text, Style.parse(style))]
        return segments

    def _middle_line(self, height: int, y: int) -> tuple[str, str]:
        middle = self.picture.middle
        line = y - (height - len(middle)) // 2
        return middle[line] if 0 <= line < len(middle) else ("", "")

    def _words(self, width: int) -> list[Segment]:
        """The lines of the middle, one after the other, as far as there is room."""
        segments, left = [], width
        for text, style in self.picture.middle:
            shown = cut(steady(text), left)
            segments.append(Segment(f"{shown}  ", Style.parse(style)))
            left -= width_of(shown) + 2
            if left <= 0:
                break
        return segments

    def _cell(self, upper: float | None, lower: float | None) -> Segment:
        if upper is None and lower is None:
            return Segment(" ")
        if not self.picture.glyphs.colors or self.picture.glyphs.ascii:
            return self._sign_cell(upper, lower)
        if upper is None:
            return Segment("▄", Style(color=self._color(lower)))
        if lower is None:
            return Segment("▀", Style(color=self._color(upper)))
        return Segment("▀", Style(color=self._color(upper), bgcolor=self._color(lower)))

    def _sign_cell(self, upper: float | None, lower: float | None) -> Segment:
        """One character: the owner's sign, reversed where the mark is."""
        position = lower if upper is None else upper
        assert position is not None
        style = Style(reverse=self._is_marked(position))
        if self.picture.glyphs.colors:
            style += Style(color=self._color(position))
        return Segment(sign_of_node(self._place(position)), style)

    # ------------------------------------------------------------ strip

    def _strip_line(self, width: int) -> list[Segment]:
        glyphs = self.picture.glyphs
        if not glyphs.colors or glyphs.ascii:
            return [self._sign_cell(position, position) for position in ring_strip(width)]
        # Two positions to a cell, as left and right half blocks.
        halves = ring_strip(2 * width)
        return [
            Segment("▌", Style(color=self._color(left), bgcolor=self._color(right)))
            for left, right in zip(halves[::2], halves[1::2], strict=True)
        ]

    # ------------------------------------------------------------ what lies where

    def _place(self, position: float) -> int:
        ring = self.picture.ring
        assert ring is not None
        return self._owners.get(ring.owners[partition_at(position, ring.partitions)][0], 0)

    def _is_marked(self, position: float) -> bool:
        mark = self.picture.mark
        if mark is None:
            return False
        distance = abs(position - mark)
        reach = max(MARK_REACH, 0.4 / max(1, 2 * self.size.height, self.size.width))
        return min(distance, 1 - distance) <= reach

    def _color(self, position: float | None) -> str:
        assert position is not None
        return MARK if self._is_marked(position) else color_of_node(self._place(position))
