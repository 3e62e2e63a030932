"""Events as a space-time diagram."""

from __future__ import annotations

from xml.etree import ElementTree

from kvctl.view.space_time import ASCII_SIGNS, diagram_row, subject_of, timeline_svg, timeline_text
from kvctl.view.state import TimelineEvent
from tests.unit.view.cluster_story import BEGAN_MS, NAMES

COLORS = ["#111111"] * len(NAMES)


def told(node: str, kind: str = "member_down", **fields: object) -> TimelineEvent:
    return TimelineEvent(BEGAN_MS, node, 1, 1, kind, fields, {node: 1})


def row(event: TimelineEvent, width: int = 3) -> str:
    return diagram_row(event, NAMES, width, ASCII_SIGNS)


def test_an_event_stands_in_the_column_of_its_node() -> None:
    assert row(told("n3", "node_started")) == "|  |  *  |  |  "


def test_an_event_about_another_node_is_linked_to_it_across_the_columns_between() -> None:
    assert row(told("n2", member="n5")) == "|  *--+--+--o  "
    assert row(told("n5", target="n2")) == "|  o--+--+--*  "
    assert row(told("n1", peer="n2")) == "*--o  |  |  |  "


def test_a_node_that_is_none_or_the_teller_itself_is_no_subject() -> None:
    assert subject_of(told("n1", member="n9"), NAMES) is None
    assert subject_of(told("n1", member="n1"), NAMES) is None
    assert row(told("n9", member="n2")) == "|  |  |  |  |  "


def test_the_text_has_a_line_for_each_event_with_its_details() -> None:
    lines = timeline_text([told("n2", member="n5", observers=["n1"])], NAMES).splitlines()
    assert len(lines) == 2
    assert lines[0].split() == ["time", *NAMES, "event"]
    assert lines[1].endswith('member_down  member=n5 observers=["n1"]')


def test_the_svg_is_well_formed_escapes_what_it_tells_and_loads_nothing() -> None:
    svg = timeline_svg([told("n2", "put", key='<b a="&">', member="n4")], NAMES, COLORS)
    root = ElementTree.fromstring(svg)
    texts = [one.text or "" for one in root.iter() if one.tag.endswith("text")]
    assert any('<b a="&">' in text for text in texts)
    assert sum(one.tag.endswith("circle") for one in root.iter()) == 2
    assert "http" not in svg.replace("http://www.w3.org/2000/svg", "")


def test_control_characters_of_a_key_never_reach_the_screen() -> None:
    assert "\x1b" not in timeline_text([told("n1", "put", key="a\x1b[2J")], NAMES)
