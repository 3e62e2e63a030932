"""The timeline, the logs, exports, and scrubbing through a replay."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvctl.tui.cluster_reader import LogLine
from kvctl.view.observation import NodeEvent, Observation
from kvctl.view.recorder import FORMAT_NAME, FORMAT_VERSION, RecordingHead
from kvctl.view.recording import Recording, ReplayFeed
from tests.tui.dashboard_pilot import (
    Dashboard,
    FakeReader,
    assert_snapshot,
    busy_cluster,
    run_dashboard,
)
from tests.unit.view.cluster_story import BEGAN_MS, all_up, event

SIZES = [(80, 24), (120, 35), (200, 60)]


@pytest.fixture(autouse=True)
def utc(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snapshots show local time."""
    import time

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def story() -> list[Observation]:
    return [
        *busy_cluster(),
        event("n3", 1, "node_started", at_ms=BEGAN_MS + 100),
        event("n1", 1, "member_alive", at_ms=BEGAN_MS + 300, member="n3", generation=1),
        event("n2", 1, "hint_stored", at_ms=BEGAN_MS + 900, target="n5", count=1, queued=4),
        event("n2", 2, "sibling_created", at_ms=BEGAN_MS + 950, key="cart:7"),
        event("n4", 1, "member_down", at_ms=BEGAN_MS + 999, member="n1", observers=["n4", "n5"]),
    ]


def carried(node: str, seq: int, kind: str, **clock: int) -> NodeEvent:
    """An event that its node has stamped with its trace clock."""
    return NodeEvent(BEGAN_MS + 1000 + seq, node, 1, seq, kind, {}, clock)


def logs() -> FakeReader:
    reader = FakeReader()
    at = "2026-01-01T10:00:0{}.000Z"
    reader.lines = [
        LogLine("n1", 1, at.format(1), at.format(1) + " INFO node.main: n1 serves"),
        LogLine("n2", 1, at.format(2), at.format(2) + " WARNING node.x: the disk is slow"),
        LogLine("n2", 2, at.format(2), "  and more about it"),
        LogLine("n1", 2, at.format(3), at.format(3) + " ERROR node.y: \x1b[2J it broke"),
    ]
    return reader


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_timeline_and_logs_at_every_size(size: tuple[int, int]) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("6")
        await dashboard.look_up()
        assert_snapshot(f"timeline-{size[0]}x{size[1]}", dashboard.text)
        await dashboard.press("7")
        await dashboard.look_up()
        assert_snapshot(f"logs-{size[0]}x{size[1]}", dashboard.text)
        assert "\x1b" not in dashboard.text

    run_dashboard(scenario, *story(), size=size, reader=logs())


