"""A series of numbers as a line of blocks, one character each."""

from __future__ import annotations

from collections.abc import Sequence

BLOCKS = "▁▂▃▄▅▆▇█"
ASCII_BLOCKS = "_.-~=+*#"


def sparkline(
    samples: Sequence[float], width: int, *, top: float | None = None, blocks: str = BLOCKS
) -> str:
    """The last `width` samples, filled up with spaces on the left.

    `top` is the value of a full block, by default the largest sample shown; 0 is the lowest block.
    """
    shown = samples[-width:] if width > 0 else ()
    highest = max(shown, default=0.0) if top is None else top
    if highest <= 0:
        line = blocks[0] * len(shown)
    else:
        steps = len(blocks) - 1
        line = "".join(blocks[round(steps * min(max(one, 0) / highest, 1.0))] for one in shown)
    return line.rjust(max(width, 0))
