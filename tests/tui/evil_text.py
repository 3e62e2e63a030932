"""Text that drives a terminal, breaks a row or is wider than it seems, and what a screen shows."""

from __future__ import annotations

from wcwidth import wcswidth

from kvctl.text.cells import steady

FAMILY = "fam\U0001f468\u200d\U0001f469\u200d\U0001f467"
CLEARS = "a\x1b[2J\x1b]0;pwned\a"
KEYS = (
    CLEARS,
    "line1\nline2",
    "rtl\u202eabc",
    "x[/]",
    "cart[red]",
    FAMILY,
    "flag\U0001f1e9\U0001f1ea",
    "heart\u2764\ufe0f",
    "\u0301mark",
    "tab\tnel\x85csi\x9b31m",
    "it's $(id)",
    "购物车" * 12,
    "-dash",
)


def flaws(lines: list[str], width: int) -> list[str]:
    """The lines that a terminal would not show as they were laid out."""
    return [line for line in lines if steady(line) != line or wcswidth(line) > width]
