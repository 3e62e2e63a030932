"""What the keys and the command line do."""

from __future__ import annotations

import threading
from pathlib import Path

from textual.widgets import Button, Input

from kvctl.tui.dialogs import ConfirmDialog, HelpDialog
from kvctl.tui.fixed_table import FixedTable
from kvctl.tui.pages import PAGES
from kvctl.view.feed import STALE_AFTER_MS
from kvctl.view.observation import Observation, ProcessWord
from kvctl.view.recorder import Recorder
from kvctl.view.recording import ReplayFeed, read_recording
from kvctl.view.scripted_feed import ScriptedFeed
from kvctl_node.errors import UnavailableError
from tests.tui.dashboard_pilot import NAMES, NOW_MS, Dashboard, busy_cluster, run_dashboard
from tests.unit.view.cluster_story import BEGAN_MS, all_up, answered, cluster_seen, silent

STRICT = {"n": 3, "r": 2, "w": 2, "mode": "strict"}


def strict_cluster() -> list[Observation]:
    return [
        cluster_seen(mode="strict"),
        *(answered(name, BEGAN_MS + 1000, quorum=STRICT) for name in NAMES),
    ]


# ------------------------------------------------------------------ looking


def test_the_digits_show_the_pages() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        for page in PAGES:
            await dashboard.press(page.KEY)
            assert dashboard.app.page.NAME == page.NAME

    run_dashboard(scenario, *all_up())


def test_the_question_mark_explains_the_page_that_is_shown() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("2", "question_mark")
        assert isinstance(dashboard.app.screen, HelpDialog)
        assert "nodes: every node" in dashboard.text
        await dashboard.press("escape")
        assert not isinstance(dashboard.app.screen, HelpDialog)

    run_dashboard(scenario, *all_up())


def test_space_freezes_the_picture_while_the_view_goes_on() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("space")
        assert "FROZEN +0" in dashboard.header
        await dashboard.tell(silent("n1", NOW_MS), silent("n2", NOW_MS))
        assert "FROZEN +2" in dashboard.header
        assert "○D down" not in dashboard.text
        assert dashboard.app.view.nodes["n1"].process is ProcessWord.DEAD
        await dashboard.press("space")
        assert "LIVE" in dashboard.header
        assert "○D down" in dashboard.text

    run_dashboard(scenario, *all_up())


def test_a_filter_leaves_the_rows_that_match() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("slash")
        await dashboard.type("n3")
        table = dashboard.app.query_one("#nodes", FixedTable)
        assert [row.key for row in table.rows] == ["n3"]
        assert "/n3" in dashboard.header

    run_dashboard(scenario, *all_up())


def test_escape_gives_a_question_up() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("slash")
        await dashboard.press("x", "escape")
        assert "/x" not in dashboard.header
        assert isinstance(dashboard.app.focused, FixedTable), "the table listens again"
        await dashboard.press("k")
        await dashboard.until(lambda: dashboard.handle.calls)

    run_dashboard(scenario, *all_up())


def test_keys_typed_into_the_command_line_are_text() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("colon", "k", "q", "1", "space")
        assert dashboard.app.query_one(Input).value == "kq1 "
        assert dashboard.handle.calls == []

    run_dashboard(scenario, *all_up())


def test_w_walks_a_key_to_its_owners() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("2", "w")
        await dashboard.type("user:42")
        ring = dashboard.app.view.ring
        assert ring is not None
        partition = ring.partition_of(b"user:42")
        assert dashboard.app.page.NAME == "overview"
        assert f"partition {partition}" in dashboard.text
        for owner in ring.owners[partition]:
            assert f"→ {owner}" in dashboard.text

    run_dashboard(scenario, *all_up())


