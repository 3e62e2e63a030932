"""One thing to be seen in a command's output, and what follows if it is not.

A step has two sorts of checks of the same form. `check`: the claims of the scenario; one that fails
refutes it. `require`: what must be the case for the claims to mean anything, such as a fault that
really held messages back; one that is not met leaves the scenario undecided. And what a check
cannot find in the output is neither true nor false: undecided, too.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from kvctl.demos.selection import NothingThereError, check_selection, select
from kvctl.demos.variables import Variables
from kvctl.errors import ExitCode
from kvctl_node.errors import ConfigError


class Verdict(StrEnum):
    """What a check, and a whole scenario, comes to."""

    HOLDS = "holds"
    NO = "no"
    UNDECIDED = "undecided"

    @property
    def exit_code(self) -> ExitCode:
        """What the command ends with."""
        return _EXIT_CODES[self]


_EXIT_CODES = {
    Verdict.HOLDS: ExitCode.DONE,
    Verdict.NO: ExitCode.NO,
    Verdict.UNDECIDED: ExitCode.UNDECIDED,
}


class Check(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`value` selects from the output; exactly one of the others says how it is to be."""

    claim: str
    """One sentence for people: what is thereby known."""
    value: str
    equals: Any = UNSET
    differs_from: Any = UNSET
    any_order: list[Any] | UnsetType = UNSET
    """These, in any order, and nothing else."""
    contains: Any = UNSET
    """A list that has this entry, or text that has this part."""
    lacks: Any = UNSET
    at_least: int | float | UnsetType = UNSET
    at_most: int | float | UnsetType = UNSET
    less_than: str | UnsetType = UNSET
    """Another selection from the same output."""

    def validate(self) -> None:
        """Raises `ConfigError`, or `SelectionSyntaxError`, when the check makes no sense."""
        given = [name for name in _COMPARISONS if getattr(self, name) is not UNSET]
        if len(given) != 1:
            raise ConfigError(
                f"the check {self.claim!r} needs exactly one comparison, not {len(given)}.",
                hint=f"one of {', '.join(_COMPARISONS)}.",
            )
        if not self.claim.strip():
            raise ConfigError("a check needs a claim: one sentence for people.")
        check_selection(self.value.replace("$", ""))
        if self.less_than is not UNSET:
            check_selection(self.less_than.replace("$", ""))

    def texts(self) -> list[str]:
        """Everything in which variables may stand."""
        expected = [getattr(self, name) for name in _COMPARISONS]
        return [self.claim, self.value, *_strings(expected)]


class Finding(msgspec.Struct, frozen=True):
    """What became of one check. `found` is what was there, for people and for JSON."""

    step: int
    """Counted from 1."""
    claim: str
    verdict: Verdict
    found: Any = None
    problem: str = ""
    """What is wrong with it, for people; "" when nothing is."""


_COMPARISONS = {
    "equals": "equal",
    "differs_from": "differ from",
    "any_order": "be, in any order,",
    "contains": "contain",
    "lacks": "not contain",
    "at_least": "be at least",
    "at_most": "be at most",
    "less_than": "be less than",
}
"""Comparison → how it goes on after 'it should'."""


def judge(
    check: Check, document: Any, variables: Variables, *, step: int, refutes: bool
) -> Finding:
    """Compare a command's output with a check; if it `refutes`, a failure is a No."""
    claim = variables.fill(check.claim)
    try:
        found = select(document, variables.fill(check.value))
        comparison, expected = _expectation(check, document, variables)
    except NothingThereError as error:
        return Finding(step, claim, Verdict.UNDECIDED, None, f"nothing to look at: {error.message}")
    if _holds(comparison, found, expected):
        return Finding(step, claim, Verdict.HOLDS, found)
    problem = f"it should {_COMPARISONS[comparison]} {msgspec.json.encode(expected).decode()}"
    return Finding(step, claim, Verdict.NO if refutes else Verdict.UNDECIDED, found, problem)


def _expectation(check: Check, document: Any, variables: Variables) -> tuple[str, Any]:
    comparison = next(name for name in _COMPARISONS if getattr(check, name) is not UNSET)
    expected = variables.fill_all(getattr(check, comparison))
    if comparison == "less_than":
        return comparison, select(document, expected)
    return comparison, expected


def _holds(comparison: str, found: Any, expected: Any) -> bool:
    match comparison:
        case "equals":
            return bool(found == expected)
        case "differs_from":
            return bool(found != expected)
        case "any_order":
            return isinstance(found, list) and _sorted(found) == _sorted(expected)
        case "contains":
            return isinstance(found, list | str) and expected in found
        case "lacks":
            return isinstance(found, list | str) and expected not in found
    if not _is_number(found) or not _is_number(expected):
        return False
    if comparison == "at_least":
        return bool(found >= expected)
    if comparison == "at_most":
        return bool(found <= expected)
    return bool(found < expected)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _sorted(values: list[Any]) -> list[bytes]:
    """Values of any kind in one order: that of their encoding."""
    return sorted(msgspec.json.encode(value) for value in values)


def _strings(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for one in value for text in _strings(one)]
    return []
