"""Signs and colours: what a state, a node and a number look like.

Nothing is told by colour alone: each state has a glyph and a letter, and each node a sign of its
own, with which the ring is drawn where there are no colours.
"""

from __future__ import annotations

from typing import NamedTuple

from kvctl.view.sparkline import ASCII_BLOCKS, BLOCKS
from kvctl.view.state import Condition

NODE_COLORS = (
    "#4e9bff",
    "#ff9f43",
    "#2ecc71",
    "#e05dd0",
    "#f1c40f",
    "#00bcd4",
    "#ff6b6b",
    "#a48bff",
    "#9acd32",
    "#d2a679",
)
"""Colours of nodes, by their place in the configuration; they repeat beyond the last."""
NODE_SIGNS = "123456789abcdefghijklmnopqrstuvwxyz"

OK, WARN, BAD, DIM, PLAIN = "#2ecc71", "#f1c40f", "#ff6b6b", "#8a8f98", ""
MARK = "#ffffff"

_STYLES = {
    Condition.UP: OK,
    Condition.SUSPECT: WARN,
    Condition.DOWN: BAD,
    Condition.PAUSED: "#4e9bff",
    Condition.CUT: "#e05dd0",
    Condition.UNKNOWN: DIM,
}
_LETTERS = {
    Condition.UP: "U",
    Condition.SUSPECT: "S",
    Condition.DOWN: "D",
    Condition.PAUSED: "P",
    Condition.CUT: "C",
    Condition.UNKNOWN: "?",
}
_UNICODE = {
    Condition.UP: "●",
    Condition.SUSPECT: "◐",
    Condition.DOWN: "○",
    Condition.PAUSED: "‖",
    Condition.CUT: "╳",
    Condition.UNKNOWN: "·",
}
_ASCII = {
    Condition.UP: "*",
    Condition.SUSPECT: "~",
    Condition.DOWN: "o",
    Condition.PAUSED: "=",
    Condition.CUT: "x",
    Condition.UNKNOWN: ".",
}
_CONDITION_OF_BELIEF = {
    "up": Condition.UP,
    "suspect": Condition.SUSPECT,
    "down": Condition.DOWN,
}


class Glyphs(NamedTuple):
    """The signs in use; `colors` False: nothing may depend on colour."""

    ascii: bool = False
    colors: bool = True

    def of(self, condition: Condition) -> str:
        """Glyph and letter of a state."""
        return (_ASCII if self.ascii else _UNICODE)[condition] + _LETTERS[condition]

    @property
    def blocks(self) -> str:
        """The steps of a sparkline."""
        return ASCII_BLOCKS if self.ascii else BLOCKS

    @property
    def arrow(self) -> str:
        """From the coordinator to the replicas."""
        return "->" if self.ascii else "→"

    @property
    def answers(self) -> tuple[str, str, str]:
        """Behind a replica: it answered, was not waited for, or was away."""
        return ("+", ".", "x") if self.ascii else ("✓", "·", "✗")

    @property
    def ellipsis(self) -> str:
        """Where something was left out."""
        return "..." if self.ascii else "…"

    @property
    def separator(self) -> str:
        """Between the parts of a line."""
        return "|" if self.ascii else "│"

    @property
    def bar(self) -> tuple[str, str]:
        """A filled and an empty part of a bar."""
        return ("#", ".") if self.ascii else ("█", "░")


def style_of(condition: Condition) -> str:
    """The colour of a state."""
    return _STYLES[condition]


def condition_of_belief(state: str) -> Condition:
    """A belief as a state; whoever left is unknown."""
    return _CONDITION_OF_BELIEF.get(state, Condition.UNKNOWN)


def color_of_node(place: int) -> str:
    """The colour of the node at this place of the configuration."""
    return NODE_COLORS[place % len(NODE_COLORS)]


def sign_of_node(place: int) -> str:
    """One character for the node at this place of the configuration."""
    return NODE_SIGNS[place % len(NODE_SIGNS)]
