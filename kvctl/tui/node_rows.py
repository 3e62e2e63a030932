"""Nodes as rows: the columns and cells the tables of nodes share."""

from __future__ import annotations

from kvctl.tui.fixed_table import Cell, Column, Row
from kvctl.tui.glyphs import (
    BAD,
    DIM,
    WARN,
    color_of_node,
    condition_of_belief,
    sign_of_node,
    style_of,
)
from kvctl.tui.scene import Scene
from kvctl.view.sparkline import sparkline

HEARTBEAT_WIDTH = 12
HEARTBEAT_TOP_MS = 4000
"""A heartbeat as old as this fills the sparkline; about where suspicion begins."""
PHI_WARN = 1.0
PHI_BAD = 8.0

NODE_COLUMNS = (
    Column("", 1),
    Column("NODE", 7),
    Column("STATE", 10),
    Column("SHARE", 6, right=True),
    Column("PHI", 4, right=True),
    Column("HEARTBEAT", HEARTBEAT_WIDTH),
    Column("KEYS", 8, right=True),
    Column("HINTS", 6, right=True),
    Column("RTT", 7, right=True),
)
"""72 cells and the spaces between: fits 80 columns."""
LOAD_COLUMNS = (
    Column("CPU", 5, right=True),
    Column("RSS", 7, right=True),
    Column("MSG/S", 7, right=True),
    Column("FLIGHT", 6, right=True),
)


def node_rows(scene: Scene, *, load: bool = False) -> list[Row]:
    """One row a node that passes the filter; with `load` the columns of `LOAD_COLUMNS`, too."""
    rows = []
    for name, place in scene.places.items():
        if scene.matches(name, scene.conditions[name].value, scene.view.nodes[name].declared.zone):
            cells = _node_cells(scene, name, place)
            rows.append(Row(name, cells + (_load_cells(scene, name) if load else ())))
    return rows


def _node_cells(scene: Scene, name: str, place: int) -> tuple[Cell, ...]:
    node, condition = scene.view.nodes[name], scene.conditions[name]
    figures, phi = node.figures, scene.phis[name]
    known = node.answered_ms > 0
    faded = "" if node.answers else DIM
    return (
        Cell(sign_of_node(place), color_of_node(place)),
        Cell(name, "bold"),
        Cell(f"{scene.glyphs.of(condition)} {condition.value}", style_of(condition)),
        Cell(f"{node.share:.1%}"),
        Cell(f"{min(phi, 99):.1f}", BAD if phi > PHI_BAD else WARN if phi > PHI_WARN else ""),
        Cell(
            sparkline(
                node.heartbeat_ages_ms,
                HEARTBEAT_WIDTH,
                top=HEARTBEAT_TOP_MS,
                blocks=scene.glyphs.blocks,
            ),
            style_of(condition),
        ),
        Cell(count_text(figures.keys) if known else "-", faded),
        Cell(count_text(figures.hints) if known else "-", WARN if figures.hints else faded),
        Cell(f"{node.rtt_ms:.1f}ms" if node.answers else "-", faded),
    )


def _load_cells(scene: Scene, name: str) -> tuple[Cell, ...]:
    node = scene.view.nodes[name]
    if not node.answers:
        return (Cell("-", DIM),) * len(LOAD_COLUMNS)
    figures = node.figures
    return (
        Cell(f"{figures.cpu_share:.0%}"),
        Cell(bytes_text(figures.rss_bytes)),
        Cell(count_text(round(figures.messages_per_s))),
        Cell(str(figures.in_flight)),
    )


def gossip_columns(scene: Scene) -> tuple[Column, ...]:
    """One column a node, after the viewer's name."""
    return (Column("SEES", 7), *(Column(name, 9) for name in scene.view.nodes))


def gossip_rows(scene: Scene) -> list[Row]:
    """What each node thinks of each: state and age of the newest heartbeat it knows of."""
    rows = []
    for viewer in scene.view.nodes:
        if not scene.matches(viewer):
            continue
        beliefs, answers = scene.view.beliefs.get(viewer, {}), scene.view.nodes[viewer].answers
        cells = [Cell(viewer, "bold" if answers else DIM)]
        for member in scene.view.nodes:
            belief = beliefs.get(member)
            if viewer == member:
                cells.append(Cell("self" if answers else "", DIM))
            elif belief is None:
                cells.append(Cell("?" if answers else "", DIM))
            else:
                condition = condition_of_belief(belief.state)
                text = f"{scene.glyphs.of(condition)} {_belief_age(belief.age_ms)}"
                cells.append(Cell(text, style_of(condition) if answers else DIM))
        rows.append(Row(viewer, tuple(cells)))
    return rows


def _belief_age(age_ms: int) -> str:
    """How fresh the knowledge is; below a second it is as fresh as can be, and stands still."""
    return "<1s" if age_ms < 1000 else age_text(age_ms)


def age_text(age_ms: int) -> str:
    """A duration in at most five characters."""
    seconds = age_ms / 1000
    if seconds < 10:
        return f"{seconds:.1f}s"
    if seconds < 100:
        return f"{seconds:.0f}s"
    minutes = seconds / 60
    return f"{minutes:.0f}m" if minutes < 100 else f"{minutes / 60:.0f}h"


def count_text(count: int) -> str:
    """A count in at most six characters."""
    if count < 100_000:
        return str(count)
    if count < 10_000_000:
        return f"{count / 1000:.0f}k"
    return f"{count / 1_000_000:.0f}M"


def bytes_text(count: float) -> str:
    """A size in at most six characters, binary units."""
    for unit in ("B", "K", "M", "G"):
        if count < 1024 or unit == "G":
            return f"{count:.0f}{unit}" if count >= 10 or unit == "B" else f"{count:.1f}{unit}"
        count /= 1024
    raise AssertionError("the last unit takes everything")
