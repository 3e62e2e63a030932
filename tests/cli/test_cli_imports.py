"""What a quick command loads: a get in a shell loop pays for every import."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("rich", "textual", "psutil", "sqlitedict", "sqlite3", "asyncio", "multiprocessing")

PROBE = """
import json, sys
from kvctl.cli.app import main
code = main(sys.argv[1:])
print(json.dumps([code, sorted(sys.modules)]), file=sys.stderr)
"""


def modules_loaded_by(*arguments: str) -> tuple[int, set[str]]:
    """Exit code and modules of a whole process that runs one command line."""
    done = subprocess.run(
        [sys.executable, "-c", PROBE, *arguments],
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
        env=dict(os.environ),
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    return code, set(modules)


@pytest.mark.parametrize(
    "arguments",
    [("get", "k", "-r", "1"), ("put", "k", "v"), ("del", "k"), ("scan", "--limit", "3")],
    ids=lambda a: a[0],
)
def test_a_data_command_loads_nothing_it_does_not_need(arguments: tuple[str, ...]) -> None:
    code, modules = modules_loaded_by(*arguments)
    assert code == 5, "there is no cluster"
    assert "kvctl.client" in modules, "the probe must get as far as the client"
    roots = {module.split(".")[0] for module in modules}
    assert roots.isdisjoint({*HEAVY, "pydantic"})
    for other in ("lifecycle", "nodes", "status", "ring", "transfer", "conflicts", "bench"):
        assert f"kvctl.cli.{other}" not in modules


@pytest.mark.parametrize("arguments", [("--help",), ("get", "--help")], ids=lambda a: a[0])
def test_help_loads_no_client_and_nothing_heavy(arguments: tuple[str, ...]) -> None:
    code, modules = modules_loaded_by(*arguments)
    assert code == 0
    assert modules.isdisjoint({*HEAVY, "zmq", "kvctl.client"})
