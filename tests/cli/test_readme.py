"""A command that the README does not name does not exist for its readers."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvctl.cli.app import COMMANDS

README = Path(__file__).parents[2] / "README.md"


@pytest.mark.parametrize("name", COMMANDS)
def test_the_readme_names_every_command(name: str) -> None:
    assert f"kvctl {name}" in README.read_text(encoding="utf-8")
