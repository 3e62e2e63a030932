"""What a scenario has given names to: its keys, and values taken from the output of its commands.

`$owner` stands for a value anywhere in a command, a check or the words around them; `$$` is a
dollar sign. A text that consists of one variable becomes its value as it is, a list or a number,
too; within other text the value is written out.
"""

from __future__ import annotations

import re
from typing import Any

from kvctl_node.errors import ConfigError

VARIABLE = re.compile(r"\$(?:(?P<name>[a-z][a-z0-9_]*)|(?P<dollar>\$)|(?P<wrong>))")
NAME = re.compile(r"[a-z][a-z0-9_]*\Z")


def names_in(text: str) -> list[str]:
    """The variables that a text mentions. Raises `ConfigError` for a dollar that starts none."""
    names = []
    for match in VARIABLE.finditer(text):
        if match["wrong"] is not None:
            raise ConfigError(
                f"a $ in {text!r} begins no name.", hint="write $$ for a dollar sign itself."
            )
        if match["name"]:
            names.append(match["name"])
    return names


class Variables:
    """Names and their values, while a scenario is played."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = dict(values)

    def set(self, name: str, value: Any) -> None:
        """Give a name to a value, or another value to the name."""
        self._values[name] = value

    def with_values(self, values: dict[str, Any]) -> Variables:
        """These variables, and more of them."""
        return Variables({**self._values, **values})

    def fill(self, text: str) -> str:
        """The text with every variable written out."""
        return VARIABLE.sub(self._written, text)

    def fill_all(self, value: Any) -> Any:
        """The same for every text within a value; a text that is one variable becomes its value."""
        if isinstance(value, list):
            return [self.fill_all(one) for one in value]
        if not isinstance(value, str):
            return value
        match = VARIABLE.fullmatch(value)
        if match is not None and match["name"]:
            return self._values[match["name"]]
        return self.fill(value)

    def _written(self, match: re.Match[str]) -> str:
        if match["dollar"]:
            return "$"
        value = self._values[match["name"]]
        if isinstance(value, list):
            return ",".join(str(one) for one in value)
        return str(value)
