"""The half of the application that only looks: the feed's sink, lookups, and the timer that paints.

    feed ─▶ observe ─▶ view ─▶ (timer) ─▶ scene ─▶ the page that is shown

Observations change the view as fast as they come and draw nothing. A timer paints the page that is
shown, and only if the view or the page changed, or nothing new has come for a while. Freezing keeps
the picture while the view goes on. What only one page wants to know is looked up while it is shown,
in a thread, so the screen never waits for a node; the application may be closed or killed at any
time, for it owns nothing.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Sequence
from typing import Any

from textual.app import App, ComposeResult
from textual.containers import Vertical
from textual.widgets import ContentSwitcher

from kvctl.text.command_lines import command_line
from kvctl.tui import replay_control
from kvctl.tui.cluster_reader import ClusterReader
from kvctl.tui.dialogs import HelpDialog
from kvctl.tui.glyphs import BAD, Glyphs
from kvctl.tui.header_line import HeaderLine
from kvctl.tui.key_map import KeysLine
from kvctl.tui.notice_line import NoticeLine
from kvctl.tui.page import Page
from kvctl.tui.pages import PAGES
from kvctl.tui.partition_dialog import PartitionDialog
from kvctl.tui.prompt import PromptLine
from kvctl.tui.scene import Scene, scene_of
from kvctl.view.feed import Clock, Feed, FeedError
from kvctl.view.observation import NodeEvent, Observation
from kvctl.view.pace import QUIET_INTERVAL_MS, is_routine
from kvctl.view.recorder import Recorder
from kvctl.view.recording import ReplayFeed
from kvctl.view.reduce import reduce
from kvctl.view.state import ClusterView
from kvctl_node.errors import StoreError

PAINTS_PER_S = 3
RENEWED_WITHIN_MS = QUIET_INTERVAL_MS + 500
"""Nothing new for so long: from now on the picture is painted as time passes."""
FEED_RETRY_S = 2.0
LOOKUP_INTERVAL_S = 1.0
LOOKUP_SHARE_MAX = 0.1
"""Looking things up takes at most so much of the time, however long one look takes."""


class WatchingApp(App[None]):
    """Watches one cluster."""

    TITLE = "kvctl dashboard"
    HORIZONTAL_BREAKPOINTS = [  # noqa: RUF012 - declared by App as it is
        (0, "-narrow"),
        (100, "-wide"),
        (150, "-vast"),
    ]
    CSS = """
    Screen { background: $background; }
    #pages { height: 1fr; }
    #bottom { dock: bottom; height: auto; }
    #bottom.-asking #keys { display: none; }
    .-ascii ModalScreen > * { border: ascii $primary; scrollbar-size: 0 0; }
    """

    def __init__(
        self,
        feed: Feed,
        *,
        clock: Clock,
        open_reader: Callable[[], ClusterReader] | None = None,
        recorder: Recorder | None = None,
        ascii: bool = False,
        paints_per_s: float = PAINTS_PER_S,
        cluster_option: str = "",
    ) -> None:
        """`open_reader` None: nothing but what the feed tells is known.

        `cluster_option`: the cluster that shown commands have to name, "" if kvctl means the one
        that is watched anyway.

        `paints_per_s` 0: only `paint` paints and only `look_up` looks things up, for tests.
        """
        # Terminal colours, together with NO_COLOR, are what makes Textual send no colour at all.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.view = ClusterView()
        """The picture as it is, whether or not it is shown."""
        self._news = self.view
        """The picture as of the last observation that is worth painting for by itself."""
        self.scene: Scene | None = None
        """What was painted last."""
        self.frozen: ClusterView | None = None
        self.cluster_option = cluster_option
        self._feed = feed
        self._clock = clock
        self._open_reader = open_reader
        self._reader: ClusterReader | None = None
        self._recorder = recorder
        self._glyphs = Glyphs(ascii=ascii, colors=not self.no_color)
        self.set_class(ascii, "-ascii")
        self._paints_per_s = paints_per_s
        self._problem = ""
        self._waiting = 0
        self._filter = ""
        self._painted: tuple[Any, ...] = ()
        self._look_now = asyncio.Event()

    # ------------------------------------------------------------ layout

    def compose(self) -> ComposeResult:
        """Header, pages, keys, notices, and the line to type in."""
        yield HeaderLine()
        with ContentSwitcher(id="pages", initial=f"page-{PAGES[0].NAME}"):
            for page in PAGES:
                yield page()
        with Vertical(id="bottom"):
            yield NoticeLine()
            yield KeysLine()
            yield PromptLine()

    def on_mount(self) -> None:
        """Begin to watch and to paint."""
        self.run_worker(self._watch(), name="feed", exit_on_error=True)
        if self._paints_per_s:
            self.set_interval(1 / self._paints_per_s, self.paint_in_turn)
            self.run_worker(self._look_up_for_ever(), name="lookups", exit_on_error=True)
        self._show_keys()
        self.page.focus_first()
        self.call_after_refresh(self.paint)

    def on_resize(self) -> None:
        """Another size shows other columns and other keys."""
        self._show_keys()
        self.call_after_refresh(self.paint)

    @property
    def page(self) -> Page:
        """The page that is shown."""
        current = self.query_one("#pages", ContentSwitcher).current
        return self.query_one(f"#{current}", Page)

    # ------------------------------------------------------------ watching

    async def _watch(self) -> None:
        """Run the feed; if it breaks, say so and try again."""
        while True:
            try:
                await self._feed.run(self)
                return
            except FeedError as error:
                self._problem = error.message
                await asyncio.sleep(FEED_RETRY_S)

    def observe(self, observation: Observation) -> None:
        """Take in what the feed tells."""
        self.view = reduce(self.view, observation)
        if not (isinstance(observation, NodeEvent) and is_routine(observation)):
            self._news = self.view
        self._problem = ""
        if self.frozen is not None:
            self._waiting += 1
        if self._recorder is not None:
            self._recorder.record(observation)

    def replace(self, view: ClusterView) -> None:
        """A replay has jumped."""
        self.view = self._news = view
        self._problem = ""

    @property
    def now_ms(self) -> int:
        """The time of the picture: the clock, or where a replay stands."""
        if isinstance(self._feed, ReplayFeed):
            return self._feed.position_ms
        return self._clock()

    # ------------------------------------------------------------ looking things up

    async def _look_up_for_ever(self) -> None:
        """What only the page that is shown wants to know, about once a second."""
        loop = asyncio.get_running_loop()
        while True:
            began_s = loop.time()
            self._look_now.clear()
            await self.look_up()
            took_s = loop.time() - began_s
            try:
                async with asyncio.timeout(max(LOOKUP_INTERVAL_S, took_s / LOOKUP_SHARE_MAX)):
                    await self._look_now.wait()
            except TimeoutError:
                pass

    async def look_up(self) -> None:
        """Ask what the page that is shown wants to know, in a thread."""
        page = self.page
        open_reader = self._open_reader
        lookup = None if open_reader is None or self.frozen else page.lookup(self.view)
        if lookup is None or open_reader is None:
            return
        try:
            if self._reader is None:
                self._reader = await asyncio.to_thread(open_reader)
            answer = await asyncio.to_thread(lookup, self._reader)
        except StoreError as error:
            self.notify_line(error.message, BAD, error.hint)
            return
        if isinstance(answer, Observation):
            self.observe(answer)
        page.take(answer)

    # ------------------------------------------------------------ painting

    def paint_in_turn(self) -> None:
        """Paint if it is worth it: what is routine waits for what is not, a second or two."""
        self._paint(self._news)

    def paint(self) -> None:
        """Paint the page that is shown, if anything changed since the last time."""
        self._paint(self.view)

    def _paint(self, news: ClusterView) -> None:
        """Paint, unless these news, and all else, were there the last time."""
        if not self.is_running or isinstance(self.screen, HelpDialog):
            return
        now_ms = self.now_ms
        shown = self.view if self.frozen is None else self.frozen
        page = self.page
        key = (
            news if self.frozen is None else shown,
            _clock_to_show(shown, now_ms),
            page.id,
            self.size,
            self._filter,
            self._waiting,
            self._problem,
            page.selected_node,
            page.revision,
            self._replay_progress,
        )
        if _is_same(key, self._painted):
            return
        self._painted = key
        self.scene = scene_of(
            shown,
            now_ms=now_ms,
            kind=self._feed.kind,
            glyphs=self._glyphs,
            problem=self._problem,
            frozen=self.frozen is not None,
            waiting=self._waiting,
            text_filter=self._filter,
            recording=self._recorder is not None and not self._recorder.problem,
            replay=self._replay_progress,
        )
        self.query_one(HeaderLine).paint(self.scene)
        page.paint(self.scene)
        if isinstance(self.screen, PartitionDialog):
            self.screen.renew()

    @property
    def _replay_progress(self) -> str:
        feed = self._feed
        return replay_control.progress_text(feed) if isinstance(feed, ReplayFeed) else ""

    def notify_line(
        self, sentence: str, style: str = "", hint: str = "", command: Sequence[str] = ()
    ) -> None:
        """Say something in the line above the keys; `command` are the words after `kvctl`."""
        line = command_line(command, self.cluster_option)
        self.query_one(NoticeLine).say(sentence, style, hint, line)

    def _show_keys(self) -> None:
        self.query_one(KeysLine).show(self.page, self._glyphs)


def _clock_to_show(view: ClusterView, now_ms: int) -> int:
    """The second of the clock, once a picture is not renewed by what is observed.

    Until then ages grow on the screen with the answers, which is when they are known.
    """
    return now_ms // 1000 if now_ms - view.at_ms > RENEWED_WITHIN_MS else 0


def _is_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Views are compared by identity, which is what they are made for; the rest is small."""
    return bool(other) and one[0] is other[0] and one[1:] == other[1:]


def wall_clock_ms() -> int:
    """The clock of a live dashboard."""
    return time.time_ns() // 1_000_000
