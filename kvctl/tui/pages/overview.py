"""The overview: the ring, the nodes, what they think of each other, and the last operations."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container

from kvctl.tui.fixed_table import FixedTable
from kvctl.tui.glyphs import BAD, DIM, WARN, color_of_node
from kvctl.tui.node_detail import NodeDetail
from kvctl.tui.node_rows import NODE_COLUMNS, gossip_columns, gossip_rows, node_rows
from kvctl.tui.operation_rows import (
    clipped,
    operation_columns,
    operation_lines,
    operation_rows,
)
from kvctl.tui.page import Page
from kvctl.tui.ring_pane import RingPane, RingPicture
from kvctl.tui.scene import Scene
from kvctl.view.key_walk import KeyWalk, walk_key


class OverviewPage(Page):
    """The first page."""

    KEY = "1"
    NAME = "overview"
    SUMMARY = "ring, nodes, beliefs, last operations"
    KEYS = (("w", "walk"), ("c", "quorum"))
    HELP = (
        "The ring shows every partition in the colour of its primary owner, clockwise from the "
        "top. SHARE is the part of all replicas a node owns, PHI how surprising its silence is, "
        "HEARTBEAT how old its newest heartbeat was at the freshest of its peers. SEES is the "
        "belief matrix: what the node of the row thinks of the node of the column, and how old "
        "that knowledge is. Below are the last operations, of all clients: the coordinator, who "
        "was asked, ticked if it had answered when the quorum was there, crossed if it was away "
        "without a stand-in; of very many operations a sample. w asks for a key and shows its "
        "place on the ring, its owners and who would stand in for them; c changes R, W and the "
        "mode, live."
    )
    SCOPED_CSS = False
    DEFAULT_CSS = """
    OverviewPage #ring { height: 2; }
    OverviewPage #nodes, OverviewPage #gossip { height: auto; margin-bottom: 1; }
    OverviewPage #operations { height: 1fr; min-height: 2; }
    OverviewPage #overview-detail { display: none; }
    OverviewPage #overview-top, OverviewPage #overview-tables { height: auto; }
    .-wide OverviewPage #overview-top, .-vast OverviewPage #overview-top {
        layout: horizontal; min-height: 19; max-height: 75%;
    }
    .-wide OverviewPage #ring, .-vast OverviewPage #ring { width: 38; height: 18; }
    .-wide OverviewPage #overview-tables, .-vast OverviewPage #overview-tables {
        width: 1fr; max-height: 100%; padding-left: 1;
    }
    .-wide OverviewPage #nodes, .-vast OverviewPage #nodes { max-height: 18; }
    .-vast OverviewPage #overview-tables { width: 78; }
    .-vast OverviewPage #overview-detail { display: block; width: 1fr; height: 18; }
    """

    def __init__(self) -> None:
        super().__init__()
        self.walked_key = ""
        """The key whose way is shown, "" for the last operation."""
        self._walk: KeyWalk | None = None

    def compose(self) -> ComposeResult:
        """Ring, nodes and beliefs above, operations below."""
        with Container(id="overview-top"):
            yield RingPane(id="ring")
            with Container(id="overview-tables"):
                yield FixedTable(NODE_COLUMNS, empty="no nodes yet", id="nodes")
                yield FixedTable((), id="gossip")
            yield NodeDetail(id="overview-detail")
        yield FixedTable(
            operation_columns(0), empty="no operation since this was opened", id="operations"
        )

    @property
    def selected_node(self) -> str:
        """The node under the cursor, of the table or of the matrix."""
        gossip = self.query_one("#gossip", FixedTable)
        table = gossip if gossip.has_focus else self.query_one("#nodes", FixedTable)
        return table.cursor_key

    def walk(self, key: str) -> None:
        """Show the way of a key from the next paint on; "" shows operations again."""
        self.walked_key = key

    def focus_first(self) -> None:
        """The nodes."""
        self.query_one("#nodes").focus()

    def paint(self, scene: Scene) -> None:
        """Show what is true now."""
        self._walk = walk_key(scene.view, self.walked_key) if self.walked_key else None
        self.query_one(RingPane).show(self._picture(scene))
        nodes = self.query_one("#nodes", FixedTable)
        nodes.show(node_rows(scene))
        detail = self.query_one(NodeDetail)
        if detail.display:
            detail.paint(scene, nodes.cursor_key)
        gossip = self.query_one("#gossip", FixedTable)
        gossip.set_columns(gossip_columns(scene))
        gossip.show(gossip_rows(scene))
        operations = self.query_one("#operations", FixedTable)
        operations.set_columns(operation_columns(self.app.size.width))
        operations.show(operation_rows(scene))

    def _picture(self, scene: Scene) -> RingPicture:
        view = scene.view
        mark: float | None = None
        middle: tuple[tuple[str, str], ...] = ()
        if self._walk is not None:
            mark, middle = self._walk.position, _walk_lines(self._walk, scene)
        elif view.operations and view.ring is not None:
            last = view.operations[-1]
            mark = (last.partition + 0.5) / view.ring.partitions
            middle = operation_lines(last, scene)
        return RingPicture(view.ring, tuple(scene.places.items()), scene.glyphs, mark, middle)


def _walk_lines(walk: KeyWalk, scene: Scene) -> tuple[tuple[str, str], ...]:
    """The way of a key in a few short lines."""
    arrow = scene.glyphs.arrow
    lines = [(clipped(walk.key), "bold"), (f"partition {walk.partition}", DIM)]
    for slot in walk.slots:
        if slot.node is None:
            lines.append((clipped(f"{arrow} {slot.primary} is away"), BAD))
        elif slot.hinted:
            lines.append((clipped(f"{arrow} {slot.node} for {slot.primary}"), WARN))
        else:
            color = color_of_node(scene.places[slot.primary])
            lines.append((clipped(f"{arrow} {slot.node}"), color))
    if walk.fallbacks:
        lines.append((clipped(f"then {' '.join(walk.fallbacks)}"), DIM))
    return tuple(lines)
