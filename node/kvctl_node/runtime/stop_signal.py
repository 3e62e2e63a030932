"""SIGTERM and SIGINT: a request to stop, delivered to the poll loop at once.

A signal handler may run between any two bytecodes, so it does nothing but set a flag. The byte that
the interpreter writes to the wakeup socket makes the poller return, wherever it was waiting (a
signal alone would not: an interrupted poll is resumed, PEP 475).
"""

from __future__ import annotations

import signal
import socket
from types import FrameType, TracebackType

_STOPPING = (signal.SIGTERM, signal.SIGINT)


class StopSignal:
    """While entered, turns SIGTERM and SIGINT into `requested`. For the main thread only."""

    def __init__(self) -> None:
        self.requested = False
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)

    @property
    def descriptor(self) -> int:
        """Readable as soon as a signal arrived."""
        return self._reader.fileno()

    def __enter__(self) -> StopSignal:
        self._previous_descriptor = signal.set_wakeup_fd(self._writer.fileno())
        self._previous_handlers = [signal.signal(one, self._on_signal) for one in _STOPPING]
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _trace: TracebackType | None,
    ) -> None:
        for one, handler in zip(_STOPPING, self._previous_handlers, strict=True):
            signal.signal(one, handler)
        signal.set_wakeup_fd(self._previous_descriptor)
        self._reader.close()
        self._writer.close()

    def _on_signal(self, _number: int, _frame: FrameType | None) -> None:
        self.requested = True
