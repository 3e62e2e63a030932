"""A table of what comes in over time: it follows the newest row until one moves up to look back."""

from __future__ import annotations

from collections.abc import Sequence

from kvctl.tui.fixed_table import FixedTable, Row


class TailTable(FixedTable):
    """Newest row last. Moving the cursor up stops following, moving to the end goes on."""

    follows = True

    def show(self, rows: Sequence[Row]) -> None:
        """Show these rows, and the last of them if it follows."""
        super().show(rows)
        if self.follows:
            self.follow()

    def follow(self) -> None:
        """Go to the newest row and stay there."""
        self.follows = True
        if self.rows and (self.cursor_key != self.rows[-1].key or not self.is_vertical_scroll_end):
            self.move_to(self.rows[-1].key)

    def action_move(self, by: int) -> None:
        """Move the cursor; at the end it follows again."""
        super().action_move(by)
        self.follows = self.cursor_place == len(self.rows) - 1
