"""Lines of text that are wrapped where they are too long: in dialogs, and below a table."""

from __future__ import annotations

from rich.text import Text
from textual.widgets import Static

from kvctl.tui.steady_text import steady_text


class WrappedText(Static):
    """Shows lines; markup means nothing here, and no line breaks but where it is wrapped."""

    def __init__(self, *lines: str | Text, id: str | None = None) -> None:
        super().__init__(_joined(lines), id=id, markup=False)

    def show(self, *lines: str | Text, layout: bool = True) -> None:
        """Show these from now on; `layout` False: in no more lines than it has."""
        self.update(_joined(lines), layout=layout)


def _joined(lines: tuple[str | Text, ...]) -> Text:
    texts = [Text(line) if isinstance(line, str) else line for line in lines]
    return Text("\n", end="").join(steady_text(line) for line in texts)
