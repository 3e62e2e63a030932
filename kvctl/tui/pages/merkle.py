"""Merkle trees: how far the comparison of each pair has come, and a tree to descend by hand."""

from __future__ import annotations

from collections import Counter
from itertools import combinations, permutations
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from kvctl.tui import replica_deeds
from kvctl.tui.fixed_table import SCROLLBAR_WIDTH, Cell, Column, FixedTable, Row
from kvctl.tui.glyphs import BAD, DIM, OK, PLAIN, WARN
from kvctl.tui.node_rows import age_text, bytes_text, count_text
from kvctl.tui.page import Lookup, Page
from kvctl.tui.scene import Scene
from kvctl.tui.text_pane import TextPane
from kvctl.view.feed import FeedKind
from kvctl.view.merkle_descent import Child, KeySeen, Level, LevelSeen, Pair, Place, child_name
from kvctl.view.state import ClusterView, MerklePairView
from kvctl_node.ring.partition_map import PartitionMap

PAIR_COLUMNS = (
    Column("PAIR", 9),
    Column("STATE", 11),
    Column("LEVEL", 10),
    Column("SHARED", 6, right=True),
    Column("LEAVES", 6, right=True),
    Column("KEYS", 6, right=True),
    Column("REPAIRED", 8, right=True),
    Column("BYTES", 6, right=True),
    Column("SAVED", 6, right=True),
)
LAST_COLUMN = Column("LAST", 6, right=True)
_STYLES = {
    "equal": OK,
    "repaired": OK,
    "different": WARN,
    "comparing": WARN,
    "repairing": WARN,
    "interrupted": BAD,
}
_DIGITS_SHOWN = 10
AGAIN_AFTER_MS = 5_000
"""The tree is looked at so often though nothing suggests that it has changed."""
_COARSE_MS = 10_000


