"""What a process costs: memory and processor time, as the operating system counts them."""

from __future__ import annotations

import os
import resource
import sys
import time
from pathlib import Path

_STATM = Path("/proc/self/statm")


def resident_bytes() -> int:
    """Resident memory now; where only the peak is known (macOS), the peak."""
    try:
        pages = int(_STATM.read_text("ascii").split()[1])
    except (OSError, IndexError, ValueError):
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        # The unit differs: bytes on macOS, KiB elsewhere.
        return peak if sys.platform == "darwin" else peak * 1024
    return pages * os.sysconf("SC_PAGE_SIZE")


def cpu_seconds() -> float:
    """User and system time of this process, all threads."""
    return time.process_time()
