"""Keys that try to be more than keys."""

from __future__ import annotations

ESCAPES = "a\x1b[2J\x1b]0;pwned\x07"
"""Clears the screen and sets the title of the window."""
EIGHT_BIT = "b\x9b31m"
"""The same with one character for ESC and [."""
NEW_LINE = "c\nerror: all is lost"
OVERWRITING = "d\rgood"
RIGHT_TO_LEFT = "e\u202egnp.exe"
MARKUP = "cart[red]"
CLOSING_MARKUP = "x[/]"
APOSTROPHE = "it's"
COMMAND = "$(touch pwned)"
BACKTICKS = "`touch pwned`"
DASH = "-o json"
OTHER_COMMAND = "kvctl get x"
INVISIBLE = "f\u200bg\u2028h"

HOSTILE_KEYS = (
    ESCAPES,
    EIGHT_BIT,
    NEW_LINE,
    OVERWRITING,
    RIGHT_TO_LEFT,
    MARKUP,
    CLOSING_MARKUP,
    APOSTROPHE,
    COMMAND,
    BACKTICKS,
    DASH,
    OTHER_COMMAND,
    INVISIBLE,
)
UNPRINTABLE = "-" + "".join(key for key in HOSTILE_KEYS if not key.isprintable())
