"""Importing the client stays light: a quick `kvctl get` pays for every module."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "asyncio", "multiprocessing", "psutil", "rich", "secrets", "sqlite3", "sqlitedict",
    "subprocess", "textual", "typer",
)  # fmt: skip


def test_importing_the_client_loads_nothing_a_single_request_does_not_need() -> None:
    code = f"import sys, kvctl.client; print([m for m in {HEAVY!r} if m in sys.modules])"
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"


def test_importing_the_client_does_not_load_the_ring() -> None:
    code = (
        "import sys, kvctl.client; print(sorted(m for m in sys.modules if 'ring' in m.split('.')))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert loaded.stdout.strip() == "[]"
