"""Dialogs: a question before something that cannot go unasked, and help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static


class ConfirmDialog(ModalScreen[bool]):
    """Shows what would happen and asks. Cancel has the focus; escape cancels."""

    DEFAULT_CSS = """
    ConfirmDialog { align: center middle; }
    ConfirmDialog > Vertical {
        width: 72; max-width: 96%; height: auto; max-height: 90%;
        border: solid $warning; background: $surface; padding: 0 1;
    }
    ConfirmDialog Horizontal { height: auto; align-horizontal: right; margin-top: 1; }
    ConfirmDialog Button { margin-left: 2; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,n", "answer(False)", "cancel"),
        Binding("left,right", "app.focus_next", "other button", show=False),
    ]

    def __init__(self, question: str, lines: Sequence[str], *, yes: str) -> None:
        super().__init__()
        self._question = question
        self._lines = lines
        self._yes = yes

    def compose(self) -> ComposeResult:
        """Question, consequences, buttons."""
        with Vertical():
            yield Static(self._question, markup=False, id="question")
            yield Static("\n".join(self._lines), markup=False, id="consequences")
            with Horizontal():
                yield Button("Cancel", id="cancel")
                yield Button(self._yes, id="yes", variant="warning")

    def on_mount(self) -> None:
        """Nothing happens by pressing Enter at once."""
        self.query_one("#cancel").focus()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        """Answer."""
        self.dismiss(event.button.id == "yes")

    def action_answer(self, answer: bool) -> None:
        """Answer by key."""
        self.dismiss(answer)


class HelpDialog(ModalScreen[None]):
    """Keys and how to read the page that is shown."""

    DEFAULT_CSS = """
    HelpDialog { align: center middle; }
    HelpDialog > VerticalScroll {
        width: 76; max-width: 96%; height: auto; max-height: 90%;
        border: solid $primary; background: $surface; padding: 0 1;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q,enter", "close", "close")
    ]

    def __init__(self, text: str) -> None:
        super().__init__()
        self._text = text

    def compose(self) -> ComposeResult:
        """The text, to be scrolled if need be."""
        with VerticalScroll():
            yield Static(self._text, markup=False, id="help")

    def action_close(self) -> None:
        """Back to the page."""
        self.dismiss(None)
