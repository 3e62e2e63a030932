"""All nodes with their load, and one of them in full."""

from __future__ import annotations

from textual.app import ComposeResult
from textual.containers import Container

from kvctl.tui.fixed_table import FixedTable
from kvctl.tui.node_detail import NodeDetail
from kvctl.tui.node_rows import LOAD_COLUMNS, NODE_COLUMNS, node_rows
from kvctl.tui.page import Page
from kvctl.tui.scene import Scene


class NodesPage(Page):
    """The second page."""

    KEY = "2"
    NAME = "nodes"
    SUMMARY = "every node, and one in full"
    HELP = (
        "The table is that of the overview, with the load of each node since the answer before: "
        "CPU of one core, resident memory, messages received a second, requests in flight. Below "
        "is the node under the cursor: its memtable, SSTables, how often Bloom filters spared it "
        "opening one and how often they were wrong, and whom it reaches."
    )
    SCOPED_CSS = False
    DEFAULT_CSS = """
    NodesPage #node-list { height: auto; max-height: 60%; margin-bottom: 1; }
    NodesPage #node-detail { height: 1fr; }
    .-vast NodesPage #nodes-body { layout: horizontal; }
    .-vast NodesPage #node-list { width: 106; max-height: 100%; }
    """

    def compose(self) -> ComposeResult:
        """The table, then the detail."""
        with Container(id="nodes-body"):
            yield FixedTable(
                (*NODE_COLUMNS, *LOAD_COLUMNS), empty="no node matches", id="node-list"
            )
            yield NodeDetail(id="node-detail")

    @property
    def selected_node(self) -> str:
        """The node under the cursor."""
        return self.query_one("#node-list", FixedTable).cursor_key

    def paint(self, scene: Scene) -> None:
        """Show what is true now."""
        # On a narrow screen the load is what the detail below says.
        wide = self.app.size.width >= 100
        table = self.query_one("#node-list", FixedTable)
        table.set_columns((*NODE_COLUMNS, *LOAD_COLUMNS) if wide else NODE_COLUMNS)
        table.show(node_rows(scene, load=wide))
        self.query_one(NodeDetail).paint(scene, table.cursor_key)
