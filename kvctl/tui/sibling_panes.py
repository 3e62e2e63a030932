"""Siblings side by side: a column for each version, its clock as bars, its value below.

Whoever reads this chooses by what is shown. So a value is wrapped by cells, every character of it
is there, and where there is no room for all of it the last line says how much is missing.
"""

from __future__ import annotations

from itertools import zip_longest

from rich.text import Text

from kvctl.text.cells import cut, cut_middle, fitted, steady, width_of, wrapped
from kvctl.tui.glyphs import BAD, DIM, OK, WARN, Glyphs
from kvctl.tui.node_rows import bytes_text
from kvctl.view.observation import KeyConflict, VersionSeen
from kvctl.view.sibling_clocks import bar, clock_of, common_past

COLUMN_WIDTH_MIN = 24
BRIEF_WIDTH = 24
_NAME_WIDTH = 7

Line = list[tuple[str, str]]
"""Pieces of text with their styles."""


def columns_that_fit(width: int, versions: int) -> int:
    """How many versions fit side by side."""
    return max(1, min(versions, width // (COLUMN_WIDTH_MIN + 1)))


def sibling_lines(
    conflict: KeyConflict, chosen: int, width: int, glyphs: Glyphs, height: int
) -> list[Text]:
    """The versions of a key in at most `height` lines of `width` cells.

    `chosen` is the place of the one that would be taken.
    """
    fitting = columns_that_fit(width, len(conflict.versions))
    first = min(max(0, chosen - fitting + 1), len(conflict.versions) - fitting)
    places = range(first, first + fitting)
    column = (width - fitting + 1) // fitting
    past = " ".join(f"{node}:{count}" for node, count in _nonzero(common_past(conflict)))
    head = Text(end="")
    head.append(cut_middle(steady(conflict.key), width // 2, glyphs.ellipsis), "bold")
    head.append(f"  {len(conflict.versions)} versions, common past ", DIM)
    head.append(past or "none")
    if fitting < len(conflict.versions):
        head.append(f"  {first + 1}-{first + fitting} are shown", WARN)
    rows = max(1, height - 1)
    columns = [_column(conflict, place, place == chosen, column, rows, glyphs) for place in places]
    return [head, *(_row(lines, column, glyphs) for lines in zip_longest(*columns, fillvalue=[]))]


def brief(version: VersionSeen, glyphs: Glyphs) -> str:
    """A version's value in a table: all of it, or its beginning and its size."""
    if version.value is None:
        return "(deleted)"
    # No more than can be shown, and one character to tell that there is more.
    shown = steady(version.value[: BRIEF_WIDTH + 1])
    if width_of(shown) <= BRIEF_WIDTH and len(version.value) <= BRIEF_WIDTH:
        return shown
    return f"{cut(shown + ' ', BRIEF_WIDTH, glyphs.ellipsis)}{_size_text(version)}"


def _nonzero(past: dict[str, int]) -> list[tuple[str, int]]:
    return [(node, count) for node, count in sorted(past.items()) if count]


def _row(lines: tuple[Line, ...], column: int, glyphs: Glyphs) -> Text:
    """One line of every column, each cut or filled up to its width."""
    row = Text(end="")
    for place, line in enumerate(lines):
        if place:
            row.append(glyphs.separator, DIM)
        left = column
        for piece, style in line:
            shown = cut(piece, left)
            row.append(shown, style)
            left -= width_of(shown)
        row.append(" " * left)
    return row


def _column(
    conflict: KeyConflict, place: int, is_chosen: bool, width: int, rows: int, glyphs: Glyphs
) -> list[Line]:
    """At most so many lines; the last says so if there are more."""
    version = conflict.versions[place]
    lines = [*_clock_lines(conflict, place, is_chosen, width, glyphs)]
    lines.append([("-" * width, DIM)])
    lines += _value_lines(version, width, glyphs)
    if len(lines) > rows:
        missing = len(lines) - rows + 1
        told = f"{glyphs.ellipsis} {missing} more lines, value of {_size_text(version)}"
        lines[rows - 1 :] = [[(told, WARN)]]
    return lines


def _clock_lines(
    conflict: KeyConflict, place: int, is_chosen: bool, width: int, glyphs: Glyphs
) -> list[Line]:
    version = conflict.versions[place]
    head = steady(f" {version.dot[0]}:{version.dot[1]} ")
    style = "bold reverse" if is_chosen else "bold"
    lines: list[Line] = [[((">" if is_chosen else " "), "bold"), (head, style)]]
    filled, empty = glyphs.bar
    signs = (filled, "@" if glyphs.ascii else "◆", empty)
    for entry in clock_of(conflict, place):
        count = f"{entry.counter:>5} "
        bar_width = max(3, width - _NAME_WIDTH - len(count) - 9)
        line: Line = [(fitted(steady(entry.node), _NAME_WIDTH), ""), (count, "")]
        line.append((bar(entry, bar_width, signs), BAD if entry.breaks_dominance else OK))
        if entry.breaks_dominance:
            line.append((" breaks", f"bold {BAD}"))
        lines.append(line)
    return lines


def _value_lines(version: VersionSeen, width: int, glyphs: Glyphs) -> list[Line]:
    if version.value is None:
        return [[("deleted", f"bold {WARN}")]]
    lines: list[Line] = []
    if version.enc != "utf-8":
        lines.append([("bytes, as base64:", DIM)])
    for line in version.value.split("\n"):
        lines += [[(piece, "")] for piece in wrapped(steady(line), width)]
    if version.is_cut:
        told = f"{glyphs.ellipsis} only the beginning, value of {_size_text(version)}"
        lines.append([(told, WARN)])
    return lines


def _size_text(version: VersionSeen) -> str:
    """How large the whole value is."""
    size = version.size_bytes
    return "unknown size" if size is None else bytes_text(size)
