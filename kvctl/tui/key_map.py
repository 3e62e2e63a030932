"""The keys: which there are, the line that names them, and the help that explains them.

A page has keys of its own (`Page.KEYS`); those here work on every page. The application binds them
(`BINDINGS`) to its actions; the names people get to read stand in `GLOBAL_KEYS`.
"""

from __future__ import annotations

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import Static

from kvctl.tui.command_line import COMMANDS
from kvctl.tui.glyphs import DIM, Glyphs
from kvctl.tui.page import Page
from kvctl.tui.pages import PAGES

GLOBAL_KEYS = (
    # Help stands first: it explains whatever has no room in the line.
    ("?", "help"),
    ("k", "kill"),
    ("p", "pause/resume"),
    ("r", "restart/start"),
    ("x", "partition"),
    ("H", "heal all"),
    ("u", "undo"),
    (":", "command"),
    ("/", "filter"),
    ("space", "freeze"),
    ("s", "screenshot"),
    ("q", "quit"),
)


BINDINGS: list[BindingType] = [
    *(Binding(page.KEY, f"show_page('{page.NAME}')", page.NAME, show=False) for page in PAGES),
    Binding("question_mark", "help", "help", show=False),
    Binding("colon", "command", "command", show=False, priority=True),
    Binding("slash", "filter", "filter", show=False, priority=True),
    Binding("space", "freeze", "freeze", show=False),
    Binding("q", "quit", "quit", show=False),
    Binding("k", "kill", "kill", show=False),
    Binding("p", "pause", "pause or resume", show=False),
    Binding("r", "restart", "restart or start", show=False),
    Binding("u", "undo", "undo", show=False),
    Binding("w", "walk", "walk a key", show=False, priority=True),
    Binding("c", "quorum", "change R, W, mode", show=False, priority=True),
    Binding("x", "partition", "partition the network", show=False),
    Binding("H", "heal", "heal all", show=False),
    Binding("s", "export_screen", "screenshot", show=False),
    Binding("left,comma", "seek(-1)", "back", show=False),
    Binding("right,full_stop", "seek(1)", "forward", show=False),
    Binding("less_than_sign", "speed(-1)", "slower", show=False),
    Binding("greater_than_sign", "speed(1)", "faster", show=False),
]


class KeysLine(Static):
    """The pages and the keys that work now, as far as there is room."""

    DEFAULT_CSS = "KeysLine { height: 1; background: $panel; }"

    def __init__(self) -> None:
        super().__init__("", id="keys", markup=False)

    def show(self, shown: Page, glyphs: Glyphs) -> None:
        """Those of this page."""
        self.update(keys_text(shown, glyphs, self.app.size.width), layout=False)


def keys_text(shown: Page, glyphs: Glyphs, width: int) -> Text:
    """One line; a key that has no room with its name is left out, and all behind it."""
    line = Text(no_wrap=True, overflow="crop")
    for page in PAGES:
        is_shown = page.KEY == shown.KEY
        # A narrow screen has room for the name of the page that is shown only.
        named = is_shown or width >= 100
        line.append(f"{page.KEY} {page.NAME}" if named else page.KEY, "reverse" * is_shown)
        line.append(" ")
    line.append(glyphs.separator, DIM)
    first, *rest = GLOBAL_KEYS
    for key, what in (first, *shown.KEYS, *rest):
        if line.cell_len + len(key) + len(what) + 2 > width:
            break
        line.append(f" {key}", "bold")
        line.append(f" {what}", DIM)
    return line


def help_text(page: Page) -> str:
    """How to read a page, and every key and command."""
    lines = [f"{page.NAME}: {page.SUMMARY}", "", page.HELP, "", "Keys"]
    lines += [f"  {key:<8} {what}" for key, what in (*page.KEYS, *GLOBAL_KEYS)]
    lines += [f"  {page_.KEY:<8} {page_.NAME}: {page_.SUMMARY}" for page_ in PAGES]
    lines += [
        "  ctrl+p   everything, by name",
        "  , . < >  back, forth, slower, faster in a replay",
        "",
    ]
    lines += ["Commands, after a colon, as on the command line"]
    lines += [f"  {command.usage:<34} {command.summary}" for command in COMMANDS.values()]
    return "\n".join(lines)
