"""Operations as rows and as lines in the ring: coordinator, replicas, acknowledgements, stand-ins.

    0.4s  put  user:7   n2 → n2✓ n5✓ n1·      n5 for n3   degraded   1.3ms

Operations come from the nodes that coordinated them, whoever the client was, and are a sample if
they are many; those made in this dashboard are told by it, too, until the coordinator's account
comes in. A mark behind a replica tells those whose answers made the quorum from those that were
asked as well, but not waited for, and from primaries that were away without a stand-in.
"""

from __future__ import annotations

from kvctl.text.cells import cut_middle, steady
from kvctl.tui.fixed_table import SCROLLBAR_WIDTH, Cell, Column, Row
from kvctl.tui.glyphs import BAD, DIM, WARN
from kvctl.tui.node_rows import age_text
from kvctl.tui.scene import Scene
from kvctl.view.state import OperationView

_AGO, _OP = Column("AGO", 5, right=True), Column("OP", 3)
_TOOK = Column("TOOK", 7, right=True)
_WIDTHS = (12, 17, 9, 11)
"""Of key, replicas, stand-ins and outcome: what 80 columns have room for."""
_WIDTHS_MAX = (28, 32, 22, 14)
_OUTCOME_STYLES = {"ok": "", "not found": DIM, "degraded": WARN, "conflict": WARN}


def operation_columns(width: int) -> tuple[Column, ...]:
    """Columns for a screen so wide: what is left over goes to those that may need it."""
    used = sum(_WIDTHS) + _AGO.width + _OP.width + _TOOK.width + 7 + SCROLLBAR_WIDTH
    left = max(0, width - used)
    widths = []
    for low, high in zip(_WIDTHS, _WIDTHS_MAX, strict=True):
        more = min(left, high - low)
        widths.append(low + more)
        left -= more
    key, replicas, stand_ins, outcome = widths
    return (
        _AGO,
        _OP,
        Column("KEY", key),
        Column("BY, REPLICAS", replicas),
        Column("STAND-INS", stand_ins),
        Column("OUTCOME", outcome),
        _TOOK,
    )


def operation_rows(scene: Scene) -> list[Row]:
    """Newest first."""
    rows = []
    for operation in reversed(scene.view.operations):
        if not scene.matches(operation.key, operation.coordinator, operation.outcome):
            continue
        rows.append(
            Row(
                f"{operation.at_ms} {operation.coordinator} {operation.op} {operation.key}",
                (
                    Cell(age_text(max(0, scene.now_ms - operation.at_ms)), DIM),
                    Cell(operation.op),
                    Cell(operation.key, "bold"),
                    Cell(replicas_text(operation, scene)),
                    Cell(_stand_ins(operation), WARN),
                    Cell(operation.outcome, _OUTCOME_STYLES.get(operation.outcome, BAD)),
                    Cell(f"{operation.took_ms:.1f}ms"),
                ),
            )
        )
    return rows


def operation_lines(operation: OperationView, scene: Scene) -> tuple[tuple[str, str], ...]:
    """An operation in a few short lines, for the middle of the ring."""
    lines = [
        (f"{operation.op} {clipped(operation.key, 16)}", "bold"),
        (clipped(replicas_text(operation, scene)), ""),
    ]
    lines += [
        (clipped(f"{node} for {primary}"), WARN) for node, primary in operation.hinted.items()
    ]
    return (*lines, (clipped(operation.outcome), _OUTCOME_STYLES.get(operation.outcome, BAD)))


def replicas_text(operation: OperationView, scene: Scene) -> str:
    """The coordinator, and behind an arrow every replica with its mark."""
    answered, unanswered, away = scene.glyphs.answers
    everyone = operation.asked or operation.answered
    replicas = [
        f"{node}{answered if node in operation.answered else unanswered}" for node in everyone
    ]
    replicas += [f"{node}{away}" for node in operation.missing]
    return " ".join((operation.coordinator, scene.glyphs.arrow, *replicas))


def _stand_ins(operation: OperationView) -> str:
    return ", ".join(f"{node} for {primary}" for node, primary in operation.hinted.items())


def clipped(text: str, width: int = 20) -> str:
    """At most so many cells, for the middle of the ring; what is left out leaves a mark."""
    return cut_middle(steady(text), width)
