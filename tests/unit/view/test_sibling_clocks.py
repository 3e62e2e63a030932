"""The clocks of siblings: common past, and what breaks dominance."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kvctl.view.observation import ConflictsSeen, KeyConflict, VersionSeen
from kvctl.view.sibling_clocks import Write, bar, clock_of, common_past, joined_lines
from tests.unit.view.cluster_story import BEGAN_MS, all_up, view_after

SIGNS = ("#", "@", ".")


def conflict(clock: dict[str, int], *dots: tuple[str, int]) -> KeyConflict:
    versions = tuple(VersionSeen(dot, f"value of {dot[0]}:{dot[1]}") for dot in dots)
    return KeyConflict("cart", tuple(sorted(clock.items())), versions)


@st.composite
def conflicts(draw: st.DrawFn) -> KeyConflict:
    clock = draw(st.dictionaries(st.sampled_from("abcd"), st.integers(1, 9), min_size=1))
    dots = st.sampled_from([(node, n) for node, top in clock.items() for n in range(1, top + 1)])
    return conflict(clock, *draw(st.lists(dots, min_size=1, max_size=4, unique=True)))


def test_the_common_past_ends_before_the_first_version_of_each_node() -> None:
    assert common_past(conflict({"n1": 4, "n2": 2, "n3": 7}, ("n1", 3), ("n2", 2))) == {
        "n1": 2,
        "n2": 1,
        "n3": 7,
    }


@given(conflicts())
def test_no_version_is_in_the_common_past_and_each_breaks_the_dominance_of_the_others(
    one: KeyConflict,
) -> None:
    past = common_past(one)
    for place, version in enumerate(one.versions):
        node, count = version.dot
        assert past[node] < count
        breaking = [entry for entry in clock_of(one, place) if entry.breaks_dominance]
        assert [(entry.node, entry.own) for entry in breaking] == [version.dot]
        for other in range(len(one.versions)):
            if other != place:
                seen = {entry.node: entry for entry in clock_of(one, other)}[node]
                assert seen.write(count) is Write.UNSEEN


def test_two_versions_of_one_node_leave_a_gap_in_the_clock_of_the_second() -> None:
    one = conflict({"n1": 4}, ("n1", 3), ("n1", 4))
    assert [bar(clock_of(one, place)[0], 8, SIGNS) for place in (0, 1)] == ["##@.", "##.@"]


def test_of_a_long_history_only_the_end_is_drawn() -> None:
    one = conflict({"n1": 500, "n2": 1}, ("n1", 500), ("n2", 1))
    assert bar(clock_of(one, 0)[0], 6, SIGNS) == "<####@"


def test_joining_keeps_every_line_as_often_as_one_version_has_it() -> None:
    assert joined_lines([b"a\nb", b"b\nc"]) == b"a\nb\nc"
    assert joined_lines([b"a\na\nb", b"a\nb\nc"]) == b"a\na\nb\nc"
    assert joined_lines([b"a\nb", b"a\na\nb"]) == b"a\nb\na"
    assert joined_lines([b"a\n", b"b"]) == b"a\nb\n"
    assert joined_lines([b"a\r\nb", b"a\r\nc\x0cd"]) == b"a\r\nb\nc\x0cd"
    assert joined_lines([]) == b""


def lines_of(value: bytes) -> Counter[bytes]:
    return Counter(value.removesuffix(b"\n").split(b"\n")) if value else Counter()


values = st.text("ab\n\r\f\u2028", max_size=8).map(str.encode)


@given(st.lists(values, max_size=4))
def test_joining_is_the_union_of_multisets_of_lines(values: list[bytes]) -> None:
    joined = joined_lines(values)
    union: Counter[bytes] = Counter()
    for value in values:
        union |= lines_of(value)
    assert lines_of(joined) == union


@given(values, st.lists(values, max_size=3))
def test_joining_what_is_in_a_value_already_leaves_it_as_it_is(
    value: bytes, others: list[bytes]
) -> None:
    assert joined_lines([value]) == value
    assert joined_lines([value, value]) == value
    joined = joined_lines([value, *others])
    assert joined_lines([joined, value, *others]) == joined
    assert joined.startswith(value)


def test_an_older_scan_does_not_replace_a_newer_one() -> None:
    one = conflict({"n1": 1, "n2": 1}, ("n1", 1), ("n2", 1))
    newer, older = ConflictsSeen(BEGAN_MS + 9, (one,)), ConflictsSeen(BEGAN_MS + 5, ())
    view = view_after(*all_up(), newer)
    assert view.siblings is newer
    assert view_after(*all_up(), newer, older).siblings is newer
    assert view_after(*all_up(), older, newer).siblings is newer
