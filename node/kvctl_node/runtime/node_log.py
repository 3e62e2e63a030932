"""The log of a node, for people: `node.log` in its directory, through the standard library.

Only the process around the core logs; what happens inside the store is told by events. A peer that
sends rubbish must not fill the disk with complaints about it: of each kind of message (the same
template, whatever its arguments) a few are written per interval, and the next one that passes says
how many were left out.
"""

from __future__ import annotations

import logging
import time
from pathlib import Path

from kvctl_node.runtime.rotating_file import RotatingFile

LOG_FILE_NAME = "node.log"
LOG_FILE_BYTES_MAX = 4 * 1024 * 1024
LOG_FILES_KEPT = 2
REPEAT_INTERVAL_S = 10.0
REPEATS_MAX = 5
LOGGER_NAME = "kvctl_node"


class RepeatFilter(logging.Filter):
    """Lets `repeats_max` records of one template pass per `interval_s`, by the records' stamps."""

    def __init__(
        self, *, interval_s: float = REPEAT_INTERVAL_S, repeats_max: int = REPEATS_MAX
    ) -> None:
        super().__init__()
        self._interval_s = interval_s
        self._repeats_max = repeats_max
        self._windows: dict[object, tuple[float, int]] = {}
        """Template → when its interval began, and how many records it has seen since."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this record is written; notes on it how many before it were not."""
        began_s, seen = self._windows.get(record.msg, (record.created, 0))
        left_out = 0
        if abs(record.created - began_s) >= self._interval_s:
            left_out = max(0, seen - self._repeats_max)
            began_s, seen = record.created, 0
        self._windows[record.msg] = (began_s, seen + 1)
        record.left_out = f" ({left_out} more like this left out)" if left_out else ""
        return seen < self._repeats_max


class RotatingFileHandler(logging.Handler):
    """Writes records to a `RotatingFile`.

    The standard library's own rotating handler lives in a module that also brings sockets, queues
    and pickles, which would double what logging costs at start.
    """

    def __init__(self, file: RotatingFile) -> None:
        super().__init__()
        self._file = file

    def emit(self, record: logging.LogRecord) -> None:
        """Append one record; a full disk loses it."""
        try:
            self._file.append(self.format(record).encode("utf-8", "replace") + b"\n")
        except OSError:
            return

    def close(self) -> None:
        """Release the file."""
        self._file.close()
        super().close()


def open_node_log(directory: Path) -> logging.Handler:
    """Send everything under the logger `node` to the node's log file, stamped in UTC."""
    handler = RotatingFileHandler(
        RotatingFile(
            directory / LOG_FILE_NAME, bytes_max=LOG_FILE_BYTES_MAX, files_kept=LOG_FILES_KEPT
        )
    )
    formatter = logging.Formatter(
        "%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s: %(message)s%(left_out)s",
        datefmt="%Y-%m-%dT%H:%M:%S",
    )
    formatter.converter = time.gmtime
    handler.setFormatter(formatter)
    handler.addFilter(RepeatFilter())
    logger = logging.getLogger(LOGGER_NAME)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    logger.addHandler(handler)
    return handler


def close_node_log(handler: logging.Handler) -> None:
    """Undo `open_node_log`."""
    logging.getLogger(LOGGER_NAME).removeHandler(handler)
    handler.close()
