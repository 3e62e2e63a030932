"""A ring drawn in character cells: which partition each half of a cell shows.

A cell is about twice as high as wide, so each is split into an upper and a lower half, and a
half-block character shows two colours. Pixels are therefore about square, and a ring of height h
cells is 2h pixels across. Position 0 of the circle is at the top; it runs clockwise.

        ▄▄████▄▄        pixel (x, y) ──▶ angle ──▶ position 0..1 ──▶ partition
      ██▀      ▀██
      ██▄      ▄██      None: not on the ring
        ▀▀████▀▀
"""

from __future__ import annotations

import math
from functools import lru_cache

THICKNESS = 0.34
"""Of the ring, as a part of its radius."""

Raster = tuple[tuple[tuple[float | None, float | None], ...], ...]
"""Rows of cells; each cell is (position of the upper pixel, position of the lower)."""


@lru_cache(maxsize=16)
def ring_raster(width: int, height: int) -> Raster:
    """The largest ring that fits `width` x `height` cells, in its middle. Positions are 0 to 1."""
    pixels = min(width, 2 * height)
    radius = pixels / 2
    center_x, center_y = width / 2, float(height)

    def position(x: int, y: int) -> float | None:
        dx, dy = x + 0.5 - center_x, y + 0.5 - center_y
        distance = math.hypot(dx, dy)
        if not radius * (1 - THICKNESS) <= distance <= radius:
            return None
        return math.atan2(dx, -dy) / math.tau % 1.0

    return tuple(
        tuple((position(x, 2 * y), position(x, 2 * y + 1)) for x in range(width))
        for y in range(height)
    )


@lru_cache(maxsize=16)
def ring_strip(width: int) -> tuple[float, ...]:
    """The circle unrolled into one line: the position in the middle of each cell."""
    return tuple((x + 0.5) / width for x in range(width))


def partition_at(position: float, partitions: int) -> int:
    """The partition that lies at a position of the circle."""
    return min(partitions - 1, int(position * partitions))
