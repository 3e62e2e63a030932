"""Preference lists and the walk that fills their slots."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.ring.claim import claim
from kvctl_node.ring.preference_list import PreferenceList, Slot, clockwise, walk
from kvctl_node.ring.server import Server
from tests.unit.ring.ring_strategies import LAWS, clusters

CIRCLE = (("n1", "n4"), ("n4", "n5"), ("n3", "n1"), ("n2", "n3"))
MEMBERS = ("n0", "n1", "n2", "n3", "n4", "n5")
LIST = PreferenceList(("n1", "n2", "n3"), ("n5", "n4", "n6"))


def test_fallbacks_come_in_the_order_met_clockwise_and_the_unplaced_last() -> None:
    assert clockwise(0, CIRCLE, MEMBERS) == (("n1", "n4"), ("n5", "n3", "n2", "n0"))


def test_the_walk_passes_the_end_of_the_circle() -> None:
    assert clockwise(3, CIRCLE, MEMBERS) == (("n2", "n3"), ("n1", "n4", "n5", "n0"))


@LAWS
@given(clusters(), st.data())
def test_a_preference_list_names_every_member_once_owners_first(
    cluster: tuple[list[Server], int], data: st.DataObject
) -> None:
    servers, n = cluster
    partition_map = claim(servers, partitions=32, n=n)
    partition = data.draw(st.integers(0, 31))
    primaries, fallbacks = partition_map.preference_list(partition)
    assert primaries == partition_map.owners_of(partition)
    assert sorted(primaries + fallbacks) == list(partition_map.members)


def test_all_primaries_fill_their_own_slots() -> None:
    slots = walk(LIST, frozenset())
    assert slots == [Slot("n1", "n1"), Slot("n2", "n2"), Slot("n3", "n3")]
    assert not any(slot.hinted for slot in slots)


def test_a_fallback_is_bound_to_the_primary_it_stands_in_for() -> None:
    slots = walk(LIST, {"n2"})
    assert slots == [Slot("n1", "n1"), Slot("n2", "n5"), Slot("n3", "n3")]
    assert [slot.hinted for slot in slots] == [False, True, False]


def test_unreachable_fallbacks_are_passed_over() -> None:
    assert walk(LIST, ["n1", "n3", "n5"]) == [Slot("n1", "n4"), Slot("n2", "n2"), Slot("n3", "n6")]


def test_slots_stay_empty_when_nobody_is_left() -> None:
    slots = walk(LIST, {"n1", "n2", "n3", "n4", "n6"})
    assert slots == [Slot("n1", "n5"), Slot("n2", None), Slot("n3", None)]
    assert not slots[1].hinted


@LAWS
@given(st.sets(st.sampled_from(LIST.primaries + LIST.fallbacks)))
def test_nobody_fills_two_slots_and_nobody_unreachable_fills_any(unreachable: set[str]) -> None:
    slots = walk(LIST, unreachable)
    assert [slot.primary for slot in slots] == list(LIST.primaries)
    nodes = [slot.node for slot in slots if slot.node is not None]
    assert len(nodes) == len(set(nodes)) == min(3, 6 - len(unreachable))
    assert unreachable.isdisjoint(nodes)