def test_a_picture_that_is_not_renewed_is_stale() -> None:
    clock = [NOW_MS]

    async def scenario(dashboard: Dashboard) -> None:
        assert "LIVE" in dashboard.header
        clock[0] += STALE_AFTER_MS
        await dashboard.settle()
        assert "STALE" in dashboard.header

    run_dashboard(scenario, *all_up(), clock=lambda: clock[0])


def test_a_feed_that_dies_is_told_and_what_it_tells_later_makes_the_picture_live_again() -> None:
    feed = ScriptedFeed(*all_up())

    async def scenario(dashboard: Dashboard) -> None:
        feed.fail("the cluster is gone.")
        await dashboard.pilot.pause()
        await dashboard.settle()
        assert "STALE" in dashboard.header
        assert "the cluster is gone." in dashboard.header
        dashboard.app.observe(answered("n1", NOW_MS + 1))
        await dashboard.settle()
        assert "LIVE" in dashboard.header

    run_dashboard(scenario, feed=feed)


# ------------------------------------------------------------------ doing


def test_k_kills_the_selected_node_and_u_starts_it_again() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("down", "k")
        await dashboard.until(lambda: dashboard.handle.calls == [("kill", "n2")])
        assert dashboard.notice == "n2 was killed.  [kvctl kill n2]  u undoes it"
        await dashboard.press("u")
        await dashboard.until(lambda: dashboard.handle.calls[1:] == [("start", "n2")])

    run_dashboard(scenario, *all_up())


def test_p_pauses_and_resumes_and_r_starts_what_is_down() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("p")
        await dashboard.tell(silent("n1", NOW_MS, ProcessWord.PAUSED))
        await dashboard.press("p")
        await dashboard.press("r")
        await dashboard.tell(silent("n1", NOW_MS + 1, ProcessWord.DEAD))
        await dashboard.press("r")
        await dashboard.until(lambda: len(dashboard.handle.calls) == 4)
        assert [call[0] for call in dashboard.handle.calls] == [
            "pause",
            "resume",
            "restart",
            "start",
        ]

    run_dashboard(scenario, *all_up())


def test_what_would_leave_a_range_without_write_quorum_asks_and_cancel_has_the_focus() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("k")
        await dashboard.until(lambda: dashboard.handle.calls == [("kill", "n1")])
        await dashboard.tell(silent("n1", NOW_MS))
        await dashboard.press("down", "k")
        assert isinstance(dashboard.app.screen, ConfirmDialog)
        assert "kvctl kill n2" in dashboard.text
        assert "would be without a write quorum" in dashboard.text
        assert "n3,n4,n5: writes in" in dashboard.text
        assert isinstance(dashboard.app.focused, Button)
        assert dashboard.app.focused.id == "cancel"
        await dashboard.press("enter")
        assert dashboard.handle.calls == [("kill", "n1")], "Enter cancels"
        await dashboard.press("k", "tab", "enter")
        await dashboard.until(lambda: dashboard.handle.calls[1:] == [("kill", "n2")])

    run_dashboard(scenario, *strict_cluster())


def test_one_of_five_nodes_may_go_without_a_question() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("k")
        assert not isinstance(dashboard.app.screen, ConfirmDialog)

    run_dashboard(scenario, *strict_cluster())


def test_a_partition_of_a_strict_cluster_asks_and_says_what_each_side_could_do() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("colon")
        await dashboard.type("partition n1,n2 n3,n4,n5")
        assert isinstance(dashboard.app.screen, ConfirmDialog) is False
        await dashboard.until(lambda: dashboard.handle.calls)
        assert dashboard.handle.calls == [("partition", [["n1", "n2"], ["n3", "n4", "n5"]])]
        assert "(fault f1)" in dashboard.notice
        await dashboard.press("u")
        await dashboard.until(lambda: dashboard.handle.calls[1:] == [("heal", "f1")])

    run_dashboard(scenario, *strict_cluster())


