"""The dashboard application: keys, the feed's sink, and the timer that paints.

    feed ─▶ observe ─▶ view ─▶ (timer) ─▶ scene ─▶ the page that is shown

Observations change the view as fast as they come and draw nothing. A timer paints the page that is
shown, and only if the view, the second or the page changed. Freezing keeps the picture while the
view goes on. Deeds run one after the other in a thread of their own, so the screen never waits for
a process; the application may be closed or killed at any time, for it owns nothing.
"""

from __future__ import annotations

import asyncio
import os
import queue
import random
import threading
import time
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from rich.text import Text
from textual.app import App, ComposeResult, SystemCommand
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen, Screen
from textual.widgets import ContentSwitcher, Input, Static, TextArea

from kvctl.tui import deeds, replay_control
from kvctl.tui.cluster_handle import ClusterHandle
from kvctl.tui.cluster_reader import ClusterReader
from kvctl.tui.command_line import COMMANDS, Show, parse_command
from kvctl.tui.deeds import Deed, Outcome
from kvctl.tui.dialogs import ConfirmDialog, HelpDialog
from kvctl.tui.exports import without_outside_fonts, write_new_file
from kvctl.tui.glyphs import BAD, DIM, OK, Glyphs
from kvctl.tui.header_line import HeaderLine
from kvctl.tui.page import Page
from kvctl.tui.pages import PAGES
from kvctl.tui.pages.overview import OverviewPage
from kvctl.tui.partition_dialog import PartitionDialog
from kvctl.tui.prompt import PromptLine
from kvctl.tui.scene import Scene, scene_of
from kvctl.view.feed import Clock, Feed, FeedError
from kvctl.view.observation import Observation, ProcessWord
from kvctl.view.partition_plan import PartitionPlan
from kvctl.view.quorum_outlook import describe_side
from kvctl.view.recorder import Recorder
from kvctl.view.recording import ReplayFeed
from kvctl.view.reduce import reduce
from kvctl.view.state import ClusterView
from node.errors import StoreError

PAINTS_PER_S = 3
FEED_RETRY_S = 2.0
LOOKUP_INTERVAL_S = 1.0
LOOKUP_SHARE_MAX = 0.1
"""Looking things up takes at most so much of the time, however long one look takes."""
UNDO_MAX = 50

GLOBAL_KEYS = (
    ("?", "help"),
    ("k", "kill"),
    ("p", "pause/resume"),
    ("r", "restart/start"),
    ("x", "partition"),
    ("H", "heal all"),
    ("u", "undo"),
    (":", "command"),
    ("/", "filter"),
    ("space", "freeze"),
    ("s", "screenshot"),
    ("q", "quit"),
)


