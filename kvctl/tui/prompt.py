"""The line at the bottom in which one types: a command, a filter, a key."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal
from textual.suggester import SuggestFromList
from textual.widget import Widget
from textual.widgets import Input, Static

from kvctl.text.cells import steady, width_of

SIGN = "?"


class SteadyInput(Input):
    """Shows a sign of one cell for each character that cannot be drawn; its value is as typed."""

    @property
    def _value(self) -> Text:
        """What is drawn."""
        return Text(_in_signs(self.value), no_wrap=True, overflow="ignore", end="")

    def _position_to_cell(self, position: int) -> int:
        """Where in it a character stands."""
        return width_of(_in_signs(self.value[:position]))


def _in_signs(text: str) -> str:
    """As many characters, each of certain width."""
    return "".join(one if steady(f"a{one}") == f"a{one}" else SIGN for one in text)


class PromptLine(Horizontal):
    """Asks for one line of text; hidden while it does not."""

    DEFAULT_CSS = """
    PromptLine { height: 1; display: none; background: $panel; }
    PromptLine Static { width: auto; }
    PromptLine Input { border: none; height: 1; padding: 0; background: $panel; }
    PromptLine Input:focus { border: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "give_up", "cancel", show=False)]

    def __init__(self) -> None:
        super().__init__(id="prompt")
        self._done: Callable[[str], None] = _ignore
        self._before: Widget | None = None

    def compose(self) -> ComposeResult:
        """What is asked, and where to type."""
        yield Static("", markup=False, id="prompt-label")
        yield SteadyInput(id="prompt-input", compact=True, select_on_focus=False)

    def ask(
        self,
        label: str,
        done: Callable[[str], None],
        *,
        value: str = "",
        suggestions: Sequence[str] = (),
    ) -> None:
        """Ask for a line; `done` is called with it, unless the question is given up."""
        self._done = done
        self._before = self.screen.focused
        self.query_one("#prompt-label", Static).update(label)
        field = self.query_one(Input)
        field.suggester = SuggestFromList(suggestions, case_sensitive=False)
        field.value = value
        field.cursor_position = len(value)
        self._show(True)
        self.screen.set_focus(field)

    def _show(self, asking: bool) -> None:
        """Appear or hide; whoever is around may make room (`-asking`)."""
        # Inline, not by a class: the keys that follow at once must not be taken for commands.
        self.display = asking
        if self.parent is not None:
            assert isinstance(self.parent, Widget)
            self.parent.set_class(asking, "-asking")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        """The line is complete."""
        event.stop()
        done = self._done
        self.action_give_up()
        done(event.value.strip())

    def action_give_up(self) -> None:
        """Hide, and give the keyboard back."""
        self._done = _ignore
        self._show(False)
        if self._before is not None and self._before.is_attached:
            self.screen.set_focus(self._before)


def _ignore(text: str) -> None:
    """Nobody asked."""
