"""What was said last: a sentence, the command that does the same, and what else can be done.

    n2 was killed.  [kvctl kill n2]  u undoes it

A command is there whole or not at all, for whoever copies half of one runs another one. So what has
no room in one line gets more of them, and a command that is longer than a line is left out.
"""

from __future__ import annotations

from rich.text import Text
from textual.events import Resize

from kvctl.text.cells import cut, steady, width_of, wrapped
from kvctl.tui.glyphs import DIM
from kvctl.tui.wrapped_text import WrappedText

HINT_LINES_MAX = 3
COMMAND_IS_LONG = "[its command is longer than a line]"
_GAP = "  "


class NoticeLine(WrappedText):
    """The line above the keys."""

    DEFAULT_CSS = "NoticeLine { height: 1; }"

    def __init__(self) -> None:
        super().__init__(id="notice")
        self._said = ("", "", "", "")

    def say(self, sentence: str, style: str = "", hint: str = "", command: str = "") -> None:
        """Say this from now on."""
        self._said = (sentence, style, hint, command)
        self._lay_out()

    def on_resize(self, event: Resize) -> None:
        """Another width may need other lines."""
        self._lay_out()

    def _lay_out(self) -> None:
        lines = notice_lines(*self._said, width=max(20, self.app.size.width))
        if self.styles.height is None or self.styles.height.value != len(lines):
            self.styles.height = len(lines)
        self.show(*lines, layout=False)


def notice_lines(sentence: str, style: str, hint: str, command: str, *, width: int) -> list[Text]:
    """At least one line, of at most `width` cells each."""
    sentence, hint = steady(sentence), steady(hint)
    bracketed = f"[{command}]" if command else ""
    if width_of(bracketed) > width:
        bracketed = COMMAND_IS_LONG
    parts = [part for part in (bracketed, hint) if part]
    text = Text(cut(sentence, width), style)
    if width_of(_GAP.join([sentence, *parts])) <= width:
        for part in parts:
            text.append(_GAP + part, DIM)
        return [text]
    below = [_GAP.join(parts)]
    if width_of(below[0]) > width:
        below = [*([bracketed] if bracketed else []), *wrapped(hint, width)[:HINT_LINES_MAX]]
    return [text, *(Text(line, DIM) for line in below if line)]
