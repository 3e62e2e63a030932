"""Dialogs: a question before something that cannot go unasked, and help."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen
from textual.widgets import Button, Static

from kvctl.text.command_lines import command_rows
from kvctl.tui.wrapped_text import WrappedText

COMMAND_WIDTH = 68
"""What a dialog has room for in a line, even on a screen of 72 columns."""


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

    def __init__(
        self, command: Sequence[str], lines: Sequence[str], *, yes: str, cluster: str = ""
    ) -> None:
        """`command` are the words after `kvctl` of what would be done."""
        super().__init__()
        self._command = command_rows(command, cluster, width=COMMAND_WIDTH)
        self._lines = lines
        self._yes = yes

    def compose(self) -> ComposeResult:
        """What would be done, its consequences, buttons."""
        with Vertical():
            yield WrappedText(*self._command, id="question")
            yield WrappedText(*self._lines, id="consequences")
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
