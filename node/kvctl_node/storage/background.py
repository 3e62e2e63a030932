"""The background thread: long work in small steps, most urgent first.

Flush, compaction and verification take seconds; the loop may not wait for them. Each is a *task*:
a generator that does a bounded piece of work between two yields. One thread advances whichever
waiting task is most urgent, one step at a time. So a flush never queues behind a compaction
that takes a minute, and closing never waits for more than a step. Every third step goes to a less
urgent task, if there is one: without that, a steady stream of flushes would keep compaction from
ever finishing, and reads would slow down table by table. With it, writes are held back instead.

A task runs on this thread only; its result is delivered on the loop's thread, in `deliver`. A task
that fails (a full disk) starts over later, with a growing pause, for ever; until then its failure
is in `errors`. Whatever the task was to replace is still there.
"""

from __future__ import annotations

import sqlite3
import time
from collections import deque
from collections.abc import Callable, Generator
from enum import IntEnum
from functools import partial
from threading import Condition, Thread
from typing import TypeVar

from kvctl_node.errors import StorageError

RETRY_FIRST_S = 0.05
SHARE_OF_LESS_URGENT = 3
RETRY_MAX_S = 30.0

Result = TypeVar("Result")
Delivery = Callable[[], None]


class Urgency(IntEnum):
    """Which task goes first."""

    SYNC = 0
    FLUSH = 1
    COMPACTION = 2
    VERIFICATION = 3


class Task:
    """A piece of background work, submitted once and run until it succeeds or is cancelled."""

    def __init__(
        self, name: str, urgency: Urgency, start: Callable[[], Generator[None, None, Delivery]]
    ) -> None:
        self.name = name
        self.urgency = urgency
        self.cancelled = False
        """Set by the loop's thread; the background thread drops the task at its next step."""
        self.start = start
        self.running: Generator[None, None, Delivery] | None = None
        self.failures = 0
        self.not_before_s = 0.0


class BackgroundWorker:
    """One thread and its tasks. All methods are for the loop's thread."""

    def __init__(self, name: str) -> None:
        self.finished: deque[Delivery] = deque()
        """Results that wait to be delivered."""
        self.errors: dict[str, str] = {}
        """Name of a failing task → why it failed last."""
        self._tasks: list[Task] = []
        self._condition = Condition()
        self._stopping = False
        self._steps = 0
        self._thread = Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Begin to work."""
        self._thread.start()

    def submit(
        self,
        name: str,
        urgency: Urgency,
        start: Callable[[], Generator[None, None, Result]],
        deliver: Callable[[Result], None],
    ) -> Task:
        """Run `start()` to its end in the background, then `deliver` its result on the loop."""

        def steps() -> Generator[None, None, Delivery]:
            result = yield from start()
            return partial(deliver, result)

        task = Task(name, urgency, steps)
        with self._condition:
            self._tasks.append(task)
            self._condition.notify_all()
        return task

    def deliver_finished(self) -> None:
        """Hand out the results that are ready. Raises `StorageError` if the thread died."""
        while self.finished:
            self.finished.popleft()()

    def is_idle(self) -> bool:
        """True when nothing runs, waits for a retry, or waits to be delivered."""
        with self._condition:
            return not self._tasks and not self.finished

    def wait(self, timeout_s: float) -> None:
        """Block until a result can be delivered or nothing is left to do, or the time is over."""
        with self._condition:
            self._condition.wait_for(lambda: self.finished or not self._tasks, timeout_s)

    def stop(self) -> None:
        """Abandon all tasks after their current step and end the thread."""
        with self._condition:
            self._stopping = True
            self._condition.notify_all()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        try:
            while (task := self._take()) is not None:
                self._advance(task)
        finally:
            for task in self._tasks:
                if task.running is not None:
                    task.running.close()
            if not self._stopping:
                self.finished.append(_report_crash)

    def _take(self) -> Task | None:
        """The most urgent task that may run now; waits for one; None when it is time to stop."""
        with self._condition:
            while not self._stopping:
                now = time.monotonic()
                ready = [t for t in self._tasks if t.not_before_s <= now or t.cancelled]
                if ready:
                    return self._choose(ready)
                wake_s = min((t.not_before_s for t in self._tasks), default=None)
                self._condition.wait(None if wake_s is None else wake_s - now)
        return None

    def _choose(self, ready: list[Task]) -> Task:
        first = min(ready, key=_urgency)
        self._steps += 1
        if self._steps % SHARE_OF_LESS_URGENT:
            return first
        return min((t for t in ready if t.urgency > first.urgency), key=_urgency, default=first)

    def _advance(self, task: Task) -> None:
        """Do one step of a task."""
        if task.cancelled:
            if task.running is not None:
                task.running.close()
            self._forget(task, None)
            return
        try:
            if task.running is None:
                task.running = task.start()
            next(task.running)
        except StopIteration as stop:
            self._forget(task, stop.value)
        except (sqlite3.Error, OSError, StorageError) as error:
            task.running = None
            pause_s = min(RETRY_FIRST_S * 2 ** min(task.failures, 16), RETRY_MAX_S)
            task.failures += 1
            task.not_before_s = time.monotonic() + pause_s
            self.errors[task.name] = f"{task.name} failed: {error}"

    def _forget(self, task: Task, delivery: Delivery | None) -> None:
        with self._condition:
            self._tasks.remove(task)
            self.errors.pop(task.name, None)
            if delivery is not None:
                self.finished.append(delivery)
            self._condition.notify_all()


def _urgency(task: Task) -> Urgency:
    return task.urgency


def _report_crash() -> None:
    raise StorageError(
        "The background thread of the storage engine ended unexpectedly.",
        hint="the traceback is in the node's log; committed data is safe.",
    )
