"""What a quick command or a test suite that only installed kvctl must not pay for."""

from __future__ import annotations

import subprocess
import sys

import pytest

import kvctl

PROCESS_CONTROL = ("psutil", "sqlitedict", "textual", "typer", "asyncio")


def modules_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=30
    )
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("statement", "unwanted"),
    [
        ("import kvctl", (*PROCESS_CONTROL, "zmq", "msgspec", "kvctl_node")),
        ("import kvctl.cluster.directory", (*PROCESS_CONTROL, "zmq", "sqlite3", "platformdirs")),
        (
            "import kvctl.pytest_plugin",
            (*PROCESS_CONTROL, "zmq", "msgspec", "kvctl_node", "kvctl.errors"),
        ),
    ],
)
def test_importing_it_loads_no_more_than_it_needs(
    statement: str, unwanted: tuple[str, ...]
) -> None:
    baseline = modules_after("import pytest") if "pytest" in statement else set()
    assert (modules_after(statement) - baseline).isdisjoint(unwanted)


def test_every_public_name_of_the_package_can_be_loaded() -> None:
    for name in kvctl.__all__:
        assert getattr(kvctl, name) is not None
    assert set(kvctl.__all__) <= set(dir(kvctl))


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        kvctl.nothing  # noqa: B018
