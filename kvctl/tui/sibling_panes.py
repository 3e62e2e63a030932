"""Siblings side by side: a column for each version, its clock as bars, its value below."""

from __future__ import annotations

from itertools import zip_longest

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from kvctl.tui.glyphs import BAD, DIM, OK, WARN, Glyphs
from kvctl.view.observation import KeyConflict, VersionSeen
from kvctl.view.sibling_clocks import bar, clock_of, common_past

COLUMN_WIDTH_MIN = 24
VALUE_LINES_MAX = 200
_NAME_WIDTH = 7

Line = list[tuple[str, str]]
"""Pieces of text with their styles."""


def columns_that_fit(width: int, versions: int) -> int:
    """How many versions fit side by side."""
    return max(1, min(versions, width // (COLUMN_WIDTH_MIN + 1)))


def siblings_text(
    conflict: KeyConflict, chosen: int, width: int, glyphs: Glyphs, height: int
) -> Text:
    """The versions of a key; `chosen` is the place of the one that would be taken."""
    fitting = columns_that_fit(width, len(conflict.versions))
    first = min(max(0, chosen - fitting + 1), len(conflict.versions) - fitting)
    places = range(first, first + fitting)
    column = (width - fitting + 1) // fitting
    text = Text(no_wrap=True, end="")
    past = " ".join(f"{node}:{count}" for node, count in _nonzero(common_past(conflict)))
    text.append(f"{conflict.key}", "bold")
    text.append(f"  {len(conflict.versions)} versions, common past ", DIM)
    text.append(past or "none")
    if fitting < len(conflict.versions):
        text.append(f"  {first + 1}-{first + fitting} are shown", WARN)
    columns = [_column(conflict, place, place == chosen, column, glyphs) for place in places]
    for lines in list(zip_longest(*columns, fillvalue=[]))[: max(1, height - 1)]:
        text.append("\n")
        for place, line in enumerate(lines):
            if place:
                text.append(glyphs.separator, DIM)
            _append(text, line, column)
    return text


def _nonzero(past: dict[str, int]) -> list[tuple[str, int]]:
    return [(node, count) for node, count in sorted(past.items()) if count]


def _append(text: Text, line: Line, width: int) -> None:
    """The pieces of a line, cut or filled up to the width."""
    left = width
    for piece, style in line:
        shown = piece if cell_len(piece) <= left else set_cell_size(piece, left)
        text.append(shown, style)
        left -= cell_len(shown)
    text.append(" " * left)


def _column(
    conflict: KeyConflict, place: int, is_chosen: bool, width: int, glyphs: Glyphs
) -> list[Line]:
    version = conflict.versions[place]
    head = f" {version.dot[0]}:{version.dot[1]} "
    style = "bold reverse" if is_chosen else "bold"
    lines: list[Line] = [[((">" if is_chosen else " "), "bold"), (head, style)]]
    filled, empty = glyphs.bar
    signs = (filled, "@" if glyphs.ascii else "◆", empty)
    for entry in clock_of(conflict, place):
        count = f"{entry.counter:>5} "
        bar_width = max(3, width - _NAME_WIDTH - len(count) - 9)
        line: Line = [(f"{entry.node:<{_NAME_WIDTH}}", ""), (count, "")]
        line.append((bar(entry, bar_width, signs), BAD if entry.breaks_dominance else OK))
        if entry.breaks_dominance:
            line.append((" breaks", f"bold {BAD}"))
        lines.append(line)
    lines.append([("-" * width, DIM)])
    lines += [[(line, style)] for line, style in _value_lines(version, width)]
    return lines


def _value_lines(version: VersionSeen, width: int) -> list[tuple[str, str]]:
    if version.value is None:
        return [("deleted", f"bold {WARN}")]
    lines = []
    if version.enc != "utf-8":
        lines.append(("bytes, as base64:", DIM))
    for line in version.value.split("\n"):
        shown = "".join(one if one.isprintable() else "?" for one in line)
        pieces = [shown[at : at + width] for at in range(0, len(shown), width)] or [""]
        lines += [(piece, "") for piece in pieces]
    if version.is_cut:
        lines.append(("... and more", DIM))
    return lines[:VALUE_LINES_MAX]
