"""The page of conflicts: siblings side by side, and settling on one value."""

from __future__ import annotations

import pytest

from kvctl.view.observation import ConflictsSeen, KeyConflict, VersionSeen
from tests.tui.dashboard_pilot import (
    NOW_MS,
    Dashboard,
    FakeReader,
    assert_snapshot,
    busy_cluster,
    run_dashboard,
)
from tests.unit.view.cluster_story import BEGAN_MS, answered

CART = KeyConflict(
    "cart:7",
    (("n1", 4), ("n2", 2), ("n4", 1)),
    (VersionSeen(("n1", 4), "apple\nbread\n"), VersionSeen(("n2", 2), "apple\nmilk\n")),
)
GONE = KeyConflict(
    "user:1",
    (("n3", 2), ("n5", 1)),
    (VersionSeen(("n3", 2), None), VersionSeen(("n5", 1), "Ada")),
)
STORED = {("n1", 4): b"apple\nbread\n", ("n2", 2): b"apple\nmilk\n"}


async def show(dashboard: Dashboard) -> None:
    await dashboard.press("3")
    await dashboard.look_up()


@pytest.mark.parametrize("size", [(80, 24), (120, 35), (200, 60)], ids=str)
def test_siblings_stand_side_by_side_at_every_size(size: tuple[int, int]) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await show(dashboard)
        assert_snapshot(f"conflicts-{size[0]}x{size[1]}", dashboard.text)
        assert dashboard.text.count("breaks") == 2

    run_dashboard(scenario, *busy_cluster(), size=size, reader=FakeReader(CART, GONE))


def test_without_colours_or_line_signs_everything_is_still_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(dashboard: Dashboard) -> None:
        await show(dashboard)
        assert dashboard.text.isascii()
        assert "###@ breaks" in dashboard.text

    run_dashboard(scenario, *busy_cluster(), ascii=True, reader=FakeReader(CART, GONE))


def test_t_keeps_the_chosen_version_and_shows_the_command() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.handle.stored = dict(STORED)
        await show(dashboard)
        await dashboard.press("right", "t")
        await dashboard.until(lambda: dashboard.handle.calls)
        assert dashboard.handle.calls == [("settle", "cart:7", b"apple\nmilk\n")]
        await dashboard.until(lambda: "kvctl resolve cart:7 --pick n2:2" in dashboard.notice)

    run_dashboard(scenario, *busy_cluster(), reader=FakeReader(CART, GONE))


def test_taking_a_tombstone_deletes_the_key() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.handle.stored = {("n3", 2): None, ("n5", 1): b"Ada"}
        await show(dashboard)
        await dashboard.press("down", "t")
        await dashboard.until(lambda: "is deleted" in dashboard.notice)
        assert dashboard.handle.calls == [("settle", "user:1", None)]

    run_dashboard(scenario, *busy_cluster(), reader=FakeReader(CART, GONE))


def test_m_joins_the_lines_of_what_is_stored_now() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.handle.stored = dict(STORED)
        await show(dashboard)
        await dashboard.press("m")
        await dashboard.until(lambda: dashboard.handle.calls)
        assert dashboard.handle.calls == [("settle", "cart:7", b"apple\nbread\nmilk\n")]

    run_dashboard(scenario, *busy_cluster(), reader=FakeReader(CART, GONE))


def test_e_edits_the_joined_lines_and_escape_leaves_them() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.handle.stored = dict(STORED)
        await show(dashboard)
        await dashboard.press("e")
        assert "bread" in dashboard.text and "milk" in dashboard.text
        await dashboard.press("escape")
        assert dashboard.handle.calls == []
        assert "left as it is" in dashboard.notice
        await dashboard.press("e", "q", "ctrl+s")
        await dashboard.until(lambda: dashboard.handle.calls)
        assert dashboard.handle.calls == [("settle", "cart:7", b"qapple\nbread\nmilk\n")]

    run_dashboard(scenario, *busy_cluster(), reader=FakeReader(CART, GONE))


def test_what_changed_since_it_was_shown_is_not_written_over() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.handle.stored = {**STORED, ("n5", 1): b"a third one"}
        await show(dashboard)
        await dashboard.press("t")
        await dashboard.until(lambda: "has changed since" in dashboard.notice)
        assert dashboard.handle.calls == []

    run_dashboard(scenario, *busy_cluster(), reader=FakeReader(CART, GONE))


def test_read_only_means_that_nothing_is_settled() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await show(dashboard)
        for key in ("t", "m"):
            await dashboard.press(key)
            assert "read-only" in dashboard.notice

    run_dashboard(scenario, *busy_cluster(), read_only=True, reader=FakeReader(CART, GONE))


def test_a_value_that_is_no_text_can_be_taken_but_not_merged_or_edited() -> None:
    binary = KeyConflict(
        "blob",
        (("n1", 1), ("n2", 1)),
        (VersionSeen(("n1", 1), "/w==", "base64"), VersionSeen(("n2", 1), "text")),
    )

    async def scenario(dashboard: Dashboard) -> None:
        dashboard.handle.stored = {("n1", 1): b"\xff", ("n2", 1): b"text"}
        await show(dashboard)
        await dashboard.press("m")
        assert "not text" in dashboard.notice
        await dashboard.press("e")
        assert "no text" in dashboard.notice
        await dashboard.press("t")
        await dashboard.until(lambda: dashboard.handle.calls)
        assert dashboard.handle.calls == [("settle", "blob", b"\xff")]

    run_dashboard(scenario, *busy_cluster(), reader=FakeReader(binary))


def test_siblings_are_looked_for_again_when_the_nodes_count_others_and_not_before() -> None:
    reader = FakeReader(CART)

    async def scenario(dashboard: Dashboard) -> None:
        await show(dashboard)
        await dashboard.look_up()
        assert reader.asked == ["conflicts"]
        await dashboard.tell(answered("n1", BEGAN_MS + 4000, conflicts=1))
        await dashboard.look_up()
        assert reader.asked == ["conflicts", "conflicts"]

    run_dashboard(scenario, *busy_cluster(), reader=reader)


def test_a_recorded_scan_shows_its_siblings_without_any_cluster() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("3")
        assert "apple" in dashboard.text
        await dashboard.tell(ConflictsSeen(NOW_MS + 1, ()))
        assert "no key has siblings" in dashboard.text

    run_dashboard(scenario, *busy_cluster(), ConflictsSeen(NOW_MS, (CART,)))
