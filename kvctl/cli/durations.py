"""Durations as people write them: `200ms`, `5s`, `10m`, `1h30m`.

A bare number counts as seconds. Zero, negative and unitless-but-odd spellings are refused with a
sentence, since a mistyped timeout that silently means something else is a bad afternoon.
"""

from __future__ import annotations

import re

from kvctl_node.errors import InvalidRequestError

_SECONDS_PER_UNIT = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_WHOLE = re.compile(rf"(?:{_PART.pattern})+")
_NUMBER = re.compile(r"\d+(?:\.\d+)?")
DURATION_MAX_S = 365 * 86400.0


def parse_duration(text: str, *, option: str) -> float:
    """Seconds in `text`; `option` names it in the error (`InvalidRequestError`, exit code 2)."""
    stripped = text.strip().lower()
    if _NUMBER.fullmatch(stripped):
        seconds = float(stripped)
    elif _WHOLE.fullmatch(stripped):
        seconds = sum(
            float(number) * _SECONDS_PER_UNIT[unit] for number, unit in _PART.findall(stripped)
        )
    else:
        raise InvalidRequestError(
            f"{option} is not a duration: {text!r}.",
            hint="write a number and a unit, such as 200ms, 5s, 10m or 1h30m.",
        )
    if not 0 < seconds <= DURATION_MAX_S:
        raise InvalidRequestError(f"{option} must be more than zero and at most a year: {text!r}.")
    return seconds


def format_duration(seconds: float) -> str:
    """A duration for people, in the largest unit that keeps it short: `350ms`, `2.5s`, `3m20s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.3g}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    parts = ((hours, "h"), (minutes, "m"), (rest, "s"))
    return "".join(f"{value}{unit}" for value, unit in parts if value)
