"""Which boot of the machine this is: tells a restarted process from a restarted machine.

With `durability = "os"` a commit survives the death of the process but not of the machine. A node
that finds another boot id than at its last commit, and no mark of a clean stop, knows that its last
commits may be missing, and takes a new actor epoch before it coordinates anything.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

_LINUX_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_boot_id() -> str:
    """A string that stays the same until the machine boots again.

    Where there is no telling it is a new one every time: better a needless actor epoch than a
    repeated dot.
    """
    if sys.platform == "darwin":
        found = _read_sysctl("kern.bootsessionuuid")
    else:
        found = _read_file(_LINUX_BOOT_ID)
    return found or f"unknown-{os.urandom(16).hex()}"


def _read_file(path: Path) -> str:
    try:
        return path.read_text("ascii").strip()
    except OSError:
        return ""


def _read_sysctl(name: str) -> str:
    """Ask the kernel through its command; the import is not paid for where there is a file."""
    import subprocess

    try:
        answer = subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return answer.stdout.strip()
