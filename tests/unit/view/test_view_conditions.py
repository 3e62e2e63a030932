"""One word per node, from facts and beliefs; the way of a key; the shape of the ring."""

from __future__ import annotations

import pytest

from kvctl.view.condition import conditions_of, phis_of
from kvctl.view.feed import STALE_AFTER_MS, FeedKind, is_stale
from kvctl.view.key_walk import walk_key
from kvctl.view.observation import ProcessWord
from kvctl.view.ring_raster import partition_at, ring_raster, ring_strip
from kvctl.view.sparkline import sparkline
from kvctl.view.state import ClusterView, Condition
from tests.unit.view.cluster_story import (
    BEGAN_MS,
    NAMES,
    all_up,
    answered,
    beliefs,
    cluster_seen,
    cut_fault,
    silent,
    view_after,
)

LATER_MS = BEGAN_MS + 2000


def test_a_node_that_was_not_asked_yet_is_unknown() -> None:
    assert set(conditions_of(view_after(cluster_seen())).values()) == {Condition.UNKNOWN}


@pytest.mark.parametrize(
    ("word", "condition"),
    [
        (ProcessWord.PAUSED, Condition.PAUSED),
        (ProcessWord.DEAD, Condition.DOWN),
        (ProcessWord.STOPPED, Condition.DOWN),
        (ProcessWord.RUNNING, Condition.SUSPECT),
    ],
)
def test_a_silent_node_is_what_its_process_shows(word: ProcessWord, condition: Condition) -> None:
    view = view_after(*all_up(), silent("n2", LATER_MS, word))
    conditions = conditions_of(view)
    assert conditions["n2"] is condition
    assert conditions["n1"] is Condition.UP


def test_a_node_that_a_living_peer_doubts_is_suspect() -> None:
    view = view_after(*all_up(), answered("n1", LATER_MS, members=beliefs(n3="down")))
    assert conditions_of(view)["n3"] is Condition.SUSPECT


def test_what_a_dead_node_believed_counts_no_more() -> None:
    view = view_after(
        *all_up(),
        answered("n1", LATER_MS, members=beliefs(n3="down")),
        silent("n1", LATER_MS + 1000),
    )
    assert conditions_of(view)["n3"] is Condition.UP
    assert phis_of(view)["n3"] == 0.2


def test_a_node_that_faults_keep_from_all_others_is_cut() -> None:
    links = [(one, "n5") for one in NAMES if one != "n5"]
    view = view_after(*all_up(), answered("n5", LATER_MS, faults=[cut_fault(*links)]))
    conditions = conditions_of(view)
    assert conditions["n5"] is Condition.CUT
    assert conditions["n1"] is Condition.UP


def test_the_only_living_node_is_not_cut() -> None:
    view = view_after(*all_up(), *(silent(name, LATER_MS) for name in NAMES[1:]))
    assert conditions_of(view)["n1"] is Condition.UP


def test_phi_is_the_highest_any_living_peer_computes() -> None:
    view = view_after(*all_up(), answered("n4", LATER_MS, members=beliefs(n2="suspect")))
    assert phis_of(view)["n2"] == 9.0


# ------------------------------------------------------------------ staleness


def test_a_live_picture_grows_stale_and_a_replay_does_not() -> None:
    view = view_after(*all_up())
    late_ms = view.at_ms + STALE_AFTER_MS + 1
    assert is_stale(FeedKind.LIVE, view, late_ms)
    assert not is_stale(FeedKind.LIVE, view, late_ms - 1)
    assert not is_stale(FeedKind.REPLAY, view, late_ms)
    assert not is_stale(FeedKind.LIVE, ClusterView(), late_ms), "nothing was shown yet"


# ------------------------------------------------------------------ the way of a key


def test_a_key_walks_to_its_owners_while_they_are_up() -> None:
    view = view_after(*all_up())
    walk = walk_key(view, "user:1")
    assert walk is not None and view.ring is not None
    assert walk.partition == view.ring.partition_of(b"user:1")
    assert [slot.node for slot in walk.slots] == list(walk.primaries)
    assert sorted(walk.primaries + walk.fallbacks) == list(NAMES)


def test_a_stand_in_takes_the_place_of_an_owner_that_is_down() -> None:
    view = view_after(*all_up())
    walk = walk_key(view, "user:1")
    assert walk is not None
    away = walk.primaries[0]
    sloppy = walk_key(view_after(*all_up(), silent(away, LATER_MS)), "user:1")
    assert sloppy is not None
    assert sloppy.slots[0].primary == away
    assert sloppy.slots[0].node == walk.fallbacks[0]


def test_in_strict_mode_nobody_stands_in() -> None:
    strict = {"n": 3, "r": 2, "w": 2, "mode": "strict"}
    told = [cluster_seen(mode="strict"), *(answered(one, LATER_MS, quorum=strict) for one in NAMES)]
    walk = walk_key(view_after(*told), "user:1")
    assert walk is not None
    without = walk_key(view_after(*told, silent(walk.primaries[0], LATER_MS + 1)), "user:1")
    assert without is not None
    assert without.slots[0].node is None


def test_no_ring_no_way() -> None:
    assert walk_key(ClusterView(), "user:1") is None


# ------------------------------------------------------------------ drawing


@pytest.mark.parametrize("size", [(38, 18), (60, 30), (20, 8), (11, 5)])
def test_the_raster_holds_the_whole_circle(size: tuple[int, int]) -> None:
    raster = ring_raster(*size)
    assert len(raster) == size[1]
    assert all(len(row) == size[0] for row in raster)
    positions = [place for row in raster for cell in row for place in cell if place is not None]
    assert all(0 <= place < 1 for place in positions)
    tenths = {int(place * 10) for place in positions}
    assert tenths == set(range(10)), "every part of the circle is somewhere"


def test_the_circle_begins_at_the_top_and_runs_clockwise() -> None:
    raster = ring_raster(40, 20)
    top_right = raster[0][21][1]
    right = raster[10][39][0]
    bottom = raster[19][20][1] or raster[19][20][0]
    assert top_right is not None and 0 <= top_right < 0.05
    assert right is not None and 0.2 < right < 0.3
    assert bottom is not None and 0.45 < bottom < 0.55


def test_every_position_has_a_partition() -> None:
    assert partition_at(0.0, 64) == 0
    assert partition_at(0.999999999, 64) == 63
    assert [partition_at(place, 8) for place in ring_strip(8)] == list(range(8))


def test_a_sparkline_fills_its_width_from_the_right() -> None:
    assert sparkline([0, 5, 10], 5) == "  ▁▅█"
    assert sparkline([3, 3], 2, top=0) == "▁▁"
    assert sparkline([], 3) == "   "
    assert sparkline([1, 2, 3, 9], 2, top=9) == "▃█"
    assert sparkline([99], 1, top=10) == "█", "beyond the top is the top"
