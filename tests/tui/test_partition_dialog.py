"""The dialog in which a partition is planned, and healing."""

from __future__ import annotations

import pytest
from textual.widgets import Static

from kvctl.tui.link_matrix import GroupPane, LinkMatrix
from kvctl.tui.partition_dialog import PartitionDialog
from kvctl.tui.prompt import PromptLine
from kvctl.view.observation import Observation
from tests.tui.dashboard_pilot import Dashboard, assert_snapshot, busy_cluster, run_dashboard
from tests.unit.view.cluster_story import BEGAN_MS, answered, silent


def dialog_of(dashboard: Dashboard) -> PartitionDialog:
    screen = dashboard.app.screen
    assert isinstance(screen, PartitionDialog)
    return screen


def preview(dashboard: Dashboard) -> str:
    return str(dialog_of(dashboard).query_one("#preview", Static).render())


@pytest.mark.parametrize("size", [(80, 24), (120, 35), (200, 60)], ids=str)
def test_the_dialog_fits_every_size(size: tuple[int, int]) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x", "m")
        assert_snapshot(f"partition-{size[0]}x{size[1]}", dashboard.text)
        assert "escape leaves it" in dashboard.text

    run_dashboard(scenario, *busy_cluster(), size=size)


def test_a_cut_is_done_with_enter_and_undone_with_u() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x", "m", "enter")
        await dashboard.until(lambda: dashboard.handle.calls)
        assert dashboard.handle.calls == [("partition", [["n1", "n2", "n3"], ["n4", "n5"]])]
        await dashboard.until(lambda: "kvctl partition n1,n2,n3 n4,n5" in dashboard.notice)
        await dashboard.press("u")
        await dashboard.until(lambda: len(dashboard.handle.calls) == 2)
        assert dashboard.handle.calls[1] == ("heal", "f1")

    run_dashboard(scenario, *busy_cluster())


def test_numbers_and_arrows_put_nodes_into_groups() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x", "2", "down", "right", "down", "0")
        assert dialog_of(dashboard).plan.groups == (2, 2, 0, 1, 1)
        assert "kvctl partition n4,n5 n1,n2" in preview(dashboard)

    run_dashboard(scenario, *busy_cluster())


def test_single_links_are_cut_one_way_in_the_matrix() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x", "tab", "down", "right", "space")
        assert dialog_of(dashboard).plan.links() == {("n2", "n3")}
        assert "'n2>n3' --drop" in preview(dashboard)
        await dashboard.press("enter")
        await dashboard.until(lambda: dashboard.handle.calls)
        assert dashboard.handle.calls == [("cut_links", ["n2>n3"])]

    run_dashboard(scenario, *busy_cluster())


def test_the_mouse_does_the_same() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x")
        await dashboard.pilot.click(GroupPane, offset=(3, 2))
        assert dialog_of(dashboard).plan.group_of("n2") == 2
        await dashboard.pilot.click(LinkMatrix, offset=(5 + 5 * 2 + 1, 2))
        assert ("n1", "n3") in dialog_of(dashboard).plan.links()

    run_dashboard(scenario, *busy_cluster())


def test_the_preview_follows_the_cluster_while_the_dialog_is_open() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x", "i")
        assert "n2,n3,n4,n5: writes everywhere" in preview(dashboard)
        await dashboard.tell(silent("n5", BEGAN_MS + 2900))
        assert "n2,n3,n4: writes everywhere" in preview(dashboard)

    run_dashboard(scenario, *busy_cluster())


def strict() -> list[Observation]:
    quorum = {"n": 3, "r": 2, "w": 3, "mode": "strict"}
    return [*busy_cluster(), answered("n1", BEGAN_MS + 2600, quorum=quorum)]


def test_a_cut_that_takes_away_write_quorums_asks_once_more() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x", "h")
        assert "0 without write quorum" not in preview(dashboard)
        await dashboard.press("enter")
        assert "without a write quorum" in dashboard.text
        await dashboard.press("enter")  # Cancel has the focus
        assert dashboard.handle.calls == []
        assert "not done" in dashboard.notice

    run_dashboard(scenario, *strict())


def test_nothing_is_cut_by_enter_alone_or_after_escape() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x", "enter")
        assert dialog_of(dashboard).plan.links() == frozenset()
        await dashboard.press("h", "escape")
        assert not isinstance(dashboard.app.screen, PartitionDialog)
        assert dashboard.handle.calls == []

    run_dashboard(scenario, *busy_cluster())


def test_keys_of_the_dialog_do_not_reach_the_dashboard_below() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x", "h", "c")
        assert dialog_of(dashboard).plan.links() == frozenset()
        await dashboard.press("r", "w", "k")
        assert not dashboard.app.query_one(PromptLine).has_class("-asking")
        assert isinstance(dashboard.app.screen, PartitionDialog)
        await dashboard.press("escape")
        assert dashboard.handle.calls == []

    run_dashboard(scenario, *busy_cluster())


def test_a_read_only_dashboard_previews_and_does_not_cut_or_heal() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("x", "h")
        assert "writes" in preview(dashboard)
        await dashboard.press("enter")
        assert "read-only" in dashboard.notice
        await dashboard.press("H")
        assert "read-only" in dashboard.notice and "kvctl heal" in dashboard.notice

    run_dashboard(scenario, *busy_cluster(), read_only=True)


def test_shift_h_heals_everything() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("H")
        await dashboard.until(lambda: dashboard.handle.calls)
        assert dashboard.handle.calls == [("heal", "")]

    run_dashboard(scenario, *busy_cluster())
