"""A table of what comes in over time: it follows the newest row until one moves up to look back."""

from __future__ import annotations

from collections.abc import Sequence

from textual.events import Resize

from kvctl.tui.fixed_table import FixedTable, Row


class TailTable(FixedTable):
    """Newest row last. Moving the cursor up stops following, moving to the end goes on."""

    follows = True

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows, and the last of them if it follows.

        More rows may be the first that need a scroll bar, and without one nothing scrolls: it is
        there after the next refresh.
        """
        grows = len(rows) != len(self.rows)
        super().show(rows)
        if self.follows:
            self.follow()
            if grows:
                self.call_after_refresh(self._follow_on)

    def follow(self) -> None:
        """Go to the newest row and stay there."""
        self.follows = True
        if self.rows and (self.cursor_key != self.rows[-1].key or not self.is_vertical_scroll_end):
            self.move_to(self.rows[-1].key)

    def on_resize(self, event: Resize) -> None:
        """Rows that were shown before there was room for them, or less: the newest is in sight."""
        self.call_after_refresh(self._follow_on)

    def _follow_on(self) -> None:
        if self.follows:
            self.follow()

    def action_move(self, by: int) -> None:
        """Move the cursor; at the end it follows again."""
        super().action_move(by)
        self.follows = self.cursor_place == len(self.rows) - 1
