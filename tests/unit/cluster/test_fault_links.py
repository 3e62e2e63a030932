"""Which links a partition, an isolation and a description mean."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kvctl.cluster.fault_links import described_links, isolate_links, partition_links
from kvctl_node.errors import InvalidRequestError

NAMES = ("n1", "n2", "n3", "n4", "n5")


def test_a_partition_cuts_both_directions_between_the_groups_and_nothing_within() -> None:
    links, bridges = partition_links(NAMES, [["n1", "n2"], ["n3"]])
    assert set(links) == {("n1", "n3"), ("n3", "n1"), ("n2", "n3"), ("n3", "n2")}
    assert bridges == ("n4", "n5")


def test_one_group_alone_is_cut_off_from_all_others() -> None:
    assert partition_links(NAMES, [["n1", "n2"]]) == partition_links(
        NAMES, [["n1", "n2"], ["n3", "n4", "n5"]]
    )


@given(st.lists(st.sampled_from([0, 1, 2, 3]), min_size=5, max_size=5))
def test_two_nodes_are_cut_exactly_if_they_are_in_different_groups(sides: list[int]) -> None:
    side_of = dict(zip(NAMES, sides, strict=True))
    groups = [[name for name in NAMES if side_of[name] == one] for one in (1, 2, 3)]
    assume(sum(map(bool, groups)) >= 2)
    links, bridges = partition_links(NAMES, groups)
    for one in NAMES:
        for other in NAMES:
            apart = 0 not in (side_of[one], side_of[other]) and side_of[one] != side_of[other]
            assert ((one, other) in links) == apart
    assert bridges == tuple(name for name in NAMES if side_of[name] == 0)


@pytest.mark.parametrize(
    "groups", [[["n1"], ["n1"]], [["n1"], ["n9"]], [list(NAMES)], [[]], []], ids=str
)
def test_a_partition_without_two_sides_of_known_nodes_is_refused(groups: list[list[str]]) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        partition_links(NAMES, groups)
    assert refused.value.hint


def test_an_isolated_node_loses_the_direction_asked_for() -> None:
    inward = isolate_links(NAMES[:3], ["n1"], inward=True, outward=False)
    outward = isolate_links(NAMES[:3], ["n1"], inward=False, outward=True)
    assert inward == (("n2", "n1"), ("n3", "n1"))
    assert outward == (("n1", "n2"), ("n1", "n3"))
    both = isolate_links(NAMES[:3], ["n1"], inward=True, outward=True)
    assert set(both) == {*inward, *outward}


def test_nobody_can_be_isolated_in_a_cluster_of_one() -> None:
    with pytest.raises(InvalidRequestError, match="no other node"):
        isolate_links(["n1"], ["n1"], inward=True, outward=True)


@pytest.mark.parametrize(
    ("text", "links"),
    [
        ("n1>n2", {("n1", "n2")}),
        (" n1 > n2 ", {("n1", "n2")}),
        ("n1<>n2", {("n1", "n2"), ("n2", "n1")}),
        ("*>n2", {("n1", "n2"), ("n3", "n2")}),
        ("n1<>*", {("n1", "n2"), ("n2", "n1"), ("n1", "n3"), ("n3", "n1")}),
    ],
)
def test_links_are_described_by_arrows(text: str, links: set[tuple[str, str]]) -> None:
    assert set(described_links(NAMES[:3], [text])) == links


@pytest.mark.parametrize("text", ["n1", "n1>", ">n2", "n1>n1", "n1<n2", "n1>n9", "*>*x", "", "<>"])
def test_anything_else_is_no_link(text: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        described_links(NAMES, [text])
    assert refused.value.hint


def test_several_descriptions_name_each_link_once() -> None:
    assert described_links(NAMES, ["n1>n2", "n1<>n2"]) == (("n1", "n2"), ("n2", "n1"))
