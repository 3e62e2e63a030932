"""Driving the dashboard in tests: a scripted feed, a clock that stands still, and what is shown."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from textual.pilot import Pilot

from kvctl.tui.app import KvctlApp
from kvctl.tui.cluster_handle import ChangedMeanwhileError, Choice, Dot
from kvctl.tui.cluster_reader import ClusterReader, LogLine
from kvctl.view.feed import Feed
from kvctl.view.merkle_descent import LevelSeen, Place
from kvctl.view.observation import (
    ConflictsSeen,
    KeyConflict,
    NodeEvent,
    Observation,
    OperationSeen,
)
from kvctl.view.recorder import Recorder
from kvctl.view.scripted_feed import ScriptedFeed
from kvctl_node.errors import StoreError
from tests.unit.view.cluster_story import BEGAN_MS, NAMES, all_up, answered, put_seen

SNAPSHOTS = Path(__file__).parent / "snapshots"
NOW_MS = BEGAN_MS + 3000
DEADLINE_S = 10.0


class FakeHandle:
    """Remembers what it was asked to do; `error` is raised instead, `gate` is waited for."""

    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []
        self.error: StoreError | None = None
        self.gate: threading.Event | None = None
        self.stored: dict[Dot, bytes | None] = {}
        """The versions of every key, for `settle`."""

    def _do(self, *call: object) -> None:
        if self.gate is not None:
            self.gate.wait(DEADLINE_S)
        if self.error is not None:
            raise self.error
        self.calls.append(call)

    def kill(self, node: str) -> None:
        self._do("kill", node)

    def start(self, node: str) -> None:
        self._do("start", node)

    def stop(self, node: str) -> None:
        self._do("stop", node)

    def pause(self, node: str) -> None:
        self._do("pause", node)

    def resume(self, node: str) -> None:
        self._do("resume", node)

    def restart(self, node: str) -> None:
        self._do("restart", node)

    def set_quorum(self, *, n: int | None, r: int | None, w: int | None, mode: str | None) -> None:
        self._do("set_quorum", n, r, w, mode)

    def partition(self, groups: Sequence[Sequence[str]]) -> str:
        self._do("partition", [list(group) for group in groups])
        return "f1"

    def isolate(self, nodes: Sequence[str]) -> str:
        self._do("isolate", list(nodes))
        return "f2"

    def heal(self, fault_id: str) -> int:
        self._do("heal", fault_id)
        return 1

    def put(self, key: str, value: str) -> OperationSeen:
        self._do("put", key, value)
        return put_seen(key, NOW_MS, n4="n3")

    def get(self, key: str) -> tuple[OperationSeen, str]:
        self._do("get", key)
        return OperationSeen(NOW_MS, "get", key, "n1", ("n1", "n2")), "hello"

    def delete(self, key: str) -> OperationSeen:
        self._do("delete", key)
        return OperationSeen(NOW_MS, "del", key, "n1", ("n1", "n2"))

    def cut_links(self, links: Sequence[str]) -> str:
        self._do("cut_links", list(links))
        return "f3"

    def hold_hints(self, held: bool) -> None:
        self._do("hold_hints", held)

    def push_hints(self, holders: Sequence[str]) -> int:
        self._do("push_hints", list(holders))
        return 12

    def compare(self, one: str, other: str) -> None:
        self._do("compare", one, other)

    def repair(self, nodes: Sequence[str]) -> None:
        self._do("repair", list(nodes))

    def settle(self, key: str, shown: Sequence[Dot], choose: Choice) -> OperationSeen:
        """As the real one does it, on the versions in `stored`."""
        if sorted(shown) != sorted(self.stored):
            raise ChangedMeanwhileError(f"{key} has changed since it was shown.", "look again.")
        value = choose(self.stored)
        self._do("settle", key, value)
        op = "del" if value is None else "put"
        return OperationSeen(NOW_MS, op, key, "n1", ("n1", "n2"))


class FakeReader:
    """Answers what it was given; `asked` is what it was asked."""

    def __init__(self, *conflicts: KeyConflict) -> None:
        self.asked: list[object] = []
        self.keys = conflicts
        self.levels: dict[Place, LevelSeen] = {}
        self.lines: list[LogLine] = []
        self.past: list[NodeEvent] = []

    def conflicts(self) -> ConflictsSeen:
        self.asked.append("conflicts")
        return ConflictsSeen(NOW_MS + len(self.asked), self.keys)

    def merkle_level(self, place: Place) -> LevelSeen:
        self.asked.append(place)
        return self.levels.get(place, LevelSeen(place, problem="n2 does not answer"))

    def past_events(self) -> list[NodeEvent]:
        self.asked.append("events")
        return self.past

    def new_log_lines(self) -> list[LogLine]:
        self.asked.append("logs")
        lines, self.lines = self.lines, []
        return lines


class Dashboard:
    """An application under test."""

    def __init__(self, app: KvctlApp, pilot: Pilot[None], handle: FakeHandle, feed: Feed) -> None:
        self.app = app
        self.pilot = pilot
        self.handle = handle
        self._feed = feed

    async def tell(self, *observations: Observation) -> None:
        """Let the feed tell these, and paint."""
        assert isinstance(self._feed, ScriptedFeed)
        self._feed.tell(*observations)
        await self.settle()

    async def settle(self) -> None:
        """Paint, and wait until the screen shows it."""
        self.app.paint()
        await self.pilot.pause()

    async def look_up(self) -> None:
        """Let the page look up what it wants to know, and paint."""
        await self.app.look_up()
        await self.settle()

    async def press(self, *keys: str) -> None:
        """Press keys, and paint."""
        await self.pilot.press(*keys)
        await self.settle()

    async def type(self, text: str) -> None:
        """Type a line and press Enter."""
        names = {" ": "space", ":": "colon", "/": "slash", "=": "equals_sign", ",": "comma"}
        await self.pilot.press(*(names.get(character, character) for character in text), "enter")
        await self.settle()

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait for something that another thread does."""
        async with asyncio.timeout(DEADLINE_S):
            while not condition():
                await self.pilot.pause(0.01)
        await self.settle()

    @property
    def lines(self) -> list[str]:
        """What the screen shows, line by line."""
        return [
            "".join(segment.text for segment in strip).rstrip()
            for strip in self.app.screen._compositor.render_strips()
        ]

    @property
    def text(self) -> str:
        """What the screen shows."""
        return "\n".join(self.lines)

    @property
    def header(self) -> str:
        """The first line."""
        return self.lines[0]

    @property
    def notice(self) -> str:
        """What was said last."""
        return str(self.app.query_one("#notice").render())


