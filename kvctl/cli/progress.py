"""A progress bar on stderr, when somebody is watching; nothing otherwise.

rich is loaded only where a bar is drawn.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from types import TracebackType
from typing import IO, TYPE_CHECKING, cast

from kvctl.cli.streams import Stderr

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

REDRAW_INTERVAL_S = 0.1


class Progress:
    """Counts records, and bytes of a known total. A context manager."""

    def __init__(self, label: str, *, bytes_total: int | None, wanted: bool) -> None:
        self.records = 0
        self._label = label
        self._bytes = 0
        self._bytes_total = bytes_total
        self._shown = wanted and sys.stderr.isatty()
        self._stack = ExitStack()
        self._bar: RichProgress | None = None
        self._task: TaskID | None = None
        self._redrawn_s = 0.0

    def __enter__(self) -> Progress:
        if self._shown:
            from rich.console import Console
            from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as RichProgress

            bar = RichProgress(
                TextColumn(self._label),
                BarColumn(),
                TextColumn("{task.fields[records]} records"),
                TimeElapsedColumn(),
                console=Console(file=cast("IO[str]", Stderr())),
                transient=True,
            )
            self._bar = self._stack.enter_context(bar)
            self._task = bar.add_task(self._label, total=self._bytes_total, records=0)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    def advance(self, record_bytes: int) -> None:
        """One more record of so many bytes."""
        self.records += 1
        self._bytes += record_bytes
        if self._bar is None or self._task is None:
            return
        now_s = time.monotonic()
        if now_s - self._redrawn_s >= REDRAW_INTERVAL_S:
            self._redrawn_s = now_s
            self._bar.update(self._task, completed=self._bytes, records=self.records)
