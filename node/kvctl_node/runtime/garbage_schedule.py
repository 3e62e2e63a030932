"""When the cyclic garbage collector runs: between turns, not in the middle of one.

Almost everything a node allocates is freed by reference counts; messages and records are not even
tracked (`gc=False`). Left alone, the collector would still walk the ever larger heap at moments
chosen by allocation counts, which shows as pauses of tens of milliseconds in the slowest answers.
So it is switched off, what was imported is frozen out of its sight, and the loop calls it when
there is nothing else to do, or, if that never happens, young objects only, now and then.
"""

from __future__ import annotations

import gc

IDLE_OBJECTS_MIN = 5_000
"""Collect when idle once this many tracked objects are new since the last time."""
BUSY_OBJECTS_MAX = 100_000
"""Collect the young generation even when busy beyond this many."""


class GarbageSchedule:
    """Takes over collection for this process."""

    def begin(self) -> None:
        """Everything alive now stays: start-up is over."""
        gc.collect()
        gc.freeze()
        gc.disable()

    def end(self) -> None:
        """Give collection back to the interpreter."""
        gc.enable()
        gc.unfreeze()

    def after_turn(self, *, idle: bool) -> None:
        """Collect if it is time to. Costs a fraction of a microsecond when it is not."""
        new_objects = gc.get_count()[0]
        if idle and new_objects > IDLE_OBJECTS_MIN:
            gc.collect()
        elif new_objects > BUSY_OBJECTS_MAX:
            gc.collect(0)
