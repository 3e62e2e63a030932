"""Keys with siblings: their versions side by side, and the ways to settle on one value."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from kvctl.text.command_lines import command_words
from kvctl.tui import replica_deeds
from kvctl.tui.deeds import brief_text
from kvctl.tui.edit_dialog import EditDialog
from kvctl.tui.fixed_table import SCROLLBAR_WIDTH, Cell, Column, FixedTable, Row
from kvctl.tui.glyphs import DIM, WARN
from kvctl.tui.node_rows import age_text
from kvctl.tui.page import Lookup, Page
from kvctl.tui.scene import Scene
from kvctl.tui.sibling_panes import brief, sibling_lines
from kvctl.tui.text_pane import TextPane
from kvctl.view.feed import FeedKind
from kvctl.view.observation import ConflictsSeen, KeyConflict
from kvctl.view.state import ClusterView

AGAIN_AFTER_MS = 15_000
"""Siblings are looked for so often though no node reports a change."""

COLUMNS = (
    Column("KEY", 24),
    Column("VERSIONS", 8, right=True),
    Column("DOTS", 44),
)


class ConflictsPage(Page):
    """The third page."""

    KEY = "3"
    NAME = "conflicts"
    SUMMARY = "keys with siblings, and settling them"
    KEYS = (
        ("left/right", "version"),
        ("t", "take it"),
        ("m", "merge lines"),
        ("e", "edit"),
        ("l", "look again"),
    )
    HELP = (
        "Concurrent writes are all kept, as siblings. Each version has a clock: an entry a node, a "
        "block for each of its writes that the version has seen. All versions share the common "
        "past; the diamond is the version's own write, which the others have not seen: it breaks "
        "their dominance, so none of them is newer. t keeps the chosen version, m joins the lines "
        "of all, each as often as the version has it that has it most often, e lets you write what "
        "it should be. What cannot be printed is shown by its code, such as \\x1b. The key is read "
        "again before it is written; if its versions are other ones by then, nothing is written."
    )
    DEFAULT_CSS = """
    ConflictsPage #conflict-keys { height: auto; max-height: 35%; margin-bottom: 1; }
    ConflictsPage #siblings { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left", "choose(-1)", "version before", show=False),
        Binding("right", "choose(1)", "next version", show=False),
        Binding("t", "take", "take this version", show=False),
        Binding("m", "merge", "merge the lines", show=False),
        Binding("e", "edit", "edit", show=False),
        Binding("l", "look", "look again", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._chosen = 0
        self._chosen_key = ""
        self._keys: dict[str, KeyConflict] = {}
        self._counts: tuple[int, ...] | None = None
        """What the nodes counted when siblings were looked for; None: look at once."""
        self._looked_ms = 0

    def compose(self) -> ComposeResult:
        """The keys, then the versions of one of them."""
        yield FixedTable(COLUMNS, empty="looking for keys with siblings ...", id="conflict-keys")
        yield TextPane(id="siblings")

    # ------------------------------------------------------------ looking

    def lookup(self, view: ClusterView) -> Lookup | None:
        """Scan when the nodes count other conflicts than at the last scan, and now and then."""
        counts = tuple(node.figures.conflicts for node in view.nodes.values())
        if counts == self._counts and view.at_ms < self._looked_ms + AGAIN_AFTER_MS:
            return None
        self._counts, self._looked_ms = counts, view.at_ms
        return lambda reader: reader.conflicts()

    def action_look(self) -> None:
        """Scan at the next occasion."""
        self._counts = None
        self.post_message(self.Looks())

    @property
    def conflict(self) -> KeyConflict | None:
        """The key under the cursor."""
        return self._keys.get(self.query_one("#conflict-keys", FixedTable).cursor_key)

    @property
    def selected_node(self) -> str:
        """The node whose write the chosen version is."""
        conflict = self.conflict
        return "" if conflict is None else conflict.versions[self._place(conflict)].dot[0]

    def paint(self, scene: Scene) -> None:
        """Show what is true now."""
        table = self.query_one("#conflict-keys", FixedTable)
        seen = scene.view.siblings
        self._keys = {} if seen is None else {one.key: one for one in seen.keys}
        table.set_columns(_columns(self.app.size.width))
        table.set_empty(_why_empty(scene))
        table.show([_row(scene, one) for one in self._keys.values() if scene.matches(one.key)])
        self.query_one("#siblings", TextPane).show_lines(self._sibling_lines(scene, seen))

    def _sibling_lines(self, scene: Scene, seen: ConflictsSeen | None) -> list[Text]:
        conflict = self.conflict
        if conflict is None or seen is None:
            return []
        pane = self.query_one("#siblings").size
        lines = sibling_lines(
            conflict,
            self._place(conflict),
            max(20, self.app.size.width),
            scene.glyphs,
            max(3, pane.height - 1),
        )
        age = age_text(max(0, scene.now_ms - seen.at_ms))
        text = Text(end="")
        text.append(f"as of {age} ago", DIM)
        if seen.has_more:
            text.append(f"; only the first {len(seen.keys)} keys are listed", WARN)
        return [*lines, text]

    def _place(self, conflict: KeyConflict) -> int:
        """The place of the chosen version; another key begins with its first."""
        if conflict.key != self._chosen_key:
            self._chosen_key, self._chosen = conflict.key, 0
        return min(self._chosen, len(conflict.versions) - 1)

    def action_choose(self, by: int) -> None:
        """Choose the version beside."""
        conflict = self.conflict
        if conflict is not None:
            last = len(conflict.versions) - 1
            self._chosen = min(max(0, self._place(conflict) + by), last)
            self.revision += 1

    def on_fixed_table_cursor_moved(self) -> None:
        """Another key."""
        self.revision += 1

    # ------------------------------------------------------------ settling

    def _to_settle(self) -> KeyConflict | None:
        """The key a decision is made about; it is looked at again afterwards."""
        conflict = self.conflict
        if conflict is None:
            self.post_message(self.Says("no key is selected."))
            return None
        self._counts = None
        return conflict

    def action_take(self) -> None:
        """Keep the chosen version."""
        conflict = self._to_settle()
        if conflict is not None:
            dot = conflict.versions[self._place(conflict)].dot
            self.post_message(self.Wants(replica_deeds.take(conflict, dot)))

    def action_merge(self) -> None:
        """Join the lines of all versions."""
        conflict = self._to_settle()
        if conflict is None:
            return
        if any(version.enc != "utf-8" for version in conflict.versions):
            self.post_message(self.Says("a version is not text, so it has no lines to merge."))
        else:
            self.post_message(self.Wants(replica_deeds.merge(conflict)))

    def action_edit(self) -> None:
        """Write the value by hand, beginning with the joined lines."""
        conflict = self._to_settle()
        if conflict is None:
            return
        if not all(version.is_whole_text for version in conflict.versions):
            words = command_words("resolve", [conflict.key], ["--merge", "CMD"])
            sentence = "a version is too long, or no text, to be edited."
            self.post_message(self.Says(sentence, "can.", words))
            return

        def on_text(edited: str | None) -> None:
            if edited is None:
                self.post_message(self.Says(f"{brief_text(conflict.key)} was left as it is."))
            else:
                self.post_message(self.Wants(replica_deeds.settle(conflict, edited)))

        text = replica_deeds.joined_text(conflict)
        self.app.push_screen(EditDialog(conflict.key, text), on_text)


def _columns(width: int) -> tuple[Column, ...]:
    key, versions, dots = COLUMNS
    left = width - key.width - versions.width - 3 - SCROLLBAR_WIDTH
    return (key, versions, dots._replace(width=max(20, left)))


def _row(scene: Scene, conflict: KeyConflict) -> Row:
    dots = "  ".join(
        f"{version.dot[0]}:{version.dot[1]}={brief(version, scene.glyphs)}"
        for version in conflict.versions
    )
    return Row(
        conflict.key,
        (Cell(conflict.key, "bold"), Cell(str(len(conflict.versions)), WARN), Cell(dots)),
    )


def _why_empty(scene: Scene) -> str:
    if scene.view.siblings is not None:
        return "no key has siblings" if not scene.filter else "no key matches"
    if scene.kind is FeedKind.REPLAY:
        return "nobody looked for siblings while this was recorded"
    return "looking for keys with siblings ..."
