"""The operating system's clocks, as the `Clock` port."""

from __future__ import annotations

import time

from kvctl_node.ports import Instant


class SystemClock:
    """Reads the monotonic clock and the wall clock together.

    The monotonic clock is the one that stands still while the machine sleeps, on Linux and macOS:
    a node that slept finds its timers where it left them, and tells from the age of what arrives
    that it was away.
    """

    def now(self) -> Instant:
        """One reading: seconds that never jump, and milliseconds since the Unix epoch."""
        return Instant(time.monotonic(), time.time_ns() // 1_000_000)
