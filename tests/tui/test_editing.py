"""What is edited by hand: untouched text is saved as it was, to the last byte."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.document._document import Document
from textual.events import Paste

from kvctl.tui.edit_dialog import EditDialog, SteadyTextArea
from kvctl.tui.held_text import WrittenFormError, meant, needs_written_form, written
from kvctl.view.observation import ConflictsSeen, KeyConflict, VersionSeen
from tests.tui.dashboard_pilot import NOW_MS, Dashboard, busy_cluster, run_dashboard
from tests.tui.evil_text import KEYS, flaws

ENDS = ("\n", "\r\n", "\r", "\u2028", "\u2029", "\f", "\v", "\x85", "\x1c", "\t", "\\", "\\n")
texts = st.lists(
    st.one_of(st.text(max_size=5), st.sampled_from(ENDS), st.sampled_from(KEYS)), max_size=8
).map("".join)
UNTOUCHED = [
    *(f"one{end}two{end}" for end in ENDS),
    "mixed\nends\r\nin\rone",
    "\r\n",
    "",
    r"C:\temp\x41",
    "C:\\temp\r",
    *KEYS,
]


def of(text: str) -> ConflictsSeen:
    versions = (VersionSeen(("n1", 1), text), VersionSeen(("n2", 1), None))
    return ConflictsSeen(NOW_MS, (KeyConflict("k", (("n1", 1), ("n2", 1)), versions),))


async def edit(dashboard: Dashboard) -> SteadyTextArea:
    dashboard.handle.stored = {("n1", 1): b"", ("n2", 1): None}
    await dashboard.press("3", "e")
    assert isinstance(dashboard.app.screen, EditDialog)
    return dashboard.app.screen.query_one(SteadyTextArea)


async def written_value(dashboard: Dashboard) -> object:
    await dashboard.press("ctrl+s")
    await dashboard.until(lambda: dashboard.handle.calls)
    return dashboard.handle.calls.pop()[-1]


@given(texts)
def test_what_an_editor_holds_of_any_text_is_that_text(text: str) -> None:
    if needs_written_form(text):
        form = written(text)
        assert not needs_written_form(form)
        assert meant(Document(form).text) == text
    else:
        assert Document(text).text == text


def test_untouched_text_is_saved_as_it_was() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        for number, text in enumerate(UNTOUCHED):
            seen = of(text)
            await dashboard.tell(ConflictsSeen(NOW_MS + number, seen.keys))
            await edit(dashboard)
            assert flaws(dashboard.lines, 120) == []
            assert await written_value(dashboard) == text.encode("utf-8"), ascii(text)

    run_dashboard(scenario, *busy_cluster())


def test_a_text_without_such_characters_is_edited_as_it_is() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        area = await edit(dashboard)
        assert area.text == '{"path": "C:\\\\new", "größe": "中文"}\n'
        await dashboard.press("x")
        assert await written_value(dashboard) == b"x" + area.text[1:].encode("utf-8")

    run_dashboard(scenario, *busy_cluster(), of('{"path": "C:\\\\new", "größe": "中文"}\n'))


def test_what_is_changed_is_changed_and_the_rest_is_kept() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        area = await edit(dashboard)
        assert area.text == "one\\r\ntwo\\u2028\\\\"
        assert "\\\\ is a backslash" in dashboard.text
        await dashboard.press("x", "down", "end", "y")
        assert await written_value(dashboard) == "xone\r\ntwo\u2028\\y".encode()

    run_dashboard(scenario, *busy_cluster(), of("one\r\ntwo\u2028\\"))


def test_a_backslash_that_begins_no_code_is_told_and_nothing_is_written() -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await edit(dashboard)
        await dashboard.press("backslash", "ctrl+s")
        assert isinstance(dashboard.app.screen, EditDialog)
        assert "is no code" in dashboard.text
        assert dashboard.handle.calls == []

    run_dashboard(scenario, *busy_cluster(), of("q\r"))


@pytest.mark.parametrize(
    ("before", "pasted", "after"),
    [
        ("", "a\rb\r\nc\n", b"a\nb\nc\n"),
        ("", "\u2028", b""),
        ("\f", "a\u2028\x1b[2J", "a\u2028\x1b[2J\f".encode()),
    ],
)
def test_what_is_pasted_is_taken_in_as_far_as_it_can_be_edited(
    before: str, pasted: str, after: bytes
) -> None:
    async def scenario(dashboard: Dashboard) -> None:
        await edit(dashboard)
        dashboard.app.post_message(Paste(pasted))
        await dashboard.pilot.pause()
        assert flaws(dashboard.lines, 120) == []
        if not after:
            assert "cannot be edited here" in dashboard.text
        assert await written_value(dashboard) == after

    run_dashboard(scenario, *busy_cluster(), of(before))


@pytest.mark.parametrize("form", ["\\", "\\q", "\\x1", "\\u12", "\\Uffffffff", "\\ud800", "a\\\nb"])
def test_half_a_code_means_nothing(form: str) -> None:
    with pytest.raises(WrittenFormError, match="is no code"):
        meant(form)