def busy_cluster() -> list[Observation]:
    """Five nodes, some operations, a few hints."""
    told = all_up()
    told += [
        answered("n4", BEGAN_MS + 2000, hints=[{"target": "n3", "count": 12}]),
        put_seen("user:1", BEGAN_MS + 1500),
        put_seen("user:2", BEGAN_MS + 2500, n4="n3"),
    ]
    return told


def run_dashboard(
    scenario: Callable[[Dashboard], Awaitable[None]],
    *observations: Observation,
    size: tuple[int, int] = (120, 35),
    read_only: bool = False,
    ascii: bool = False,
    feed: Feed | None = None,
    clock: Callable[[], int] = lambda: NOW_MS,
    recorder: Recorder | None = None,
    reader: ClusterReader | None = None,
) -> None:
    """Run a scenario against a dashboard that was told these observations."""
    handle = FakeHandle()
    source: Feed = ScriptedFeed(*observations) if feed is None else feed
    app = KvctlApp(
        source,
        clock=clock,
        open_handle=None if read_only else lambda: handle,
        open_reader=None if reader is None else lambda: reader,
        recorder=recorder,
        ascii=ascii,
        paints_per_s=0,
    )

    async def run() -> None:
        async with app.run_test(size=size) as pilot:
            dashboard = Dashboard(app, pilot, handle, source)
            await dashboard.settle()
            await scenario(dashboard)

    asyncio.run(run())


def assert_snapshot(name: str, text: str) -> None:
    """Compare with `snapshots/<name>.txt`; UPDATE_SNAPSHOTS=1 writes it anew instead."""
    path = SNAPSHOTS / f"{name}.txt"
    if os.environ.get("UPDATE_SNAPSHOTS") == "1":
        SNAPSHOTS.mkdir(exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
    assert path.exists(), f"no snapshot {path.name}; UPDATE_SNAPSHOTS=1 makes it"
    assert text + "\n" == path.read_text(encoding="utf-8"), f"{path.name} differs"


__all__ = [
    "NAMES",
    "NOW_MS",
    "Dashboard",
    "FakeHandle",
    "FakeReader",
    "assert_snapshot",
    "run_dashboard",
]
