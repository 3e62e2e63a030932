"""Files the dashboard writes: always new ones, in the working directory."""

from __future__ import annotations

import os
import re
from pathlib import Path

from kvctl.errors import HomeError

_NUMBERS_MAX = 1000
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]")
_OUTSIDE_FONTS = re.compile(r"@font-face\s*\{[^}]*\}")


def write_new_file(stem: str, suffix: str, content: str) -> str:
    """Write `stem.suffix`, or `stem-2.suffix` if there is one already; its name.

    A stem is made of what a recording calls its cluster, too: it leads into no other directory.

    Only this user may read it, as keys may be in it. Raises `HomeError`.
    """
    stem = _NOT_IN_NAMES.sub("_", stem)
    for number in range(1, _NUMBERS_MAX):
        name = f"{stem}.{suffix}" if number == 1 else f"{stem}-{number}.{suffix}"
        try:
            descriptor = os.open(Path(name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            continue
        except OSError as error:
            raise HomeError(f"cannot write {name}: {error.strerror}.") from error
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
        return name
    raise HomeError(f"there are {_NUMBERS_MAX} files {stem}*.{suffix} already.")


def without_outside_fonts(svg: str) -> str:
    """A screenshot that loads nothing over the network: any monospaced font will do."""
    return _OUTSIDE_FONTS.sub("", svg)