def test_the_timeline_in_ascii(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("6")
        assert dashboard.text.isascii()
        assert "|   *---+---+---o" in dashboard.text

    run_dashboard(scenario, *story(), ascii=True)


def test_stepping_back_stands_still_and_end_follows_again() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("6", "up", "up")
        assert "n2 hint_stored" in dashboard.text
        await dashboard.tell(event("n5", 1, "node_started", at_ms=BEGAN_MS + 1200))
        assert "n2 hint_stored" in dashboard.text and "standing still" in dashboard.text
        await dashboard.press("end")
        assert "n5 node_started" in dashboard.text and "standing still" not in dashboard.text
        await dashboard.tell(event("n5", 2, "merkle_built", at_ms=BEGAN_MS + 1300))
        assert "n5 merkle_built" in dashboard.text

    run_dashboard(scenario, *story())


@pytest.mark.parametrize("page", ["6", "7"])
def test_the_newest_row_is_in_sight_when_a_page_is_opened_and_after_a_resize(page: str) -> None:
    told = [event("n1", seq, "merkle_round", peer=f"p{seq}") for seq in range(1, 60)]
    reader = FakeReader()
    at = "2026-01-01T10:00:01.000Z"
    reader.lines = [LogLine("n1", seq, at, f"{at} peer=p{seq}") for seq in range(1, 60)]

    async def scenario(dashboard: Dashboard) -> None:
        def newest_row() -> str:
            return [line for line in dashboard.lines if line[2:3] == ":" and "peer=" in line][-1]

        # What is painted before the page has its place is not painted again.
        await dashboard.press(page)
        await dashboard.look_up()
        assert "peer=p59" in newest_row(), dashboard.text
        await dashboard.pilot.resize_terminal(100, 16)
        await dashboard.settle()
        assert "peer=p59" in newest_row(), dashboard.text

    run_dashboard(scenario, *busy_cluster(), *told, size=(80, 24), reader=reader)


def test_the_timeline_shows_the_trace_clock_of_the_event_under_the_cursor() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("6", "up", "up", "up")
        assert "CLOCK n1:1 n3:1" in dashboard.text
        assert "AFTER n3 node_started (event 1)" in dashboard.text

    run_dashboard(scenario, *story())


def test_clocks_that_the_nodes_carry_are_shown_with_what_led_to_an_event() -> None:
    told = [
        carried("n3", 1, "node_started", n3=1),
        carried("n2", 1, "hint_delivered", n2=1, n3=1),
        carried("n1", 1, "merkle_built", n1=1, n2=1, n3=1),
    ]

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("6")
        assert "CLOCK n1:1 n2:1 n3:1  AFTER n2 hint_delivered (event 1)" in dashboard.text
        await dashboard.press("up")
        assert "CLOCK n2:1 n3:1  AFTER n3 node_started (event 1)" in dashboard.text

    run_dashboard(scenario, *busy_cluster(), *told)


@pytest.mark.parametrize(
    ("text", "kind"), [("cart:7", "sibling_created"), ("member_down", "member_down")]
)
def test_the_timeline_is_filtered_by_key_and_by_kind(text: str, kind: str) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("6", "slash")
        await dashboard.pilot.press(*(("colon" if one == ":" else one) for one in text), "enter")
        await dashboard.settle()
        rows = [line for line in dashboard.lines if line[2:3] == ":" and "│" in line]
        assert len(rows) == 1 and kind in rows[0]

    run_dashboard(scenario, *story())


def test_events_from_before_the_dashboard_are_read_once_and_come_first() -> None:
    reader = FakeReader()
    seen = event("n2", 2, "sibling_created", at_ms=BEGAN_MS + 950, key="cart:7")
    reader.past = [event("n2", 0, "merkle_built", at_ms=BEGAN_MS - 5000), seen]

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("6")
        await dashboard.look_up()
        await dashboard.look_up()
        assert reader.asked == ["events"]
        kinds = [line for line in dashboard.lines if line[2:3] == ":" and "│" in line]
        assert "merkle_built" in kinds[0]
        assert sum("sibling_created" in line for line in kinds) == 1

    run_dashboard(scenario, *story(), reader=reader)


def test_the_timeline_is_exported_in_three_ways_and_never_over_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("6", "E")
        assert "5 events written" in dashboard.notice
        await dashboard.press("E")

    run_dashboard(scenario, *story())
    names = sorted(path.name for path in tmp_path.iterdir())
    stem = "kvctl-timeline-demo"
    ends = [".shiviz.log", ".svg", ".txt"]
    assert names == [*(f"{stem}-2{end}" for end in ends), *(f"{stem}{end}" for end in ends)]
    assert "member_down" in (tmp_path / f"{stem}.txt").read_text()
    assert 'class="cause"' in (tmp_path / f"{stem}.svg").read_text(), "n1 knew that n3 had started"
    assert 'n1 {"n1":1,"n3":1}\nmember_alive' in (tmp_path / f"{stem}.shiviz.log").read_text()
    assert (tmp_path / f"{stem}.svg").stat().st_mode & 0o777 == 0o600


def test_a_screenshot_is_an_svg_that_loads_nothing_from_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("s")
        assert "kvctl-overview.svg" in dashboard.notice

    run_dashboard(scenario, *story())
    svg = (tmp_path / "kvctl-overview.svg").read_text()
    assert svg.startswith("<svg") and "url(http" not in svg and "font-face" not in svg


def test_a_directory_that_cannot_be_written_is_said_and_nothing_breaks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("s")
        assert "cannot write" in dashboard.notice

    run_dashboard(scenario, *story())


def test_logs_are_chosen_by_node_and_searched() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("7")
        await dashboard.look_up()
        await dashboard.press("right", "right")
        assert "the disk is slow" in dashboard.text and "n1 serves" not in dashboard.text
        await dashboard.press("left", "left", "slash", "b", "r", "o", "k", "e", "enter")
        assert "it broke" in dashboard.text and "the disk is slow" not in dashboard.text
        await dashboard.press("left")
        assert "no line matches" in dashboard.text

    run_dashboard(scenario, *busy_cluster(), reader=logs())


def replay_of(*observations: Observation) -> ReplayFeed:
    head = RecordingHead(FORMAT_NAME, FORMAT_VERSION, "demo", BEGAN_MS)
    late = event("n1", 9, "node_started", at_ms=BEGAN_MS + 60_000)
    return ReplayFeed(Recording(head, [*observations, late]), clock=lambda: 0)


def test_left_and_right_scrub_through_a_replay_and_the_header_says_where_it_is() -> None:
    feed = replay_of(*all_up())

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("right", "right")
        assert "REPLAY 0:10/1:00 x1" in dashboard.header
        await dashboard.press("left", "greater_than_sign", "greater_than_sign")
        assert "REPLAY 0:05/1:00 x4" in dashboard.header
        await dashboard.press("less_than_sign", "space")
        assert "x2 paused" in dashboard.header
        feed.seek(BEGAN_MS + 58_000)
        await dashboard.press("right")
        assert feed.ended and "1:00/1:00" in dashboard.header

    run_dashboard(scenario, feed=feed)


def test_what_a_recording_does_not_hold_is_said() -> None:
    said = {
        "3": "nobody looked for siblings",
        "5": "a recording has no trees",
        "7": "a recording has no logs",
    }

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("right")
        for page, words in said.items():
            await dashboard.press(page)
            assert words in dashboard.text

    run_dashboard(scenario, feed=replay_of(*all_up()))