class KvctlApp(App[None]):
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
    #notice { height: 1; }
    #keys { height: 1; background: $panel; }
    #bottom.-asking #keys { display: none; }
    .-ascii ModalScreen > * { border: ascii $primary; scrollbar-size: 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        *(Binding(page.KEY, f"show_page('{page.NAME}')", page.NAME, show=False) for page in PAGES),
        Binding("question_mark", "help", "help", show=False),
        Binding("colon", "command", "command", show=False, priority=True),
        Binding("slash", "filter", "filter", show=False, priority=True),
        Binding("space", "freeze", "freeze", show=False),
        Binding("q", "quit", "quit", show=False),
        Binding("k", "kill", "kill", show=False),
        Binding("p", "pause", "pause or resume", show=False),
        Binding("r", "restart", "restart or start", show=False),
        Binding("u", "undo", "undo", show=False),
        Binding("w", "walk", "walk a key", show=False, priority=True),
        Binding("c", "quorum", "change R, W, mode", show=False, priority=True),
        Binding("x", "partition", "partition the network", show=False),
        Binding("H", "heal", "heal all", show=False),
        Binding("s", "export_screen", "screenshot", show=False),
        Binding("left,comma", "seek(-1)", "back", show=False),
        Binding("right,full_stop", "seek(1)", "forward", show=False),
        Binding("less_than_sign", "speed(-1)", "slower", show=False),
        Binding("greater_than_sign", "speed(1)", "faster", show=False),
    ]

    def __init__(
        self,
        feed: Feed,
        *,
        clock: Clock,
        handle: ClusterHandle | None = None,
        reader: ClusterReader | None = None,
        recorder: Recorder | None = None,
        ascii: bool = False,
        paints_per_s: float = PAINTS_PER_S,
    ) -> None:
        """`handle` None: read-only. `reader` None: nothing but what the feed tells is known.

        `paints_per_s` 0: only `paint` paints and only `look_up` looks things up, for tests.
        """
        # Terminal colours, together with NO_COLOR, are what makes Textual send no colour at all.
        super().__init__(ansi_color=True if "NO_COLOR" in os.environ else None)
        self.view = ClusterView()
        """The picture as it is, whether or not it is shown."""
        self.scene: Scene | None = None
        """What was painted last."""
        self.frozen: ClusterView | None = None
        self._feed = feed
        self._clock = clock
        self._handle = handle
        self._reader = reader
        self._recorder = recorder
        self._glyphs = Glyphs(ascii=ascii, colors=not self.no_color)
        self.set_class(ascii, "-ascii")
        self._paints_per_s = paints_per_s
        self._problem = ""
        self._waiting = 0
        self._filter = ""
        self._undo: list[Deed] = []
        self._queue: queue.SimpleQueue[Deed | None] = queue.SimpleQueue()
        self._painted: tuple[Any, ...] = ()
        self._look_now = asyncio.Event()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that ask for a line are text while one is being typed.

        They have priority, that is, the application handles them before it passes on the next key:
        what is typed or pasted right behind them would otherwise still go to the table.
        """
        if action in ("command", "filter", "walk", "quorum"):
            is_typing = isinstance(self.focused, Input | TextArea)
            return not is_typing and not isinstance(self.screen, ModalScreen)
        return True

    # ------------------------------------------------------------ layout

    def compose(self) -> ComposeResult:
        """Header, pages, keys, notices, and the line to type in."""
        yield HeaderLine()
        with ContentSwitcher(id="pages", initial=f"page-{PAGES[0].NAME}"):
            for page in PAGES:
                yield page()
        with Vertical(id="bottom"):
            yield Static("", id="notice", markup=False)
            yield Static("", id="keys", markup=False)
            yield PromptLine()

    def on_mount(self) -> None:
        """Begin to watch and to paint."""
        self.run_worker(self._watch(), name="feed", exit_on_error=True)
        threading.Thread(target=self._do_deeds, name="deeds", daemon=True).start()
        if self._paints_per_s:
            self.set_interval(1 / self._paints_per_s, self.paint)
            self.run_worker(self._look_up_for_ever(), name="lookups", exit_on_error=True)
        self._show_keys()
        self.page.focus_first()
        self.call_after_refresh(self.paint)

    def on_unmount(self) -> None:
        """Let the deeds' thread end."""
        self._queue.put(None)

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
        self._problem = ""
        if self.frozen is not None:
            self._waiting += 1
        if self._recorder is not None:
            self._recorder.record(observation)

    def replace(self, view: ClusterView) -> None:
        """A replay has jumped."""
        self.view = view
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
        lookup = None if self._reader is None or self.frozen else page.lookup(self.view)
        if lookup is None or self._reader is None:
            return
        try:
            answer = await asyncio.to_thread(lookup, self._reader)
        except StoreError as error:
            self.notify_line(error.message, BAD, error.hint)
            return
        if isinstance(answer, Observation):
            self.observe(answer)
        page.take(answer)

    # ------------------------------------------------------------ painting

    def paint(self) -> None:
        """Paint the page that is shown, if anything changed since the last time."""
        if not self.is_running or isinstance(self.screen, HelpDialog):
            return
        now_ms = self.now_ms
        shown = self.view if self.frozen is None else self.frozen
        key = (
            shown,
            now_ms // 1000,
            self.page.id,
            self.size,
            self._filter,
            self._waiting,
            self._problem,
            self.page.selected_node,
            self.page.revision,
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
        self.page.paint(self.scene)
        if isinstance(self.screen, PartitionDialog):
            self.screen.renew()

    @property
    def _replay_progress(self) -> str:
        feed = self._feed
        return replay_control.progress_text(feed) if isinstance(feed, ReplayFeed) else ""

    def notify_line(self, sentence: str, style: str = "", hint: str = "") -> None:
        """Say something in the line above the keys."""
        text = Text(sentence, style)
        if hint:
            text.append(f"  {hint}", DIM)
        self.query_one("#notice", Static).update(text)

    def _show_keys(self) -> None:
        line = Text(no_wrap=True, overflow="crop")
        for page in PAGES:
            is_shown = page.KEY == self.page.KEY
            # A narrow screen has room for the name of the page that is shown only.
            named = is_shown or self.size.width >= 100
            line.append(f"{page.KEY} {page.NAME}" if named else page.KEY, "reverse" * is_shown)
            line.append(" ")
        line.append(self._glyphs.separator, DIM)
        for key, what in (*self.page.KEYS, *GLOBAL_KEYS):
            line.append(f" {key}", "bold")
            line.append(f" {what}", DIM)
        self.query_one("#keys", Static).update(line)

    # ------------------------------------------------------------ looking

    def action_show_page(self, name: str) -> None:
        """Show another page."""
        self.query_one("#pages", ContentSwitcher).current = f"page-{name}"
        self._look_now.set()
        self._show_keys()
        self.paint()
        self.page.focus_first()

    def action_freeze(self) -> None:
        """Keep the picture, or let it go on. A replay stands still instead."""
        if isinstance(self._feed, ReplayFeed):
            self._feed.paused = not self._feed.paused
            self.notify_line("the replay stands still." if self._feed.paused else "it goes on.")
            return
        self.frozen = self.view if self.frozen is None else None
        self._waiting = 0
        self._painted = ()
        self.paint()

    def action_seek(self, steps: int) -> None:
        """Jump within a replay."""
        if isinstance(self._feed, ReplayFeed):
            replay_control.jump(self._feed, steps)
            self.paint()

    def action_speed(self, steps: int) -> None:
        """Play a replay faster or slower."""
        if isinstance(self._feed, ReplayFeed):
            replay_control.change_speed(self._feed, steps)
            self.paint()

    def action_export_screen(self) -> None:
        """Write what is shown as an SVG into the working directory."""
        if self.is_web:
            self.notify_line("files are written by the dashboard in a terminal only.", DIM)
            return
        try:
            svg = without_outside_fonts(self.export_screenshot(title="kvctl"))
            name = write_new_file(f"kvctl-{self.page.NAME}", "svg", svg)
        except StoreError as error:
            self.notify_line(error.message, BAD, error.hint)
        else:
            self.notify_line(f"written to {name}.", OK)

    def action_filter(self) -> None:
        """Show only rows with a text in them."""
        self.query_one(PromptLine).ask("/", self._set_filter, value=self._filter)

    def _set_filter(self, text: str) -> None:
        self._filter = text
        self.paint()

    def action_walk(self) -> None:
        """Ask for a key and show its way."""
        self.query_one(PromptLine).ask("walk the key: ", self._walk_key)

    def _walk_key(self, key: str) -> None:
        self.action_show_page(OverviewPage.NAME)
        self.query_one(OverviewPage).walk(key)
        self._painted = ()
        self.paint()

    def action_help(self) -> None:
        """Keys, and how to read this page."""
        self.push_screen(HelpDialog(_help_text(self.page)))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What ctrl+p offers: every page and every command."""
        for page in PAGES:
            yield SystemCommand(page.NAME, page.SUMMARY, _call(self.action_show_page, page.NAME))
        for name, command in COMMANDS.items():
            yield SystemCommand(command.usage, command.summary, _call(self._ask_command, name))

    # ------------------------------------------------------------ commands

    def action_command(self) -> None:
        """Type a command."""
        self._ask_command("")

    def _ask_command(self, name: str) -> None:
        names = [*COMMANDS, *(page.NAME for page in PAGES)]
        value = f"{name} " if name else ""
        self.query_one(PromptLine).ask(":", self.run_command, value=value, suggestions=names)

    def run_command(self, text: str) -> None:
        """Do what was typed."""
        if not text:
            return
        try:
            meant = parse_command(text, self.view, [page.NAME for page in PAGES])
        except StoreError as error:
            self.notify_line(error.message, BAD, error.hint)
            return
        if isinstance(meant, Show):
            self._show(meant)
            return
        for deed in meant:
            self.do(deed)

    def _show(self, show: Show) -> None:
        if show.what == "page":
            self.action_show_page(show.subject)
        elif show.what == "key":
            self._walk_key(show.subject)
        elif show.what == "help":
            self.action_help()
        else:
            self.exit()

    def action_quorum(self) -> None:
        """Change R, W or the mode, live."""
        quorum = self.view.quorum
        value = f"config set r={quorum.r} w={quorum.w} mode={quorum.mode}"
        self.query_one(PromptLine).ask(":", self.run_command, value=value)

    # ------------------------------------------------------------ deeds

    def on_page_wants(self, event: Page.Wants) -> None:
        """A page wants something done."""
        self.do(event.deed)

    def on_page_looks(self) -> None:
        """A page cannot wait for the next regular lookup."""
        self._look_now.set()

    def on_page_says(self, event: Page.Says) -> None:
        """A page has something to say."""
        self.notify_line(event.sentence, DIM, event.hint)

    def action_partition(self) -> None:
        """Plan a partition; what it would do is shown even when nothing can be done."""
        if not self.view.nodes:
            self.notify_line("no node is known yet.", DIM)
            return

        def on_plan(plan: PartitionPlan | None) -> None:
            if plan is not None:
                self.do(deeds.planned(plan))

        dialog = PartitionDialog(
            lambda: self.view, self._glyphs, random.Random(), self.page.selected_node
        )
        self.push_screen(dialog, on_plan)

    def action_heal(self) -> None:
        """Lift all injected faults."""
        self.do(deeds.heal())

    def action_kill(self) -> None:
        """SIGKILL the selected node."""
        self._do_to_selected(deeds.kill)

    def action_pause(self) -> None:
        """SIGSTOP the selected node, or SIGCONT it if it is paused."""
        self._do_to_selected(
            lambda node: deeds.resume(node) if self._is_paused(node) else deeds.pause(node)
        )

    def action_restart(self) -> None:
        """Restart the selected node, or start it if it is down."""
        self._do_to_selected(
            lambda node: deeds.start(node) if self._is_down(node) else deeds.restart(node)
        )

    def action_undo(self) -> None:
        """Undo the last deed that can be undone."""
        if not self._undo:
            self.notify_line("there is nothing to undo.", DIM)
            return
        self.do(self._undo.pop(), undoing=True)

    def _is_paused(self, node: str) -> bool:
        return self.view.nodes[node].process is ProcessWord.PAUSED

    def _is_down(self, node: str) -> bool:
        return self.view.nodes[node].process in (ProcessWord.DEAD, ProcessWord.STOPPED)

    def _do_to_selected(self, make: Callable[[str], Deed]) -> None:
        node = self.page.selected_node
        if node in self.view.nodes:
            self.do(make(node))
        else:
            self.notify_line("select a node first.", DIM)

    def do(self, deed: Deed, *, undoing: bool = False) -> None:
        """Do it now, or ask first if it would leave ranges without a write quorum."""
        if self._handle is None:
            self.notify_line("this dashboard is read-only.", DIM, f"{deed.command} does it.")
            return
        after = None if undoing else deeds.worsened(self.view, deed)
        if after is None:
            self._begin(deed)
            return
        total = after.full + after.degraded + after.no_write
        lines = [f"{after.no_write} of {total} ranges would be without a write quorum."]
        lines += [describe_side(side) for side in after.sides] or ["No node would be left."]

        def on_answer(answer: bool | None) -> None:
            if answer:
                self._begin(deed)
            else:
                self.notify_line(f"{deed.command}: not done.", DIM)

        self.push_screen(ConfirmDialog(f"{deed.command}?", lines, yes="Do it"), on_answer)

    def _begin(self, deed: Deed) -> None:
        self.notify_line(f"{deed.command} ...", DIM)
        self._queue.put(deed)

    def _do_deeds(self) -> None:
        """The deeds' thread: one after the other, in the order they were asked for."""
        handle = self._handle
        while (deed := self._queue.get()) is not None:
            assert handle is not None
            try:
                done: Outcome | Exception = deed.perform(handle)
            except Exception as error:  # noqa: BLE001 - the top of a thread: told in the other
                done = error
            try:
                self.call_from_thread(self._on_done, deed, done)
            except RuntimeError:
                return  # the application has ended meanwhile

    def _on_done(self, deed: Deed, done: Outcome | Exception) -> None:
        if isinstance(done, StoreError):
            self.notify_line(done.message, BAD, done.hint)
            return
        if isinstance(done, Exception):
            raise done
        hint = f"[{deed.command}]"
        if done.undo is not None:
            self._undo = [*self._undo[-(UNDO_MAX - 1) :], done.undo]
            hint += "  u undoes it"
        if done.operation is not None:
            self.query_one(OverviewPage).walk("")
            self.observe(done.operation)
        self.notify_line(done.sentence, OK, hint)
        self.paint()


def _is_same(one: tuple[Any, ...], other: tuple[Any, ...]) -> bool:
    """Views are compared by identity, which is what they are made for; the rest is small."""
    return bool(other) and one[0] is other[0] and one[1:] == other[1:]


def _call(function: Callable[[str], None], argument: str) -> Callable[[], None]:
    return lambda: function(argument)


def _help_text(page: Page) -> str:
    lines = [f"{page.NAME}: {page.SUMMARY}", "", page.HELP, "", "Keys"]
    lines += [f"  {key:<8} {what}" for key, what in (*page.KEYS, *GLOBAL_KEYS)]
    lines += [f"  {page_.KEY:<8} {page_.NAME}: {page_.SUMMARY}" for page_ in PAGES]
    lines += [
        "  ctrl+p   everything, by name",
        "  , . < >  back, forth, slower, faster in a replay",
        "",
    ]
    lines += ["Commands, after a colon, as on the command line"]
    lines += [f"  {command.usage:<34} {command.summary}" for command in COMMANDS.values()]
    return "\n".join(lines)


def wall_clock_ms() -> int:
    """The clock of a live dashboard."""
    return time.time_ns() // 1_000_000
