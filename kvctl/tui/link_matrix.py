"""Planning a partition with the keyboard or the mouse: groups of nodes, and single links."""

from __future__ import annotations

from typing import ClassVar

from rich.style import Style
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.events import Click
from textual.message import Message
from textual.widget import Widget

from kvctl.text.cells import fitted, steady
from kvctl.tui.glyphs import BAD, DIM, Glyphs, color_of_node
from kvctl.view.partition_plan import BRIDGE, GROUPS_MAX, PartitionPlan
from kvctl.view.state import Condition

_CURSOR = Style(reverse=True)
_NAME_WIDTH = 8
_CELL_WIDTH = 5


class Planned(Message):
    """The plan is another one now."""

    def __init__(self, plan: PartitionPlan) -> None:
        super().__init__()
        self.plan = plan


class GroupPane(Widget, can_focus=True):
    """A line for each node, with its group."""

    DEFAULT_CSS = "GroupPane { height: auto; width: 34; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(-1)", "up", show=False),
        Binding("down", "step(1)", "down", show=False),
        Binding("left", "move(-1)", "group before", show=False),
        Binding("right", "move(1)", "next group", show=False),
        *(Binding(str(n), f"group({n})", f"group {n}", show=False) for n in range(GROUPS_MAX + 1)),
    ]

    def __init__(self, plan: PartitionPlan) -> None:
        super().__init__(id="groups")
        self.plan = plan
        self.cursor = 0

    def render(self) -> Text:
        """Node, and the column of its group."""
        text = Text(no_wrap=True, end="")
        text.append("GROUPS  1-9, 0 bridge, arrows", DIM)
        highest = min(GROUPS_MAX, max(2, *self.plan.groups))
        for place, name in enumerate(self.plan.names):
            group = self.plan.group_of(name)
            style = _CURSOR if place == self.cursor and self.has_focus else Style.null()
            text.append("\n")
            text.append(fitted(steady(name), _NAME_WIDTH), style)
            for column in range(1, highest + 1):
                shown = f" {column} " if column == group else " . "
                text.append(shown, f"bold {color_of_node(column - 1)}" if column == group else DIM)
            text.append(" bridge" if group == BRIDGE else "", "bold")
        return text

    @property
    def node(self) -> str:
        """The node under the cursor."""
        return self.plan.names[self.cursor]

    def show(self, plan: PartitionPlan) -> None:
        """Show this plan."""
        self.plan = plan
        self.refresh(layout=True)

    def action_step(self, by: int) -> None:
        """Another node."""
        self.cursor = (self.cursor + by) % len(self.plan.names)
        self.refresh()

    def action_move(self, by: int) -> None:
        """The node into the group beside."""
        self.post_message(Planned(self.plan.moved(self.node, by)))

    def action_group(self, group: int) -> None:
        """The node into this group."""
        self.post_message(Planned(self.plan.with_group(self.node, group)))

    def on_click(self, event: Click) -> None:
        """A click moves a node one group on."""
        if 1 <= event.y <= len(self.plan.names):
            self.cursor = event.y - 1
            self.action_move(1)


class LinkMatrix(Widget, can_focus=True):
    """Rows send, columns receive: which directed links are cut."""

    DEFAULT_CSS = "LinkMatrix { height: auto; width: auto; }"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "step(-1, 0)", "up", show=False),
        Binding("down", "step(1, 0)", "down", show=False),
        Binding("left", "step(0, -1)", "left", show=False),
        Binding("right", "step(0, 1)", "right", show=False),
        Binding("space", "turn", "cut or restore", show=False),
    ]

    def __init__(self, plan: PartitionPlan, glyphs: Glyphs) -> None:
        super().__init__(id="matrix")
        self.plan = plan
        self.row, self.column = 0, min(1, len(plan.names) - 1)
        self._glyphs = glyphs

    def render(self) -> Text:
        """The matrix; links that are not as their groups have them are underlined."""
        cut = self._glyphs.of(Condition.CUT)[0]
        text = Text(no_wrap=True, end="")
        text.append("LINKS  from row to column, space cuts", DIM)
        text.append("\n" + " " * _CELL_WIDTH)
        for name in self.plan.names:
            text.append(fitted(steady(name), _CELL_WIDTH - 1) + " ")
        for row, sender in enumerate(self.plan.names):
            text.append("\n" + fitted(steady(sender), _CELL_WIDTH - 1) + " ")
            for column, receiver in enumerate(self.plan.names):
                link = (sender, receiver)
                is_cut = sender != receiver and self.plan.cuts(link)
                sign = "-" if sender == receiver else cut if is_cut else "."
                style = Style.parse(f"bold {BAD}" if is_cut else DIM)
                style += Style(underline=link in self.plan.turned)
                if self.has_focus and (row, column) == (self.row, self.column):
                    style += _CURSOR
                text.append(f" {sign} ", style)
                text.append(" " * (_CELL_WIDTH - 3))
        return text

    def show(self, plan: PartitionPlan) -> None:
        """Show this plan."""
        self.plan = plan
        self.refresh()

    def action_step(self, down: int, right: int) -> None:
        """Another link."""
        count = len(self.plan.names)
        self.row, self.column = (self.row + down) % count, (self.column + right) % count
        self.refresh()

    def action_turn(self) -> None:
        """Cut the link, or restore it."""
        names = self.plan.names
        if self.row != self.column:
            link = (names[self.row], names[self.column])
            self.post_message(Planned(self.plan.with_turned(link)))

    def on_click(self, event: Click) -> None:
        """A click on a link cuts or restores it."""
        row, column = event.y - 2, (event.x - _CELL_WIDTH) // _CELL_WIDTH
        count = len(self.plan.names)
        if 0 <= row < count and 0 <= column < count:
            self.row, self.column = row, column
            self.action_turn()
            self.refresh()
