r"""Text laid out in terminal cells: how wide it is, and where it can be cut.

A screen is a grid, and a program that draws on it has to know how many cells a text takes. Of most
characters every terminal says the same; of some they do not: emoji joined by ZWJ, flags, variation
selectors, skin tones and spacing marks take as many cells as the terminal, and the version of
Unicode it knows, happen to give them. One cell of difference shifts the rest of the row, and leaves
behind what the next picture does not cover. So `steady` shows them by their code, as `printable`
does with what drives a terminal, and what it returns is exactly `width_of` cells wide:

    cart:🛒 中文      as it is: 5 + 2 + 1 + 4 cells
    \U0001f1e9...    a flag: two letters of which one cannot say if they are one
    e\u0301          one cell, if a letter is before it; at the beginning a mark would join whatever
                     stands on the left, so there it is shown by its code

Every other function here takes steady text, and none cuts a mark off its letter.

Source of the widths: Unicode Standard Annex #11, East Asian Width.
"""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from kvctl.text.escaping import code_of

MARKS_MAX = 3
"""Marks on one letter; more of them are drawn over the rows above and below."""
_UNSTEADY = (
    (0x034F, 0x034F),  # combining grapheme joiner
    (0x115F, 0x115F),  # Hangul fillers
    (0x1160, 0x1160),
    (0x17B4, 0x17B5),  # Khmer vowels that are not seen
    (0x180B, 0x180F),  # Mongolian variation selectors
    (0x2630, 0x2637),  # trigrams and the like: one cell until Unicode 16, then two
    (0x268A, 0x268F),
    (0x3164, 0x3164),
    (0x3248, 0x324F),  # circled numbers, of ambiguous width
    (0x4DC0, 0x4DFF),
    (0xFE00, 0xFE0F),  # variation selectors
    (0xFFA0, 0xFFA0),  # another Hangul filler
    (0x1171E, 0x1171E),  # a mark that was a spacing one
    (0x1D300, 0x1D376),
    (0x1F1E6, 0x1F1FF),  # letters that are flags in pairs
    (0x1F3FB, 0x1F3FF),  # skin tones
    (0xE0100, 0xE01EF),
)
_JAMO = ((0x1161, 0x11FF), (0xD7B0, 0xD7FB))
"""Vowels and finals that join the Hangul syllable before them."""


def steady(text: str) -> str:
    r"""The text on one line, with a code in place of what cannot be printed at a certain width.

    Text without such characters is returned as it is; so is text that is steady already.
    """
    if text.isascii() and text.isprintable():
        return text
    shown = []
    marks = MARKS_MAX
    for character in text:
        cells = _cells_of(character)
        if cells == 0:
            marks += 1
            is_shown = marks <= MARKS_MAX
        else:
            is_shown = cells is not None
            marks = 0 if is_shown and character.isalnum() else MARKS_MAX
        shown.append(character if is_shown else code_of(character))
    return "".join(shown)


def width_of(text: str) -> int:
    """How many cells steady text takes."""
    if text.isascii():
        return len(text)
    return sum(_cells_of(character) or 0 for character in text)


def cut(text: str, width: int, mark: str = "~") -> str:
    """Steady text of at most so many cells; what is cut off its end leaves a mark."""
    if width_of(text) <= width:
        return text
    return _head(text, width - width_of(mark)) + mark if width > 0 else ""


def cut_middle(text: str, width: int, mark: str = "~") -> str:
    """Steady text of at most so many cells; what is cut out leaves a mark, both ends stay.

    For keys: it is at the end that they differ.
    """
    if width_of(text) <= width:
        return text
    left = width - width_of(mark)
    if left <= 0:
        return mark if width > 0 else ""
    head = _head(text, left // 2)
    return head + mark + _tail(text, left - width_of(head))


def fitted(text: str, width: int, mark: str = "~", *, right: bool = False) -> str:
    """Steady text in exactly so many cells."""
    shown = cut(text, width, mark)
    padding = " " * (width - width_of(shown))
    return padding + shown if right else shown + padding


def wrapped(text: str, width: int) -> list[str]:
    """Steady text in pieces of at most so many cells, at least one; joined they are the text.

    A character wider than `width` has a piece of its own.
    """
    pieces, piece, used = [], "", 0
    for cluster, cells in _clusters(text):
        if piece and used + cells > width:
            pieces.append(piece)
            piece, used = "", 0
        piece, used = piece + cluster, used + cells
    return [*pieces, piece]


def _head(text: str, width: int) -> str:
    shown, used = "", 0
    for cluster, cells in _clusters(text):
        used += cells
        if used > width:
            break
        shown += cluster
    return shown


def _tail(text: str, width: int) -> str:
    shown, used = "", 0
    for cluster, cells in reversed(_clusters(text)):
        used += cells
        if used > width:
            break
        shown = cluster + shown
    return shown


def _clusters(text: str) -> list[tuple[str, int]]:
    """Each character with the marks on it, and its width."""
    clusters: list[tuple[str, int]] = []
    for character in text:
        cells = _cells_of(character) or 0
        if clusters and not cells:
            before, width = clusters[-1]
            clusters[-1] = (before + character, width)
        else:
            clusters.append((character, cells))
    return clusters


@lru_cache(maxsize=4096)
def _cells_of(character: str) -> int | None:
    """0 if it is drawn onto the character before it; None if terminals differ about it."""
    if not character.isprintable():
        return None
    code, category = ord(character), unicodedata.category(character)
    if category == "Mc" or _is_in(code, _UNSTEADY):
        return None
    if category in ("Mn", "Me") or _is_in(code, _JAMO):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_in(code: int, ranges: tuple[tuple[int, int], ...]) -> bool:
    return any(first <= code <= last for first, last in ranges)