def test_a_read_only_dashboard_changes_nothing_and_says_which_command_does() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("k")
        assert "read-only" in dashboard.notice
        assert "kvctl kill n1" in dashboard.notice
        await dashboard.press("colon")
        await dashboard.type("put a b")
        assert "read-only" in dashboard.notice
        assert dashboard.handle.calls == []

    run_dashboard(scenario, *all_up(), read_only=True)


def test_a_deed_that_fails_says_why_and_leaves_nothing_to_undo() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.handle.error = UnavailableError("no quorum.", hint="heal it.")
        await dashboard.press("k")
        await dashboard.until(lambda: "no quorum." in dashboard.notice)
        assert "heal it." in dashboard.notice
        await dashboard.press("u")
        assert "nothing to undo" in dashboard.notice

    run_dashboard(scenario, *all_up())


def test_the_screen_goes_on_while_a_deed_takes_its_time() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.handle.gate = threading.Event()
        await dashboard.press("k")
        assert dashboard.notice == "under way ...  [kvctl kill n1]"
        await dashboard.press("2")
        assert dashboard.app.page.NAME == "nodes"
        await dashboard.tell(silent("n4", NOW_MS))
        assert "○D down" in dashboard.text
        assert dashboard.handle.calls == []
        dashboard.handle.gate.set()
        await dashboard.until(lambda: dashboard.handle.calls)

    run_dashboard(scenario, *all_up())


def test_c_changes_the_quorum_live_and_u_changes_it_back() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("c")
        field = dashboard.app.query_one(Input)
        assert field.value == "config set r=2 w=2 mode=sloppy"
        field.value = "config set r=1 w=3"
        await dashboard.press("enter")
        await dashboard.until(lambda: dashboard.handle.calls)
        assert dashboard.handle.calls == [("set_quorum", None, 1, 3, None)]
        await dashboard.press("u")
        await dashboard.until(lambda: len(dashboard.handle.calls) == 2)
        assert dashboard.handle.calls[1] == ("set_quorum", None, 2, 2, "sloppy")

    run_dashboard(scenario, *all_up())


def test_an_operation_of_ones_own_runs_over_the_ring() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("colon")
        await dashboard.type("put cart 7")
        await dashboard.until(lambda: "acknowledged by n1, n2; n4 for n3." in dashboard.notice)
        assert "put cart" in dashboard.text
        assert "n4 for n3" in dashboard.text
        await dashboard.press("colon")
        await dashboard.type("get cart")
        await dashboard.until(lambda: dashboard.notice.startswith("cart: hello."))

    run_dashboard(scenario, *all_up())


def test_a_command_nobody_knows_is_answered_with_the_nearest() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("colon")
        await dashboard.type("kil n1")
        assert "there is no command 'kil'." in dashboard.notice
        assert "did you mean kill?" in dashboard.notice

    run_dashboard(scenario, *all_up())


# ------------------------------------------------------------------ recordings


def test_what_was_watched_can_be_recorded_and_replayed(tmp_path: Path) -> None:
    path = tmp_path / "r"

    async def watch(dashboard: Dashboard) -> None:
        assert "REC" in dashboard.header
        await dashboard.tell(silent("n1", BEGAN_MS + 60_000))

    with Recorder(path, cluster="demo", began_ms=BEGAN_MS) as recorder:
        run_dashboard(watch, *busy_cluster(), recorder=recorder)

    async def replay(dashboard: Dashboard) -> None:
        assert "REPLAY" in dashboard.header
        assert "○D down" not in dashboard.text
        feed.seek(BEGAN_MS + 60_000)
        await dashboard.settle()
        assert "○D down" in dashboard.text
        for _ in range(12):
            await dashboard.press("comma")
        assert "○D down" not in dashboard.text
        await dashboard.press("space")
        assert feed.paused
        await dashboard.press("k")
        assert "read-only" in dashboard.notice

    feed = ReplayFeed(read_recording(path), clock=lambda: 0)
    run_dashboard(replay, feed=feed, read_only=True)
