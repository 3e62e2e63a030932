"""A page: one of the screens under the keys 1 to 7.

To add one: subclass `Page`, compose widgets, paint them from a `Scene`, and list the class in
`kvctl.tui.pages`. `paint` is called a few times a second while the page is shown, and only if
something changed (`revision` says so for what is not in the view); it hands rows and pictures to
widgets that redraw no more than what differs. Everything that could be computed without a screen
belongs into `kvctl.view`.

What is to be done to the cluster, a page asks the application for (`Wants`); what only this page
shows, it looks up while it is shown (`lookup`, `take`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.containers import Container
from textual.message import Message

from kvctl.tui.cluster_reader import ClusterReader
from kvctl.tui.deeds import Deed
from kvctl.tui.scene import Scene
from kvctl.view.state import ClusterView

Lookup = Callable[[ClusterReader], object]
"""A question to the cluster that only one page has; asked in a thread."""


class Page(Container):
    """Base of all pages."""

    DEFAULT_CSS = "Page { height: 1fr; }"

    KEY: ClassVar[str] = ""
    """The digit that shows it."""
    NAME: ClassVar[str] = ""
    """One lower-case word: its command and its title; its id is `page-<name>`."""
    SUMMARY: ClassVar[str] = ""
    """What it shows, in a few words."""
    KEYS: ClassVar[tuple[tuple[str, str], ...]] = ()
    """(key, what it does) of this page, for the footer and help."""
    HELP: ClassVar[str] = ""
    """How to read it, a few sentences."""

    class Wants(Message):
        """Something is to be done to the cluster."""

        def __init__(self, deed: Deed) -> None:
            super().__init__()
            self.deed = deed

    class Looks(Message):
        """`lookup` wants to be asked now."""

    class Says(Message):
        """A sentence for the line above the keys, a hint, and the words of a command."""

        def __init__(self, sentence: str, hint: str = "", command: Sequence[str] = ()) -> None:
            super().__init__()
            self.sentence = sentence
            self.hint = hint
            self.command = command

    def __init__(self) -> None:
        super().__init__(id=f"page-{self.NAME}")
        self.revision = 0
        """Raised by a page that wants to be painted though the view did not change."""

    def lookup(self, view: ClusterView) -> Lookup | None:
        """What to look up now, None for nothing. Asked about once a second while it is shown."""
        return None

    def take(self, answer: object) -> None:
        """What the last `lookup` brought; an observation has gone into the view already."""

    def paint(self, scene: Scene) -> None:
        """Show what is true now."""
        raise NotImplementedError

    @property
    def selected_node(self) -> str:
        """The node that k, p and r act on; "" if none is selected."""
        return ""

    def focus_first(self) -> None:
        """Give the keyboard to what the page is about."""
        for widget in self.query("FixedTable"):
            if widget.display:
                widget.focus()
                return
