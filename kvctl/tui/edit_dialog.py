r"""A dialog in which a value is written over several lines.

What is saved untouched is the same text to the last byte: see `held_text`. What an editor cannot
hold as it is has codes in it, and the dialog says so.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.screen import ModalScreen
from textual.widgets import TextArea
from textual.widgets.text_area import Edit, EditResult

from kvctl.text.cells import cut_middle, steady
from kvctl.tui.glyphs import WARN
from kvctl.tui.held_text import WrittenFormError, meant, needs_written_form, written
from kvctl.tui.wrapped_text import WrappedText

KEY_WIDTH_MAX = 48
WAYS_OUT = "ctrl+s writes it   escape leaves everything as it is"
IN_CODES = r"characters an editor cannot hold are codes here, such as \r or \x1b; \\ is a backslash"


class SteadyTextArea(TextArea):
    """Takes in nothing that it cannot hold."""

    class Refused(Message):
        """What was typed or pasted was not taken in."""

    def __init__(self, text: str) -> None:
        self.in_codes = needs_written_form(text)
        """Whether what it shows is the written form."""
        super().__init__(written(text) if self.in_codes else text, id="edited", soft_wrap=True)

    @property
    def meant(self) -> str:
        """The text that is edited. Raises `WrittenFormError`."""
        return meant(self.text) if self.in_codes else self.text

    def edit(self, edit: Edit) -> EditResult:
        """Whatever is typed or pasted comes in here."""
        # Terminals paste line ends as carriage returns.
        text = edit.text.replace("\r\n", "\n").replace("\r", "\n")
        if needs_written_form(text):
            if not self.in_codes:
                self.post_message(self.Refused())
                return EditResult(self.selection.end, "")
            text = "\n".join(map(steady, text.split("\n")))
        return super().edit(replace(edit, text=text))


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

    def __init__(self, key: str, text: str) -> None:
        super().__init__()
        self._title = f"what {cut_middle(steady(key), KEY_WIDTH_MAX)} should be"
        self._area = SteadyTextArea(text)

    def compose(self) -> ComposeResult:
        """What it is about, the text, and the two ways out."""
        with Vertical():
            yield WrappedText(self._title, *([IN_CODES] if self._area.in_codes else []))
            yield self._area
            yield WrappedText(WAYS_OUT, id="ways-out")

    def on_mount(self) -> None:
        """Write at once."""
        self._area.focus()

    def on_steady_text_area_refused(self) -> None:
        """Say why nothing happened."""
        self._tell("that holds characters which cannot be edited here")

    def _tell(self, sentence: str) -> None:
        self.query_one("#ways-out", WrappedText).show(Text(sentence, WARN), WAYS_OUT)

    def action_write(self) -> None:
        """Give back what is there now, if it means something."""
        try:
            text = self._area.meant
        except WrittenFormError as error:
            self._tell(str(error))
        else:
            self.dismiss(text)

    def action_give_up(self) -> None:
        """Give back nothing."""
        self.dismiss(None)
