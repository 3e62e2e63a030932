"""Whatever keys, values, names and logs hold, the screen shows it and does nothing else with it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.text import Text
from textual.widgets import Input
from wcwidth import wcswidth

from kvctl.text.cells import cut, steady
from kvctl.tui.cluster_reader import LogLine
from kvctl.tui.edit_dialog import EditDialog
from kvctl.tui.glyphs import Glyphs
from kvctl.tui.notice_line import COMMAND_IS_LONG, notice_lines
from kvctl.tui.pages import PAGES
from kvctl.tui.pages.merkle import MerklePage
from kvctl.tui.ring_pane import RingPane
from kvctl.tui.sibling_panes import sibling_lines
from kvctl.tui.steady_text import steady_text
from kvctl.view.merkle_descent import KeySeen, Level, LevelSeen, Place
from kvctl.view.observation import ConflictsSeen, KeyConflict, Observation, VersionSeen
from kvctl.view.scripted_feed import ScriptedFeed
from kvctl_node.errors import UnavailableError
from tests.tui.dashboard_pilot import NOW_MS, Dashboard, FakeReader, busy_cluster, run_dashboard
from tests.tui.evil_text import CLEARS, KEYS, flaws
from tests.unit.view.cluster_story import event, put_seen

SIZES = [(80, 24), (120, 35)]
CLOCK = (("n1", 1), ("n2", 1))
texts = st.lists(st.one_of(st.text(max_size=6), st.sampled_from(KEYS)), max_size=4).map("".join)


def conflict(key: str, *values: str | None) -> KeyConflict:
    versions = tuple(
        VersionSeen((f"n{place}", 1), value) for place, value in enumerate(values, start=1)
    )
    return KeyConflict(key, CLOCK, versions)


def evil_cluster() -> list[Observation]:
    told = busy_cluster()
    for place, key in enumerate(KEYS):
        told.append(put_seen(key, NOW_MS - 100 + place))
        told.append(event("n1", 200 + place, "sibling_created", key=key, also=[key]))
    return told


def evil_reader() -> FakeReader:
    reader = FakeReader(*(conflict(key, f"{key}\n{key}", key) for key in KEYS))
    reader.lines = [LogLine("n1", place, "", f"INFO {key}") for place, key in enumerate(KEYS)]
    return reader


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_page_shows_evil_text_by_its_codes(size: tuple[int, int]) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        for page in PAGES:
            await dashboard.press(page.KEY)
            await dashboard.look_up()
            assert flaws(dashboard.lines, size[0]) == [], page.NAME
        await dashboard.press("3")
        for key in KEYS:
            assert cut(steady(key), 20, "") in dashboard.text
            await dashboard.press("down")
            assert flaws(dashboard.lines, size[0]) == []

    run_dashboard(scenario, *evil_cluster(), size=size, reader=evil_reader())


def test_the_keys_of_a_merkle_leaf_are_shown_by_their_codes() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("5")
        dashboard.app.query_one(MerklePage)._go(leaf)
        await dashboard.look_up()
        assert r"line1\nline2" in dashboard.text
        assert flaws(dashboard.lines, 120) == []

    leaf = Place(("n1", "n2"), Level.KEYS, 0)
    reader = FakeReader()
    seen = tuple(KeySeen(key, ("a", "b"), ("n1:1", None)) for key in KEYS)
    reader.levels = {leaf: LevelSeen(leaf, keys=seen)}
    run_dashboard(scenario, *busy_cluster(), reader=reader)


@pytest.mark.parametrize("size", SIZES[:1], ids=lambda size: f"{size[0]}x{size[1]}")
def test_walks_dialogs_and_notices_show_evil_text_by_its_codes(size: tuple[int, int]) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        async def shows_it() -> None:
            await dashboard.settle()
            assert flaws(dashboard.lines, size[0]) == []

        app, handle = dashboard.app, dashboard.handle
        for number, key in enumerate(KEYS):
            app._walk_key(key)
            await shows_it()
            app._set_filter(key)
            await shows_it()
            app._set_filter("")
            app.notify_line(key, "", key, ("put", key, key))
            await shows_it()
            app.action_walk()
            app.query_one("#prompt-input", Input).value = key
            await shows_it()
            await dashboard.press("escape", "3")
            values = (key, f"{key}\r\n{key}")
            await dashboard.tell(ConflictsSeen(NOW_MS + number, (conflict(key, *values),)))
            await dashboard.press("e")
            assert isinstance(app.screen, EditDialog)
            await shows_it()
            await dashboard.press("escape")
            handle.error = UnavailableError(f"{key} is gone.", f"try {key}.")
            handle.stored = {("n1", 1): b"", ("n2", 1): b""}
            await dashboard.press("t")
            await dashboard.until(lambda: "try " in dashboard.notice)
            await shows_it()

    run_dashboard(scenario, *busy_cluster(), size=size)


def test_a_feed_that_breaks_with_evil_words_is_told_by_their_codes() -> None:
    feed = ScriptedFeed(*busy_cluster())

    async def scenario(dashboard: Dashboard) -> None:
        feed.fail(f"{CLEARS} is gone.")
        await dashboard.pilot.pause()
        await dashboard.settle()
        assert r"a\x1b[2J" in dashboard.header
        assert flaws(dashboard.lines, 120) == []

    run_dashboard(scenario, feed=feed)


def test_what_is_exported_is_free_of_control_characters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("6", "E", "s")

    run_dashboard(scenario, *evil_cluster())
    written = sorted(tmp_path.iterdir())
    assert len(written) == 4
    for path in written:
        lines = path.read_text(encoding="utf-8").split("\n")
        assert [line for line in lines if not line.replace("\xa0", " ").isprintable()] == []


def test_a_recording_that_names_its_cluster_by_a_path_writes_no_file_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = tmp_path / "inside"
    inside.mkdir()
    monkeypatch.chdir(inside)

    async def scenario(dashboard: Dashboard) -> None:
        view = dashboard.app.view
        dashboard.app.replace(msgspec.structs.replace(view, cluster="x/../../outside"))
        await dashboard.press("6", "E")
        assert "written to" in dashboard.notice

    run_dashboard(scenario, *evil_cluster())
    assert [path.name for path in tmp_path.iterdir()] == ["inside"]


# ------------------------------------------------------------------ cut by cells


CJK = "苹果香蕉橙子葡萄西瓜草莓樱桃芒果菠萝柠檬" * 3


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_siblings_that_differ_at_their_end_show_their_end(size: tuple[int, int]) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("3")
        await dashboard.look_up()
        columns = ["".join(part) for part in zip(*map(_halves, dashboard.lines), strict=True)]
        for column, end in zip(columns, "一二", strict=True):
            assert CJK + end in column.replace(" ", "")

    reader = FakeReader(conflict("cjk", CJK + "一", CJK + "二"))
    run_dashboard(scenario, *busy_cluster(), size=size, reader=reader)


def _halves(line: str) -> tuple[str, str]:
    left, _, right = line.partition("│")
    return left, right


def test_a_value_that_has_no_room_says_how_large_it_is() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await dashboard.press("3")
        await dashboard.look_up()
        assert "more lines, value of 3.9K" in dashboard.text
        assert f"n1:1={'0' * 23}…3.9K" in dashboard.text

    reader = FakeReader(conflict("long", "0" * 4000, "short"))
    run_dashboard(scenario, *busy_cluster(), size=(80, 24), reader=reader)


@given(texts, st.lists(texts, min_size=2, max_size=3), st.integers(26, 130), st.booleans())
def test_every_line_of_siblings_is_as_wide_as_the_screen_and_no_character_is_missing(
    key: str, values: list[str], width: int, ascii: bool
) -> None:
    one = conflict(key or "k", *values)
    glyphs = Glyphs(ascii=ascii)
    head, *rows = sibling_lines(one, 0, width, glyphs, 10_000)
    assert steady_text(head) == head
    for row in rows:
        assert steady(row.plain) == row.plain
        assert wcswidth(row.plain) <= width
    fitting = len(rows[0].plain.split(glyphs.separator))
    column = (width - fitting + 1) // fitting
    rule = next(y for y, row in enumerate(rows) if row.plain.startswith("-" * column))
    shown = "".join(_first_cells(row.plain, column) for row in rows[rule + 1 :])
    whole = "".join(steady(line) for line in values[0].split("\n"))
    assert shown.replace(" ", "") == whole.replace(" ", "")


def _first_cells(text: str, cells: int) -> str:
    """The characters of a row that stand in its first so many cells."""
    end = next((at for at in range(len(text) + 1) if wcswidth(text[:at]) > cells), len(text) + 1)
    return text[: end - 1]


def test_a_wide_key_stands_in_the_middle_of_the_ring_and_moves_nothing() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        dashboard.app._walk_key("购物车" * 12)
        await dashboard.settle()
        pane = dashboard.app.query_one(RingPane)
        lines = ["".join(segment.text for segment in pane.render_line(y)) for y in range(18)]
        assert {wcswidth(line) for line in lines} == {pane.size.width}
        named = next(line for line in lines if "购" in line)
        shown = named.strip("▀▄█ ")
        assert "~" in shown and shown.startswith("购") and shown.endswith("车")
        assert wcswidth(shown) <= 20
        left, right = named.split(shown)
        assert right.strip() == left.strip()[::-1], "both sides of the ring are where they were"

    run_dashboard(scenario, *busy_cluster())


# ------------------------------------------------------------------ notices


@given(texts, texts, texts, st.integers(20, 120))
def test_a_notice_fits_and_holds_its_command_whole_or_not_at_all(
    sentence: str, hint: str, word: str, width: int
) -> None:
    command = f"kvctl get {steady(word)}"
    lines = [line.plain for line in notice_lines(sentence, "", hint, command, width=width)]
    assert flaws(lines, max(width, wcswidth(COMMAND_IS_LONG))) == []
    shown = [line for line in lines if f"[{command}]" in line]
    assert len(shown) == 1 or any(COMMAND_IS_LONG in line for line in lines)


@given(texts, st.lists(st.tuples(st.integers(0, 12), st.integers(0, 12)), max_size=3))
def test_styles_stay_where_they_were(text: str, places: list[tuple[int, int]]) -> None:
    line = Text(text)
    text = line.plain  # rich leaves out some control characters by itself
    for start, end in places:
        line.stylize("bold", start, end)
    shown = steady_text(line)
    for before, after in zip(line.spans, shown.spans, strict=True):
        assert steady(text)[after.start : after.end].endswith(
            steady(text)[len(steady(text[: before.start])) : len(steady(text[: before.end]))]
        )
