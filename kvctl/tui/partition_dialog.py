"""The dialog in which a partition is planned: groups, single links, and what each side could do.

The preview below is worked out anew with every key, from the cluster as it is at that moment: with
the nodes that are down, and the links that are cut already.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.screen import ModalScreen

from kvctl.text.command_lines import command_rows
from kvctl.tui.dialogs import COMMAND_WIDTH
from kvctl.tui.glyphs import BAD, DIM, OK, WARN, Glyphs
from kvctl.tui.link_matrix import GroupPane, LinkMatrix, Planned
from kvctl.tui.wrapped_text import WrappedText
from kvctl.view import partition_plan
from kvctl.view.condition import cut_links, reach_of, serving_nodes
from kvctl.view.partition_plan import PartitionPlan, reach_after
from kvctl.view.quorum_outlook import SideOutlook, cluster_outlook, describe_side
from kvctl.view.state import ClusterView

SIDES_SHOWN_MAX = 8


class PartitionDialog(ModalScreen[PartitionPlan | None]):
    """Gives back the plan, or None if it was given up."""

    DEFAULT_CSS = """
    PartitionDialog { align: center middle; }
    PartitionDialog > Vertical {
        width: 78; max-width: 100%; height: auto; max-height: 100%;
        border: solid $warning; background: $surface; padding: 0 1;
    }
    PartitionDialog #planning { height: auto; max-height: 60%; }
    PartitionDialog #planning > Horizontal { height: auto; }
    PartitionDialog #preview { height: auto; margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "give_up", "cancel"),
        Binding("enter", "cut", "cut"),
        Binding("tab", "app.focus_next", "groups or links", show=False),
        Binding("h", "preset('halves')", "halves"),
        Binding("m", "preset('majority')", "majority"),
        Binding("i", "preset('isolate')", "isolate one"),
        Binding("b", "preset('bridge')", "bridge"),
        Binding("r", "preset('random')", "random"),
        Binding("c", "preset('whole')", "clear"),
    ]

    def __init__(
        self,
        view: Callable[[], ClusterView],
        glyphs: Glyphs,
        rng: Random,
        node: str = "",
        *,
        cluster: str = "",
    ) -> None:
        """`view` gives the cluster as it is; `node` is where the cursor begins.

        `cluster` is what the command has to name, if anything.
        """
        super().__init__()
        self._view = view
        self._glyphs = glyphs
        self._rng = rng
        self._cluster = cluster
        names = tuple(view().nodes)
        self.plan = partition_plan.whole(names)
        self._groups = GroupPane(self.plan)
        if node in names:
            self._groups.cursor = names.index(node)
        self._matrix = LinkMatrix(self.plan, glyphs)
        self._preview: list[Text] = []

    def compose(self) -> ComposeResult:
        """Groups and links, what they would do, and the keys."""
        with Vertical():
            yield WrappedText("Partition the network", id="title")
            with VerticalScroll(id="planning", can_focus=False), Horizontal():
                yield self._groups
                yield self._matrix
            yield WrappedText(id="preview")
            yield WrappedText(
                "h halves  m majority  i isolate one  b bridge  r random  c clear",
                "tab groups or links  enter cuts  escape leaves it",
                id="dialog-keys",
            )

    def on_mount(self) -> None:
        """Begin with the groups."""
        self._groups.focus()
        self.renew()

    def on_planned(self, event: Planned) -> None:
        """A key or the mouse changed the plan."""
        event.stop()
        self._use(event.plan)

    def _use(self, plan: PartitionPlan) -> None:
        self.plan = plan
        self._groups.show(plan)
        self._matrix.show(plan)
        self.renew()

    def action_preset(self, name: str) -> None:
        """One of the usual plans; isolate and bridge are about the node under the cursor."""
        names, node = self.plan.names, self._groups.node
        if name == "halves":
            self._use(partition_plan.halves(names))
        elif name == "majority":
            self._use(partition_plan.majority(names))
        elif name == "isolate":
            self._use(partition_plan.isolated(names, node))
        elif name == "bridge":
            self._use(partition_plan.bridged(names, node))
        elif name == "random":
            self._use(partition_plan.at_random(names, self._rng))
        else:
            self._use(partition_plan.whole(names))

    def action_cut(self) -> None:
        """Do it."""
        if self.plan.links():
            self.dismiss(self.plan)
        else:
            self.notify("no link is cut: choose groups, or single links")

    def action_give_up(self) -> None:
        """Leave the network as it is."""
        self.dismiss(None)

    # ------------------------------------------------------------ preview

    def renew(self) -> None:
        """Work out what the plan would do to the cluster as it is now."""
        lines = self._preview_lines(self._view())
        if [_styled(one) for one in lines] != [_styled(one) for one in self._preview]:
            self._preview = lines
            self.query_one("#preview", WrappedText).show(*lines)

    def _preview_lines(self, view: ClusterView) -> list[Text]:
        if view.ring is None:
            return [Text("the ring is not known yet", DIM)]
        reach = reach_after(self.plan, reach_of(serving_nodes(view), cut_links(view)))
        outlook = cluster_outlook(view.ring, view.quorum, reach)
        command = command_rows(self.plan.words(), self._cluster, width=COMMAND_WIDTH)
        quorum = view.quorum
        text = Text(f"N={quorum.n} R={quorum.r} W={quorum.w} {quorum.mode}: ", DIM)
        text.append(f"{outlook.full} ranges full, ", OK if outlook.full else DIM)
        text.append(f"{outlook.degraded} degraded, ", WARN if outlook.degraded else DIM)
        text.append(f"{outlook.no_write} without write quorum", BAD if outlook.no_write else DIM)
        lines = [Text(row, "bold") for row in command or ["nothing is cut"]]
        lines.append(text)
        for side in outlook.sides[:SIDES_SHOWN_MAX]:
            lines.append(Text(describe_side(side), _style_of(side)))
        if len(outlook.sides) > SIDES_SHOWN_MAX:
            lines.append(Text(f"and {len(outlook.sides) - SIDES_SHOWN_MAX} sides more", DIM))
        if not outlook.sides:
            lines.append(Text("no node answers", BAD))
        return lines


def _styled(line: Text) -> tuple[object, ...]:
    """What tells two lines apart: equal texts may have other colours."""
    return line.plain, line.style, line.spans


def _style_of(side: SideOutlook) -> str:
    if side.no_write or side.no_read:
        return BAD
    return WARN if side.degraded or side.reads_stand_ins else OK
