"""The dashboard application: what the keys, the palette and typed commands do.

It watches (`watching_app`), and it acts: a key or a command becomes a `Deed`, which is done in a
thread (`deed_runner`). A deed that would leave ranges without a write quorum is shown and asked
about first; everything else is done at once and says how it is undone.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable
from typing import Any, ClassVar

from textual.app import SystemCommand
from textual.binding import BindingType
from textual.screen import ModalScreen, Screen
from textual.widgets import ContentSwitcher, Input, TextArea

from kvctl.tui import deeds, key_map, replay_control
from kvctl.tui.cluster_handle import ClusterHandle
from kvctl.tui.cluster_reader import ClusterReader
from kvctl.tui.command_line import COMMANDS, Show, parse_command
from kvctl.tui.deed_runner import DeedRunner
from kvctl.tui.deeds import Deed, Outcome
from kvctl.tui.dialogs import ConfirmDialog, HelpDialog
from kvctl.tui.exports import without_outside_fonts, write_new_file
from kvctl.tui.glyphs import BAD, DIM, OK
from kvctl.tui.page import Page
from kvctl.tui.pages import PAGES
from kvctl.tui.pages.overview import OverviewPage
from kvctl.tui.partition_dialog import PartitionDialog
from kvctl.tui.prompt import PromptLine
from kvctl.tui.watching_app import PAINTS_PER_S, WatchingApp, wall_clock_ms
from kvctl.view.feed import Clock, Feed
from kvctl.view.observation import ProcessWord
from kvctl.view.partition_plan import PartitionPlan
from kvctl.view.quorum_outlook import describe_side
from kvctl.view.recorder import Recorder
from kvctl.view.recording import ReplayFeed
from kvctl_node.errors import StoreError

__all__ = ["KvctlApp", "wall_clock_ms"]


class KvctlApp(WatchingApp):
    """Watches one cluster, and breaks it by key."""

    BINDINGS: ClassVar[list[BindingType]] = key_map.BINDINGS

    def __init__(
        self,
        feed: Feed,
        *,
        clock: Clock,
        open_handle: Callable[[], ClusterHandle] | None = None,
        open_reader: Callable[[], ClusterReader] | None = None,
        recorder: Recorder | None = None,
        ascii: bool = False,
        paints_per_s: float = PAINTS_PER_S,
        cluster_option: str = "",
    ) -> None:
        """`open_handle` None: read-only. The rest is `WatchingApp`'s."""
        super().__init__(
            feed,
            clock=clock,
            open_reader=open_reader,
            recorder=recorder,
            ascii=ascii,
            paints_per_s=paints_per_s,
            cluster_option=cluster_option,
        )
        self._runner: DeedRunner | None = None
        if open_handle is not None:
            self._runner = DeedRunner(open_handle, self._on_deed_done)

    def on_mount(self) -> None:
        """Be ready to act; the other half mounts itself."""
        if self._runner is not None:
            self._runner.start()

    def on_unmount(self) -> None:
        """Let the deeds' thread end."""
        if self._runner is not None:
            self._runner.stop()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that ask for a line are text while one is being typed.

        They have priority, that is, the application handles them before it passes on the next key:
        what is typed or pasted right behind them would otherwise still go to the table.
        """
        if action in ("command", "filter", "walk", "quorum"):
            is_typing = isinstance(self.focused, Input | TextArea)
            return not is_typing and not isinstance(self.screen, ModalScreen)
        return True

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
        self.push_screen(HelpDialog(key_map.help_text(self.page)))

    def get_system_commands(self, screen: Screen[Any]) -> Iterable[SystemCommand]:
        """What ctrl+p offers: every page and every command."""
        for page in PAGES:
            yield SystemCommand(page.NAME, page.SUMMARY, _call(self.action_show_page, page.NAME))
        for name, command in COMMANDS.items():
            # Titles are markup there, in which `[ID]` would be a style. Textual's own `escape`
            # knows lower-case ones only.
            usage = command.usage.replace("[", r"\[")
            yield SystemCommand(usage, command.summary, _call(self._ask_command, name))

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
        self.notify_line(event.sentence, DIM, event.hint, event.command)

    def action_partition(self) -> None:
        """Plan a partition; what it would do is shown even when nothing can be done."""
        if not self.view.nodes:
            self.notify_line("no node is known yet.", DIM)
            return

        def on_plan(plan: PartitionPlan | None) -> None:
            if plan is not None:
                self.do(deeds.planned(plan))

        dialog = PartitionDialog(
            lambda: self.view,
            self._glyphs,
            random.Random(),
            self.page.selected_node,
            cluster=self.cluster_option,
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
        undo = None if self._runner is None else self._runner.take_back()
        if undo is None:
            self.notify_line("there is nothing to undo.", DIM)
        else:
            self.do(undo, undoing=True)

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
        runner = self._runner
        if runner is None:
            if isinstance(self._feed, ReplayFeed):
                self.notify_line("a replay is read-only: it shows what was.", DIM)
            else:
                self.notify_line("this dashboard is read-only.", DIM, "does it.", deed.words)
            return
        after = None if undoing else deeds.worsened(self.view, deed)
        if after is None:
            self._begin(runner, deed)
            return
        total = after.full + after.degraded + after.no_write
        lines = [f"{after.no_write} of {total} ranges would be without a write quorum."]
        lines += [describe_side(side) for side in after.sides] or ["No node would be left."]

        def on_answer(answer: bool | None) -> None:
            if answer:
                self._begin(runner, deed)
            else:
                self.notify_line("not done.", DIM, command=deed.words)

        self.push_screen(
            ConfirmDialog(deed.words, lines, yes="Do it", cluster=self.cluster_option), on_answer
        )

    def _begin(self, runner: DeedRunner, deed: Deed) -> None:
        self.notify_line("under way ...", DIM, command=deed.words)
        runner.begin(deed)

    def _on_deed_done(self, deed: Deed, done: Outcome | Exception) -> None:
        """Called in the deeds' thread."""
        self.call_from_thread(self._on_done, deed, done)

    def _on_done(self, deed: Deed, done: Outcome | Exception) -> None:
        if isinstance(done, StoreError):
            self.notify_line(done.message, BAD, done.hint)
            return
        if isinstance(done, Exception):
            raise done
        hint = ""
        if done.undo is not None and self._runner is not None:
            self._runner.remember(done.undo)
            hint = "u undoes it"
        if done.operation is not None:
            self.query_one(OverviewPage).walk("")
            self.observe(done.operation)
        self.notify_line(done.sentence, OK, hint, deed.words)
        self.paint()


def _call(function: Callable[[str], None], argument: str) -> Callable[[], None]:
    return lambda: function(argument)
