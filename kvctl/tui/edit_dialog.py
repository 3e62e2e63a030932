"""A dialog in which a value is written over several lines."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static, TextArea


class EditDialog(ModalScreen[str | None]):
    """Gives back the text, or None if it was given up."""

    DEFAULT_CSS = """
    EditDialog { align: center middle; }
    EditDialog > Vertical {
        width: 90%; height: 80%; border: solid $primary; background: $surface; padding: 0 1;
    }
    EditDialog TextArea { height: 1fr; border: none; padding: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "cancel", priority=True),
        Binding("ctrl+s", "write", "write", priority=True),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._title = title
        self._text = text

    def compose(self) -> ComposeResult:
        """What it is about, the text, and the two ways out."""
        with Vertical():
            yield Static(self._title, markup=False)
            yield TextArea(self._text, id="edited", soft_wrap=True)
            yield Static("ctrl+s writes it   escape leaves everything as it is", markup=False)

    def on_mount(self) -> None:
        """Write at once."""
        self.query_one(TextArea).focus()

    def action_write(self) -> None:
        """Give back what is there now."""
        self.dismiss(self.query_one(TextArea).text)

    def action_give_up(self) -> None:
        """Give back nothing."""
        self.dismiss(None)
