"""Hints: what waits at which node for which other, and how fast it goes home."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType

from kvctl.tui import replica_deeds
from kvctl.tui.fixed_table import Cell, Column, FixedTable, Row
from kvctl.tui.glyphs import DIM, OK, WARN, style_of
from kvctl.tui.node_rows import age_text, bytes_text, count_text
from kvctl.tui.page import Page
from kvctl.tui.scene import Scene
from kvctl.view.sparkline import sparkline
from kvctl.view.state import Condition, HintQueueView

TREND_WIDTH = 12
COLUMNS = (
    Column("HOLDER", 6),
    Column("TARGET", 6),
    Column("STATE", 10),
    Column("QUEUED", 6, right=True),
    Column("BYTES", 6, right=True),
    Column("OLDEST", 6, right=True),
    Column("DRAIN/S", 7, right=True),
    Column("ETA", 6, right=True),
    Column("TREND", TREND_WIDTH),
)


class HintsPage(Page):
    """The fourth page."""

    KEY = "4"
    NAME = "hints"
    SUMMARY = "writes kept for nodes that were away"
    KEYS = (("f", "push now"), ("h", "hold or release all"))
    HELP = (
        "A holder keeps writes for a target that could not be reached, and pushes them when it is "
        "back. STATE is that of the target, or held. DRAIN/S is the rate at which they go home, "
        "ETA when the queue is empty at that rate, TREND the length of the queue over time. k, p "
        "and r act on the target: r starts one that is down. Hints that counted toward a write "
        "quorum never expire."
    )
    DEFAULT_CSS = "HintsPage #hint-queues { height: 1fr; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("f", "push", "push now", show=False),
        Binding("h", "hold", "hold or release", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._queues: dict[str, HintQueueView] = {}
        self._holds = False
        """Whether delivery is held, as far as the queues or the last key say."""

    def compose(self) -> ComposeResult:
        """The queues."""
        yield FixedTable(COLUMNS, empty="no hints: nobody was missed", id="hint-queues")

    @property
    def queue(self) -> HintQueueView | None:
        """The queue under the cursor."""
        return self._queues.get(self.query_one("#hint-queues", FixedTable).cursor_key)

    @property
    def selected_node(self) -> str:
        """The target under the cursor."""
        return "" if self.queue is None else self.queue.target

    def paint(self, scene: Scene) -> None:
        """Show what is true now."""
        self._queues = {
            f"{holder} {target}": queue
            for (holder, target), queue in sorted(scene.view.hints.items())
            if scene.matches(holder, target)
        }
        if self._queues:
            self._holds = any(queue.held for queue in self._queues.values())
        self.query_one("#hint-queues", FixedTable).show(
            [_row(scene, key, queue) for key, queue in self._queues.items()]
        )

    def action_push(self) -> None:
        """Deliver what the holder under the cursor keeps."""
        if self.queue is None:
            self.post_message(self.Says("there is nothing to push."))
        else:
            self.post_message(self.Wants(replica_deeds.push([self.queue.holder])))

    def action_hold(self) -> None:
        """Hold all deliveries, or let them go on."""
        deed = replica_deeds.release() if self._holds else replica_deeds.hold()
        self._holds = not self._holds
        self.post_message(self.Wants(deed))


def _row(scene: Scene, key: str, queue: HintQueueView) -> Row:
    condition = scene.conditions.get(queue.target, Condition.UNKNOWN)
    state = Cell(f"{scene.glyphs.of(condition)} {condition.value}", style_of(condition))
    if queue.held:
        state = Cell("held", f"bold {WARN}")
    eta_s = queue.eta_s
    # The age grows between two answers, too.
    oldest_ms = queue.oldest_ms + (max(0, scene.now_ms - queue.at_ms) if queue.at_ms else 0)
    draining = queue.drained_per_s > 0
    return Row(
        key,
        (
            Cell(queue.holder, "bold"),
            Cell(queue.target, "bold"),
            state,
            Cell(count_text(queue.count), WARN),
            Cell(bytes_text(queue.bytes)),
            Cell(age_text(oldest_ms)),
            Cell(f"{queue.drained_per_s:.1f}" if draining else "-", OK if draining else DIM),
            Cell("-" if eta_s is None else age_text(round(eta_s * 1000))),
            Cell(sparkline(queue.history, TREND_WIDTH, blocks=scene.glyphs.blocks), WARN),
        ),
    )
