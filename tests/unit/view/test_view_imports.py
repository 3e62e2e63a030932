"""The model knows no screen, and only the live feed touches the world."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
SOURCES = sorted((ROOT / "kvctl/view").glob("*.py"))
TOUCHES_SOCKETS = {"live_feed.py"}
TOUCHES_PROCESSES = {"process_lookup.py"}


def imported(path: Path) -> set[str]:
    """The modules a file imports, wherever in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def readings(path: Path) -> set[str]:
    """Calls that look at a clock, as `time.<name>`."""
    return {
        f"time.{node.attr}"
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "time"
        and node.attr in ("time", "time_ns", "monotonic", "sleep", "perf_counter")
    }


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_the_model_knows_no_screen_and_reads_no_clock(path: Path) -> None:
    modules = imported(path)
    roots = {module.partition(".")[0] for module in modules}
    assert roots.isdisjoint({"textual", "rich", "typer", "threading"})
    assert not any(module.startswith(("kvctl.tui", "kvctl.cli")) for module in modules)
    if path.name not in TOUCHES_SOCKETS:
        assert "zmq" not in roots
    if path.name not in TOUCHES_PROCESSES:
        assert readings(path) == set()
        assert "kvctl.cluster.processes" not in modules


def test_a_look_at_the_clock_is_found() -> None:
    assert readings(ROOT / "kvctl/view/process_lookup.py") == {"time.monotonic"}


def test_reducing_loads_neither_textual_nor_sockets() -> None:
    code = "import sys, kvctl.view.reduce, kvctl.view.quorum_outlook; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    roots = {name.partition(".")[0] for name in loaded}
    assert "kvctl.view.reduce" in loaded
    assert roots.isdisjoint({"textual", "rich", "zmq", "psutil", "sqlitedict", "asyncio"})
