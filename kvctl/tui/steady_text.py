"""Styled text that is safe to draw: what every widget that shows text passes it through.

Keys, values, names and logs may hold anything. A terminal obeys some characters and breaks lines
at others, and of some nobody knows how many cells they take (`kvctl.text.cells`). In a table, a
pane, a dialog or a notice they are shown by their code, whoever made the text; so nobody else has
to remember.
"""

from __future__ import annotations

from rich.text import Span, Text

from kvctl.text.cells import steady


def steady_text(line: Text) -> Text:
    """One line with a code for what cannot be drawn; the very same if there is no such thing."""
    plain = line.plain
    shown = steady(plain)
    if shown == plain:
        return line
    # What a character becomes depends on what is before it alone: so it is of every beginning.
    spans = [
        Span(len(steady(plain[: span.start])), len(steady(plain[: span.end])), span.style)
        for span in line.spans
    ]
    return Text(
        shown,
        line.style,
        justify=line.justify,
        overflow=line.overflow,
        no_wrap=line.no_wrap,
        end=line.end,
        spans=spans,
    )
