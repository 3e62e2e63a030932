"""The scenarios that are shipped: every file in `scenarios/`, by its name."""

from __future__ import annotations

from difflib import get_close_matches
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable

from kvctl.demos.scenario import Scenario, load_scenario
from kvctl_node.errors import InvalidRequestError

ENDING = ".toml"


def scenario_names() -> list[str]:
    """The names of all of them, sorted."""
    return sorted(
        entry.name.removesuffix(ENDING)
        for entry in _directory().iterdir()
        if entry.name.endswith(ENDING)
    )


def shipped_scenario(name: str) -> Scenario:
    """Load one. Raises `InvalidRequestError` if there is none of that name."""
    with as_file(_file(name)) as path:
        return load_scenario(path)


def scenario_text(name: str) -> str:
    """The file as it is, to read or to change. Raises `InvalidRequestError`."""
    return _file(name).read_text(encoding="utf-8")


def _file(name: str) -> Traversable:
    names = scenario_names()
    if name not in names:
        close = get_close_matches(name, names, n=1)
        known = f"there are {', '.join(names)}."
        raise InvalidRequestError(
            f"there is no demo {name!r}.",
            hint=f"did you mean {close[0]}? {known}" if close else known,
        )
    return _directory() / f"{name}{ENDING}"


def _directory() -> Traversable:
    return files("kvctl.demos") / "scenarios"
