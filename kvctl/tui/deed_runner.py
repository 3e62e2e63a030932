"""Doing deeds: one after the other, in a thread of their own, and remembering what undoes them.

Killing a process or cutting a network takes as long as it takes; the screen never waits for it.
Deeds are done in the order they were asked for, so "kill, then undo" means what it says.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable

from kvctl.tui.cluster_handle import ClusterHandle
from kvctl.tui.deeds import Deed, Outcome

UNDO_MAX = 50

Done = Outcome | Exception


class DeedRunner:
    """Does deeds to one cluster. All methods are for the application's thread."""

    def __init__(
        self, open_handle: Callable[[], ClusterHandle], on_done: Callable[[Deed, Done], None]
    ) -> None:
        """Both are called in the deeds' thread: `open_handle` before the first deed, `on_done`
        after each. `RuntimeError` from the latter ends that thread: the application has ended."""
        self._open_handle = open_handle
        self._on_done = on_done
        self._queue: queue.SimpleQueue[Deed | None] = queue.SimpleQueue()
        self._undo: list[Deed] = []

    def start(self) -> None:
        """Begin; a daemon thread, since leaving must not wait for a deed."""
        threading.Thread(target=self._run, name="deeds", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end after what it is doing."""
        self._queue.put(None)

    def begin(self, deed: Deed) -> None:
        """Do this after all that were begun before."""
        self._queue.put(deed)

    def remember(self, undo: Deed) -> None:
        """What would undo the deed that was done last."""
        self._undo = [*self._undo[-(UNDO_MAX - 1) :], undo]

    def take_back(self) -> Deed | None:
        """What undoes the last deed that can be undone; asked again, the one before."""
        return self._undo.pop() if self._undo else None

    def _run(self) -> None:
        handle: ClusterHandle | None = None
        while (deed := self._queue.get()) is not None:
            try:
                handle = handle or self._open_handle()
                done: Done = deed.perform(handle)
            except Exception as error:  # noqa: BLE001 - the top of a thread: told in the other
                done = error
            try:
                self._on_done(deed, done)
            except RuntimeError:
                return
