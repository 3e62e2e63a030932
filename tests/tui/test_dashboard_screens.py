"""What the pages show at the sizes that matter."""

from __future__ import annotations

import pytest

from kvctl.tui.fixed_table import FixedTable
from kvctl.tui.ring_pane import RingPane
from kvctl.view.observation import Observation, ProcessWord
from tests.tui.dashboard_pilot import (
    NAMES,
    NOW_MS,
    Dashboard,
    assert_snapshot,
    busy_cluster,
    run_dashboard,
)
from tests.unit.view.cluster_story import (
    BEGAN_MS,
    answered,
    beliefs,
    cluster_seen,
    cut_fault,
    event,
    silent,
)

SIZES = [(80, 24), (120, 35), (200, 60)]


def broken_cluster() -> list[Observation]:
    """One node of each kind."""
    links = [(one, "n5") for one in NAMES if one != "n5"]
    others = {"n2": "down", "n3": "suspect"}
    return [
        *busy_cluster(),
        silent("n2", BEGAN_MS + 2500, ProcessWord.DEAD),
        silent("n3", BEGAN_MS + 2500, ProcessWord.PAUSED),
        answered("n1", BEGAN_MS + 2500, members=beliefs(age_ms=5200, **others)),
        answered("n5", BEGAN_MS + 2500, faults=[cut_fault(*links, hits=40)]),
    ]


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("page", ["overview", "nodes"])
def test_a_healthy_cluster_at_every_size(size: tuple[int, int], page: str) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.app.action_show_page(page)
        await dashboard.settle()
        assert_snapshot(f"{page}-{size[0]}x{size[1]}", dashboard.text)

    run_dashboard(scenario, *busy_cluster(), size=size)


def test_the_detail_of_a_node_tells_what_its_storage_has_put_off_and_what_fails() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.app.action_show_page("nodes")
        await dashboard.settle()
        assert "0 compactions, one due; failing: no space" in dashboard.text

    storage = {"compaction_due": True, "background_error": "no space"}
    told = [*busy_cluster(), answered("n1", BEGAN_MS + 3000, storage=storage)]
    run_dashboard(scenario, *told, size=(120, 35))


@pytest.mark.parametrize("size", SIZES[:2], ids=lambda size: f"{size[0]}x{size[1]}")
def test_a_broken_cluster_shows_a_glyph_and_a_letter_for_each_state(size: tuple[int, int]) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        assert_snapshot(f"broken-{size[0]}x{size[1]}", dashboard.text)
        for sign in ("●U up", "○D down", "‖P paused", "╳C cut"):
            assert sign in dashboard.text

    run_dashboard(scenario, *broken_cluster(), size=size)


def test_ascii_means_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(dashboard: Dashboard) -> None:
        for page in ("nodes", "overview"):
            dashboard.app.action_show_page(page)
            await dashboard.settle()
            assert dashboard.text.isascii(), [one for one in dashboard.lines if not one.isascii()]
        assert_snapshot("broken-ascii-120x35", dashboard.text)
        await dashboard.press("question_mark")
        assert "SEES is the belief matrix" in dashboard.text
        assert dashboard.text.isascii(), "dialogs, too"

    run_dashboard(scenario, *broken_cluster(), ascii=True)


def test_without_colours_the_ring_is_drawn_with_the_signs_of_the_owners(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(dashboard: Dashboard) -> None:
        pane = dashboard.app.query_one(RingPane)
        drawn = "".join(
            segment.text for y in range(pane.size.height) for segment in pane.render_line(y)
        )
        assert set("12345") <= set(drawn)
        assert not set("▀▄█▌") & set(drawn)

    run_dashboard(scenario, *busy_cluster())


def test_the_header_fits_a_narrow_screen_and_says_everything() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        assert len(dashboard.header) <= 80
        for part in ("LIVE", "demo", "N3 R2 W2", "sloppy", "64 full", "0 no-W", "hints 12"):
            assert part in dashboard.header

    run_dashboard(scenario, *busy_cluster(), size=(80, 24))


def test_the_header_counts_ranges_without_a_write_quorum() -> None:
    strict = {"n": 3, "r": 2, "w": 3, "mode": "strict"}

    async def scenario(dashboard: Dashboard) -> None:
        assert "0 no write quorum" in dashboard.header
        await dashboard.tell(silent("n1", NOW_MS))
        assert dashboard.app.scene is not None and dashboard.app.scene.outlook is not None
        without = dashboard.app.scene.outlook.no_write
        assert 0 < without < 64
        assert f"{without} no write quorum" in dashboard.header

    run_dashboard(
        scenario,
        cluster_seen(w=3, mode="strict"),
        *(answered(name, BEGAN_MS + 1000, quorum=strict) for name in NAMES),
    )


def test_before_anything_is_known_the_screen_says_so() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        assert "no ring yet" in dashboard.header
        assert "no nodes yet" in dashboard.text

    run_dashboard(scenario)


def test_nothing_is_drawn_again_while_nothing_changes() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        tables = list(dashboard.app.query(FixedTable))
        before = [table.rows_painted for table in tables]
        scene = dashboard.app.scene
        for _ in range(5):
            await dashboard.settle()
        assert dashboard.app.scene is scene, "nothing is even computed again"
        assert [table.rows_painted for table in tables] == before

    run_dashboard(scenario, *busy_cluster())


def test_only_the_row_that_changed_is_drawn_again() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        table = dashboard.app.query_one("#nodes", FixedTable)
        before = table.rows_painted
        await dashboard.tell(silent("n2", NOW_MS, ProcessWord.PAUSED))
        assert "‖P paused" in dashboard.text
        assert table.rows_painted - before <= 2, "one row, not the table"

    run_dashboard(scenario, *busy_cluster())


def test_routine_events_are_painted_together_with_the_next_news() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        app = dashboard.app
        app.paint_in_turn()
        painted = app.scene
        found_equal = {"trigger": "background", "state": "equal"}
        app.observe(event("n5", 90, "merkle_round", **found_equal))
        app.paint_in_turn()
        assert app.scene is painted
        app.observe(event("n5", 91, "member_suspected", member="n1"))
        app.paint_in_turn()
        assert app.scene is not None
        kinds = [one.kind for one in app.scene.view.events[-2:]]
        assert kinds == ["merkle_round", "member_suspected"]

    run_dashboard(scenario, *busy_cluster())
