"""kvctl beside a project of a user: it takes no name and loads nothing that was not asked for."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from importlib.metadata import distribution
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMON_NAMES = (
    "admin", "bench", "cli", "client", "cluster", "config", "demos", "errors", "node", "protocol",
    "ring", "runtime", "storage", "tests", "text", "tui", "view",
)  # fmt: skip
"""Names of packages that users have, each of which names something of ours, too."""
OURS = ("kvctl", "kvctl_node")
DEPENDENCIES = ("mmh3", "msgspec", "psutil", "sqlitedict", "textual", "typer", "zmq")
"""Not platformdirs, which brings a plugin of its own."""

USES_ITS_OWN_MODULES = """
import importlib
import pytest

@pytest.mark.parametrize("name", {names!r})
def test_the_projects_own_package_is_imported(name):
    assert importlib.import_module(name).OWNER == "the user"
"""
SEES_WHAT_IS_LOADED = """
import sys

def test_only_the_plugin_itself_is_loaded():
    loaded = {{name for name in sys.modules if name.partition(".")[0] in {names!r}}}
    assert loaded == {{"kvctl", "kvctl.pytest_plugin"}}
"""
USES_THE_FIXTURE = """
import node

def test_a_cluster(kvctl_cluster):
    client = kvctl_cluster.client()
    client.put("k", b"v")
    assert client.get("k").value == b"v"
    assert node.OWNER == "the user"
"""
DOES_NOT_USE_IT = """
def test_of_the_users_own():
    pass
"""


class Project:
    """A directory with packages and tests of a user."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in COMMON_NAMES:
            self.write(f"{name}/__init__.py", 'OWNER = "the user"\n')

    def write(self, path: str, text: str) -> None:
        file = self.directory / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def python(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Python as the user runs it there."""
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env={
                **{name: value for name, value in os.environ.items() if "PYTEST" not in name},
                "KVCTL_HOME": str(self.directory / "home"),
                "PYTHONPATH": str(self.directory),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    def pytest(self, *files: str) -> tuple[int, str]:
        done = self.python("-m", "pytest", "-q", *files)
        return done.returncode, done.stdout + done.stderr


@pytest.fixture
def project(tmp_path: Path) -> Project:
    return Project(tmp_path)


def test_the_plugin_is_loaded_by_its_entry_point() -> None:
    [plugin] = [one for one in distribution("kvctl").entry_points if one.group == "pytest11"]
    assert plugin.value == "kvctl.pytest_plugin"


def test_a_project_with_packages_of_common_names_is_tested_with_and_without_a_cluster(
    project: Project,
) -> None:
    project.write("tests/test_own.py", USES_ITS_OWN_MODULES.format(names=COMMON_NAMES))
    project.write("tests/test_cluster.py", USES_THE_FIXTURE)
    code, output = project.pytest()
    assert code == 0, output
    assert f"{len(COMMON_NAMES) + 1} passed" in output


@pytest.mark.parametrize("name", ["node", "tests", "cli"])
def test_a_module_of_a_common_name_does_not_disturb_the_commands(
    project: Project, name: str
) -> None:
    (project.directory / name / "__init__.py").unlink()
    (project.directory / name).rmdir()
    project.write(f"{name}.py", "raise RuntimeError('imported by somebody else than the user')")
    up = project.python("-m", "kvctl", "-c", "beside", "up", "-n", "1")
    try:
        assert up.returncode == 0, up.stderr
        assert project.python("-m", "kvctl", "put", "k", "v").returncode == 0
    finally:
        down = project.python("-m", "kvctl", "-c", "beside", "down", "--purge")
    assert down.returncode == 0, down.stderr


def test_a_test_run_that_uses_no_cluster_loads_nothing_of_kvctl(project: Project) -> None:
    project.write("tests/test_loaded.py", SEES_WHAT_IS_LOADED.format(names=(*OURS, *DEPENDENCIES)))
    code, output = project.pytest()
    assert code == 0, output


def test_broken_dependencies_do_not_break_a_test_run_that_uses_no_cluster(
    project: Project,
) -> None:
    for name in DEPENDENCIES:
        project.write(f"{name}.py", "raise ImportError('a broken installation')")
    project.write("tests/test_own.py", DOES_NOT_USE_IT)
    code, output = project.pytest()
    assert code == 0, output


def test_a_broken_dependency_fails_the_test_that_uses_a_cluster_and_no_other(
    project: Project,
) -> None:
    project.write("zmq.py", "raise ImportError('a broken installation')")
    project.write("tests/test_own.py", DOES_NOT_USE_IT)
    project.write("tests/test_cluster.py", USES_THE_FIXTURE)
    code, output = project.pytest()
    assert code == 1
    assert "1 passed, 1 error" in output
    assert "a broken installation" in output


def test_nothing_but_our_own_two_packages_is_installed() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]
    assert set(settings) == {"packages", "package-data"}
    found = settings["packages"]["find"]
    packages = {
        path.name
        for where in found["where"]
        for path in (ROOT / where).iterdir()
        if any(fnmatchcase(path.name, pattern) for pattern in found["include"])
        and any(path.glob("*.py"))
    }
    assert packages == set(OURS)
    top_level = distribution("kvctl").read_text("top_level.txt")
    assert top_level is not None
    assert set(top_level.split()) == set(OURS)
