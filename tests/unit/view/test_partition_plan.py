"""Planning partitions: groups, single links, presets, and the command that does the same."""

from __future__ import annotations

from itertools import permutations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.cluster.fault_links import described_links, partition_links
from kvctl.view import partition_plan
from kvctl.view.partition_plan import BRIDGE, PartitionPlan, reach_after, whole

NAMES = ("n1", "n2", "n3", "n4", "n5")

links = st.sampled_from(list(permutations(NAMES, 2)))
plans = st.builds(
    lambda groups, turned: PartitionPlan(NAMES, tuple(groups), frozenset(turned)),
    st.lists(st.integers(0, 4), min_size=5, max_size=5),
    st.just(frozenset()) | st.frozensets(links, max_size=6),
)


@given(plans)
def test_the_command_cuts_exactly_the_links_of_the_plan(plan: PartitionPlan) -> None:
    words = plan.words()
    if not words:
        assert not plan.links()
    elif words[0] == "partition":
        cut, _ = partition_links(NAMES, [word.split(",") for word in words[1:]])
        assert set(cut) == plan.links()
    else:
        assert words[0] == "link" and words[-1] == "--drop"
        assert set(described_links(NAMES, words[1:-1])) == plan.links()


@given(plans, links)
def test_turning_a_link_twice_changes_nothing(plan: PartitionPlan, link: tuple[str, str]) -> None:
    turned = plan.with_turned(link)
    assert turned.links() ^ plan.links() == {link}
    assert turned.with_turned(link) == plan


@given(plans)
def test_after_the_cut_two_nodes_work_together_only_if_both_ways_are_open(
    plan: PartitionPlan,
) -> None:
    everybody = dict.fromkeys(NAMES, frozenset(NAMES))
    reach = reach_after(plan, everybody)
    for one, other in permutations(NAMES, 2):
        is_open = not plan.cuts((one, other)) and not plan.cuts((other, one))
        assert (other in reach[one]) == is_open


@pytest.mark.parametrize(
    ("plan", "sides"),
    [
        (partition_plan.halves(NAMES), [["n1", "n2"], ["n3", "n4", "n5"]]),
        (partition_plan.majority(NAMES), [["n1", "n2", "n3"], ["n4", "n5"]]),
        (partition_plan.isolated(NAMES, "n4"), [["n4"], ["n1", "n2", "n3", "n5"]]),
        (partition_plan.bridged(NAMES, "n3"), [["n1", "n2"], ["n4", "n5"]]),
    ],
)
def test_presets(plan: PartitionPlan, sides: list[list[str]]) -> None:
    assert sorted(plan.sides()) == sorted(sides)


def test_a_bridge_keeps_all_its_links() -> None:
    plan = partition_plan.bridged(NAMES, "n3")
    assert plan.group_of("n3") == BRIDGE
    assert not any("n3" in link for link in plan.links())
    assert ("n1", "n5") in plan.links()


@given(st.integers())
def test_a_random_partition_has_two_sides_that_are_not_empty(seed: int) -> None:
    assert len(partition_plan.at_random(NAMES, Random(seed)).sides()) == 2


def test_a_node_goes_around_through_the_groups_and_the_bridge() -> None:
    plan, seen = whole(NAMES), []
    for _ in range(4):
        plan = plan.moved("n1", 1)
        seen.append(plan.group_of("n1"))
    assert seen == [2, 0, 1, 2]
    assert whole(NAMES).moved("n1", -1).group_of("n1") == BRIDGE
