"""Why a read returned what it did, in sentences: `kvctl get --explain`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kvctl.client import GetResult


def explain_read(result: GetResult) -> Iterator[str]:
    """One sentence per fact: whose key it is, who answered with what, who did not, and what won."""
    told = result.explanation or {}
    primaries = told.get("primaries", [])
    yield f"partition {told.get('partition')}, owned by {_names(primaries)}."
    yield f"{result.coordinator} asked them and waited for R={told.get('r')} answers."
    unreachable = told.get("unreachable", [])
    if unreachable:
        yield f"{_names(unreachable)} could not be reached."
    for node, answer in sorted(told.get("answers", {}).items()):
        yield f"{node} answered with {_answer(answer)}."
    silent = [node for node in told.get("silent", []) if node not in unreachable]
    if silent:
        yield f"{_names(silent)} had not answered when the answer was given."
    yield _outcome(result)


def _answer(answer: dict[str, Any]) -> str:
    version = answer.get("version")
    if version is None:
        return "no copy"
    clock = " ".join(f"{node}:{count}" for node, count in version) or "an empty clock"
    return f"{clock}, {'the current state' if answer.get('current') else 'an older or partial one'}"


def _outcome(result: GetResult) -> str:
    if not result.found:
        return "so the key is not found: no copy, or all versions are deletes."
    count = len(result.siblings)
    if count == 1:
        return "one version covers all others, and is the answer."
    return f"{count} versions know nothing of each other, so all of them are the answer."


def _names(nodes: Sequence[str]) -> str:
    return ", ".join(nodes) if nodes else "nobody"
