"""Who may import what: the core stays pure, and imports go downward only.

Read from the syntax trees, so an import counts wherever it stands, in a function too; only what is
under `if TYPE_CHECKING:` does not run and does not count.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCE_ROOTS = (ROOT, ROOT / "node")
"""Where the packages lie: `kvctl` at the top, `kvctl_node` in the folder `node`."""
WORLD = {
    "asyncio",
    "ctypes",
    "datetime",
    "multiprocessing",
    "os",
    "random",
    "secrets",
    "select",
    "selectors",
    "shutil",
    "signal",
    "socket",
    "sqlite3",
    "subprocess",
    "tempfile",
    "threading",
    "time",
    "uuid",
    "zmq",
}
"""Modules through which time, chance, threads, the disk and the network come in."""

PURE_FOR_KVCTL = (
    "kvctl_node.causality",
    "kvctl_node.config",
    "kvctl_node.documents",
    "kvctl_node.errors",
    "kvctl_node.outbox",
    "kvctl_node.ports",
    "kvctl_node.protocol",
    "kvctl_node.ring",
)
"""What kvctl may use of the node; and two modules of its runtime: one makes and loads keys, the
other knows how many open files a node needs."""
RUNTIME_FOR_KVCTL = ("kvctl_node.runtime.security", "kvctl_node.runtime.open_files")


def sources(package: str) -> list[Path]:
    found = sorted(path for root in SOURCE_ROOTS for path in (root / package).rglob("*.py"))
    assert found, f"no sources of {package}"
    return found


def module_parts(path: Path) -> tuple[str, ...]:
    """("kvctl_node", "ring", "claim") for the file of that module."""
    [root] = [root for root in reversed(SOURCE_ROOTS) if path.is_relative_to(root)][:1]
    return path.relative_to(root).with_suffix("").parts


def is_type_checking(test: ast.expr) -> bool:
    return (isinstance(test, ast.Name) and test.id == "TYPE_CHECKING") or (
        isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"
    )


def running_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes below that can run."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_type_checking(child.test):
            for branch in child.orelse:
                yield branch
                yield from running_nodes(branch)
        else:
            yield child
            yield from running_nodes(child)


def imports_of(path: Path) -> set[str]:
    """Every module a file may import when it runs, with the names taken from it appended."""
    tree = ast.parse(path.read_bytes(), str(path))
    package = module_parts(path)
    found: set[str] = set()
    for node in running_nodes(tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: -node.level]) if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{module}.{alias.name}" for alias in node.names)
    return found


def is_within(module: str, package: str) -> bool:
    return module == package or module.startswith(package + ".")


def is_used_for_types_only(path: Path, module: str) -> bool:
    """Whether every mention of `module` stands in an annotation."""
    tree = ast.parse(path.read_bytes(), str(path))
    mentions = {
        id(node) for node in ast.walk(tree) if isinstance(node, ast.Name) and node.id == module
    }
    for node in ast.walk(tree):
        annotations: list[ast.expr | None] = []
        if isinstance(node, ast.FunctionDef):
            annotations = [node.returns]
        elif isinstance(node, ast.arg | ast.AnnAssign):
            annotations = [node.annotation]
        for annotation in annotations:
            if annotation is not None:
                mentions -= {id(one) for one in ast.walk(annotation)}
    return not mentions


def core_sources() -> list[Path]:
    """The pure part of the node."""
    outside = ("runtime", "storage")
    return [
        path
        for path in sources("kvctl_node")
        if module_parts(path)[1] not in (*outside, "__main__")
    ]


def test_the_core_takes_no_time_chance_or_io_from_the_air() -> None:
    broken = []
    for path in core_sources():
        for module in imports_of(path):
            root = module.partition(".")[0]
            if root == "random" and is_used_for_types_only(path, "random"):
                continue  # the core is handed a random.Random; naming its type is no draw
            if root in WORLD:
                broken.append(f"{path.relative_to(ROOT)} imports {module}")
    assert broken == []


def test_the_core_imports_neither_runtime_nor_storage() -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in core_sources()
        for module in imports_of(path)
        if is_within(module, "kvctl_node.runtime") or is_within(module, "kvctl_node.storage")
    ]
    assert broken == []


def test_storage_and_runtime_do_not_know_each_other() -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {module}"
        for one, other in (("runtime", "storage"), ("storage", "runtime"))
        for path in sources(f"kvctl_node/{one}")
        for module in imports_of(path)
        if is_within(module, f"kvctl_node.{other}")
    ]
    assert broken == []


@pytest.mark.parametrize(
    ("module", "places"),
    [
        ("zmq", ("node/kvctl_node/runtime",)),
        ("sqlite3", ("node/kvctl_node/storage",)),
        ("threading", ("node/kvctl_node/storage",)),
        ("asyncio", ()),
        ("signal", ("node/kvctl_node/runtime",)),
        ("subprocess", ("node/kvctl_node/runtime",)),
    ],
)
def test_in_the_node_each_door_to_the_world_is_in_one_place(
    module: str, places: tuple[str, ...]
) -> None:
    broken = [
        str(path.relative_to(ROOT))
        for path in sources("kvctl_node")
        if any(is_within(one, module) for one in imports_of(path))
        and not str(path.relative_to(ROOT)).startswith(places)
    ]
    assert broken == []


def test_the_node_never_imports_kvctl() -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("kvctl_node")
        for module in imports_of(path)
        if is_within(module, "kvctl")
    ]
    assert broken == []


def test_kvctl_uses_of_the_node_only_what_is_pure() -> None:
    broken = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("kvctl")
        for module in imports_of(path)
        if is_within(module, "kvctl_node")
        and not any(is_within(module, allowed) for allowed in (*PURE_FOR_KVCTL, *RUNTIME_FOR_KVCTL))
    ]
    assert broken == []


def test_what_kvctl_uses_for_keys_stays_small() -> None:
    """`kvctl_node.runtime.security` must not drag the rest of the runtime into kvctl."""
    imported = imports_of(ROOT / "node/kvctl_node/runtime/security.py")
    assert {module for module in imported if is_within(module, "kvctl_node")} == {
        "kvctl_node.config.NAME_PATTERN",
        "kvctl_node.documents.UNREADABLE",
        "kvctl_node.errors.ConfigError",
    }


@pytest.mark.parametrize(
    ("module", "unwanted"),
    [
        ("kvctl", {"textual", "typer", "psutil", "zmq", "sqlitedict"}),
        ("kvctl.client", {"textual", "typer", "psutil", "sqlitedict", "asyncio"}),
        ("kvctl_node.__main__", {"textual", "typer", "psutil", "sqlitedict", "asyncio", "kvctl"}),
    ],
)
def test_a_quick_start_stays_quick(module: str, unwanted: set[str]) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True, cwd=ROOT
    ).stdout.split()
    assert module in loaded
    assert {name.partition(".")[0] for name in loaded} & unwanted == set()


# ------------------------------------------------------------------ the reader of imports itself


def test_imports_are_found_wherever_they_stand() -> None:
    tree = ast.parse(
        "import time\n"
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import zmq\nelse:\n    import socket\n"
        "def f():\n    from os import path\n"
    )
    found = {
        alias.name
        for node in running_nodes(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    assert found == {"time", "socket"}
    assert any(
        isinstance(one, ast.ImportFrom) and one.module == "os" for one in running_nodes(tree)
    )