class MerklePage(Page):
    """The fifth page."""

    KEY = "5"
    NAME = "merkle"
    SUMMARY = "comparisons of replicas, and their trees"
    KEYS = (
        ("enter", "descend"),
        ("backspace", "ascend"),
        ("m", "compare"),
        ("R", "repair"),
    )
    HELP = (
        "Above are the pairs of nodes: the state of the comparison that was started last, how many "
        "partitions they share, leaves and keys that differ, keys repaired, what it cost and what "
        "it saved against copying all of them. Below is the tree of the pair under the cursor, as "
        "both nodes have it now. Enter goes down: root, groups of 32 partitions, partitions, "
        "leaves, keys with the clocks both nodes have; backspace goes up, tab changes panes. Equal "
        "subtrees are grey: all below them is equal, too, and nobody needs to look. m compares the "
        "pair and changes nothing, R repairs its first node with all others."
    )
    DEFAULT_CSS = """
    MerklePage #pairs { height: auto; max-height: 40%; margin-bottom: 1; }
    MerklePage #tree-path { height: 2; }
    MerklePage #tree { height: 1fr; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "descend", "descend", show=False),
        Binding("backspace", "ascend", "ascend", show=False),
        Binding("m", "compare", "compare", show=False),
        Binding("R", "repair", "repair", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._place: Place | None = None
        self._ring: PartitionMap | None = None
        self._shared: dict[Pair, int] = {}
        """How many partitions of the ring both nodes of a pair own."""
        self._seen: LevelSeen | None = None
        self._looked: tuple[object, ...] = ()
        """Where was looked last, and what suggested then how the tree is."""
        self._looked_ms = 0
        self._wanted_row = ""
        """The row to stand on once it is there: where one came up from."""

    def compose(self) -> ComposeResult:
        """The pairs, the way down the tree, and the level one is at."""
        yield FixedTable(PAIR_COLUMNS, empty="fewer than two nodes", id="pairs")
        yield TextPane(id="tree-path")
        yield FixedTable((), empty="", id="tree")

    @property
    def pair(self) -> Pair | None:
        """The pair under the cursor."""
        one, _, other = self.query_one("#pairs", FixedTable).cursor_key.partition(" ")
        return (one, other) if other else None

    @property
    def selected_node(self) -> str:
        """The first node of the pair."""
        return "" if self.pair is None else self.pair[0]

    # ------------------------------------------------------------ the tree

    @property
    def place(self) -> Place | None:
        """Where in the tree one is; another pair begins at its root."""
        if self.pair is None:
            return None
        if self._place is None or self._place.pair != self.pair:
            self._go(Place(self.pair))
        return self._place

    def _go(self, place: Place) -> None:
        self._place = place
        self.revision += 1
        self.post_message(self.Looks())

    def lookup(self, view: ClusterView) -> Lookup | None:
        """What both nodes say of the place one is at; at once when it may have changed."""
        place = self.place
        if place is None:
            return None
        keys = [view.nodes[name].figures.keys for name in place.pair if name in view.nodes]
        suggests = (place, *keys, _latest(view, place.pair))
        if suggests == self._looked and view.at_ms < self._looked_ms + AGAIN_AFTER_MS:
            return None
        self._looked, self._looked_ms = suggests, view.at_ms
        return lambda reader: reader.merkle_level(place)

    def take(self, answer: object) -> None:
        """Show it, if one is still there."""
        assert isinstance(answer, LevelSeen)
        if answer.place == self._place and answer != self._seen:
            self._seen = answer
            self.revision += 1

    def action_descend(self) -> None:
        """Into the tree, or into the child under the cursor."""
        tree = self.query_one("#tree", FixedTable)
        place = self.place
        if place is None:
            return
        if not tree.has_focus:
            tree.focus()
            return
        below = place.entered(int(tree.cursor_key)) if tree.cursor_key.isdecimal() else None
        if below is not None:
            self._wanted_row = ""
            self._go(below)

    def action_ascend(self) -> None:
        """One level up, or back to the pairs."""
        place = self.place
        above = None if place is None else place.left()
        if place is None or above is None:
            self.query_one("#pairs").focus()
            return
        self._wanted_row = str(place.parent)
        self._go(above)

    def on_fixed_table_cursor_moved(self) -> None:
        """Another pair."""
        self.revision += 1

    # ------------------------------------------------------------ deeds

    def action_compare(self) -> None:
        """Compare the pair; changes nothing."""
        if self.pair is not None:
            self.post_message(self.Wants(replica_deeds.compare(*self.pair)))

    def action_repair(self) -> None:
        """Repair the first node of the pair with all others."""
        if self.pair is not None:
            self.post_message(self.Wants(replica_deeds.repair([self.pair[0]])))

    # ------------------------------------------------------------ showing

    def paint(self, scene: Scene) -> None:
        """Show what is true now."""
        pairs = self.query_one("#pairs", FixedTable)
        is_wide = self.app.size.width >= 100
        if scene.view.ring is not self._ring:
            self._ring = scene.view.ring
            self._shared = {} if self._ring is None else _shared_partitions(self._ring)
        pairs.set_columns((*PAIR_COLUMNS, LAST_COLUMN) if is_wide else PAIR_COLUMNS)
        pairs.show(
            [
                _pair_row(scene, pair, self._shared.get(pair, 0), with_last=is_wide)
                for pair in combinations(scene.view.nodes, 2)
                if scene.matches(*pair)
            ]
        )
        seen = self._seen if self._seen is not None and self._seen.place == self.place else None
        self.query_one("#tree-path", TextPane).show_lines(self._path_lines(scene, seen))
        tree = self.query_one("#tree", FixedTable)
        tree.set_columns(_tree_columns(self.place, self.app.size.width))
        tree.show([] if seen is None else _tree_rows(seen))
        if seen is not None and self._wanted_row in {row.key for row in tree.rows}:
            tree.move_to(self._wanted_row)
            self._wanted_row = ""

    def _path_lines(self, scene: Scene, seen: LevelSeen | None) -> list[Text]:
        """Where one is, and a sign for each child: which of them differ."""
        place = self.place
        if place is None:
            return []
        arrow = f" {scene.glyphs.arrow} "
        text, below = Text(end=""), Text(end="")
        text.append(f"{place.pair[0]} and {place.pair[1]}: ", DIM)
        text.append(arrow.join(place.path), "bold")
        if seen is None:
            is_replay = scene.kind is FeedKind.REPLAY
            below.append("a recording has no trees" if is_replay else "asking both ...", DIM)
        elif seen.problem:
            below.append(seen.problem, WARN)
        else:
            listed = len(seen.children) + len(seen.keys)
            style = WARN if seen.differing else OK
            text.append(f"  {seen.differing} of {listed} differ", style)
            full, empty = scene.glyphs.bar
            for child in seen.children[: self.app.size.width]:
                below.append(empty if child.is_equal else full, DIM if child.is_equal else BAD)
        return [text, below]


def _latest(view: ClusterView, pair: Pair) -> MerklePairView | None:
    """The comparison of a pair, whichever of the two asked: the one still running, or the later."""
    known = [view.merkle[key] for key in (pair, pair[::-1]) if key in view.merkle]
    return max(known, key=lambda one: (not one.finished, one.last_success_ms or 0), default=None)


def _pair_row(scene: Scene, pair: Pair, shared: int, *, with_last: bool) -> Row:
    key, name = " ".join(pair), Cell("-".join(pair), "bold")
    seen = _latest(scene.view, pair)
    if seen is None:
        blank = (Cell("-", DIM),) * (6 if with_last else 5)
        cells = (name, Cell("not yet", DIM), Cell("", DIM), Cell(str(shared), DIM), *blank)
        return Row(key, cells)
    differs = WARN if seen.keys_differing > seen.keys_repaired else PLAIN
    last = "-" if seen.last_success_ms is None else _coarse_age(seen.last_success_ms, scene.now_ms)
    cells = (
        name,
        Cell(seen.state, _STYLES.get(seen.state, PLAIN)),
        Cell(seen.level, DIM),
        Cell(str(seen.partitions)),
        Cell(count_text(seen.leaves_differing), differs),
        Cell(count_text(seen.keys_differing), differs),
        Cell(count_text(seen.keys_repaired), OK if seen.keys_repaired else PLAIN),
        Cell(bytes_text(seen.bytes)),
        Cell(bytes_text(seen.bytes_saved), OK),
    )
    return Row(key, (*cells, Cell(last, DIM)) if with_last else cells)


def _shared_partitions(ring: PartitionMap) -> dict[Pair, int]:
    """How many partitions both nodes of a pair own; a pair stands in either order."""
    return dict(Counter(pair for owners in ring.owners for pair in permutations(owners, 2)))


def _coarse_age(since_ms: int, now_ms: int) -> str:
    """An age within ten seconds, which changes when ten seconds of the clock are full.

    Nobody needs it better; and ten pairs whose ages change each at its own time would have the
    screen drawn anew every second.
    """
    if now_ms - since_ms < _COARSE_MS:
        return f"<{_COARSE_MS // 1000}s"
    age_ms = now_ms - now_ms % _COARSE_MS - since_ms
    return age_text(-(-age_ms // _COARSE_MS) * _COARSE_MS)


def _tree_columns(place: Place | None, width: int) -> tuple[Column, ...]:
    one, other = ("", "") if place is None else place.pair
    if place is not None and place.level is Level.KEYS:
        clock = max(16, (width - 24 - 8 - 4 - SCROLLBAR_WIDTH) // 2)
        return (
            Column("KEY", 24),
            Column("STATE", 8),
            Column(f"CLOCK AT {one}", clock),
            Column(f"CLOCK AT {other}", clock),
        )
    return (
        Column("SUBTREE", 20),
        Column("STATE", 8),
        Column(f"HASH AT {one}", 16),
        Column(f"HASH AT {other}", 16),
    )


def _tree_rows(seen: LevelSeen) -> list[Row]:
    if seen.place.level is Level.KEYS:
        return [_key_row(one) for one in seen.keys]
    return [_child_row(seen.place.level, child) for child in seen.children]


def _child_row(level: Level, child: Child) -> Row:
    first, second = (digits[:_DIGITS_SHOWN] for digits in child.hashes)
    name = child_name(level, child.number)
    if child.is_equal:
        cells = (Cell(name, DIM), Cell("equal", DIM), Cell(first, DIM), Cell(second, DIM))
    else:
        cells = (Cell(name, "bold"), Cell("differs", WARN), Cell(first), Cell(second, BAD))
    return Row(str(child.number), cells)


def _key_row(seen: KeySeen) -> Row:
    first, second = ("missing" if clock is None else clock for clock in seen.clocks)
    if seen.is_equal:
        cells = (Cell(seen.key, DIM), Cell("equal", DIM), Cell(first, DIM), Cell(second, DIM))
    else:
        styles = [BAD if clock is None else PLAIN for clock in seen.clocks]
        cells = (
            Cell(seen.key, "bold"),
            Cell("differs", WARN),
            Cell(first, styles[0]),
            Cell(second, styles[1]),
        )
    return Row(f"key {seen.key}", cells)
