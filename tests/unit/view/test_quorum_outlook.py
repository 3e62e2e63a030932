"""The outlook must say what the store's own slot rule leads to, partition by partition."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvctl.view.condition import reach_of
from kvctl.view.quorum_outlook import (
    Reads,
    Service,
    cluster_outlook,
    describe_side,
    reads_of,
    service_of,
    side_outlook,
    sides_of,
)
from kvctl_node.config import QuorumConfig
from kvctl_node.ring.claim import claim
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.preference_list import walk
from kvctl_node.ring.server import Server
from tests.unit.view.cluster_story import NAMES, ring_of


@st.composite
def rings(draw: st.DrawFn) -> PartitionMap:
    count = draw(st.integers(1, 7))
    capacities = draw(st.lists(st.sampled_from([0.5, 1, 1, 2, 4]), min_size=count, max_size=count))
    zones = draw(st.lists(st.sampled_from(["", "a", "b"]), min_size=count, max_size=count))
    servers = [
        Server(f"n{place}", float(capacity), zone)
        for place, (capacity, zone) in enumerate(zip(capacities, zones, strict=True))
    ]
    return claim(servers, partitions=16, n=draw(st.integers(1, min(count, 4))))


@st.composite
def settings_of(draw: st.DrawFn, n: int) -> QuorumConfig:
    return QuorumConfig(
        n,
        draw(st.integers(1, n)),
        draw(st.integers(1, n)),
        draw(st.sampled_from(["strict", "sloppy"])),
    )


def by_the_rule(
    ring: PartitionMap, quorum: QuorumConfig, side: frozenset[str]
) -> tuple[Counter[Service], Counter[Reads]]:
    """Fill the slots of every partition as a coordinator on that side would, and count."""
    service: Counter[Service] = Counter()
    reads: Counter[Reads] = Counter()
    unreachable = [name for name in ring.members if name not in side]
    for partition in range(ring.partitions):
        preference = ring.preference_list(partition)
        slots = walk(preference, unreachable)
        if quorum.mode == "strict":
            filled = [slot for slot in slots if slot.node == slot.primary]
        else:
            filled = [slot for slot in slots if slot.node is not None]
        primaries = [slot for slot in slots if slot.node == slot.primary]
        if len(filled) < quorum.w:
            service[Service.NO_WRITE_QUORUM] += 1
        elif len(primaries) == quorum.n:
            service[Service.FULL] += 1
        else:
            service[Service.DEGRADED] += 1
        if len(primaries) >= quorum.r:
            reads[Reads.ALL] += 1
        elif len(filled) >= quorum.r:
            reads[Reads.STAND_INS] += 1
        else:
            reads[Reads.NONE] += 1
    return service, reads


@settings(max_examples=60, deadline=None)
@given(rings(), st.data())
def test_the_outlook_of_a_side_is_what_the_slot_rule_gives(
    ring: PartitionMap, data: st.DataObject
) -> None:
    quorum = data.draw(settings_of(ring.n))
    side = frozenset(data.draw(st.sets(st.sampled_from(ring.members))))
    outlook = side_outlook(ring, quorum, side)
    service, reads = by_the_rule(ring, quorum, side)
    assert (outlook.full, outlook.degraded, outlook.no_write) == (
        service[Service.FULL],
        service[Service.DEGRADED],
        service[Service.NO_WRITE_QUORUM],
    )
    assert (outlook.reads, outlook.reads_stand_ins, outlook.no_read) == (
        reads[Reads.ALL],
        reads[Reads.STAND_INS],
        reads[Reads.NONE],
    )
    assert outlook.partitions == ring.partitions


@settings(max_examples=40, deadline=None)
@given(rings(), st.data())
def test_the_outlook_of_the_cluster_is_the_best_of_its_sides(
    ring: PartitionMap, data: st.DataObject
) -> None:
    quorum = data.draw(settings_of(ring.n))
    living = sorted(data.draw(st.sets(st.sampled_from(ring.members))))
    every_link = [(one, other) for one in living for other in living if one != other]
    cut = frozenset(data.draw(st.sets(st.sampled_from(every_link))) if every_link else ())
    reach = reach_of(living, cut)
    expected: Counter[Service] = Counter()
    no_read = 0
    for row in ring.owners:
        sides = reach.values()
        expected[
            max((service_of(row, side, quorum) for side in sides), default=Service.NO_WRITE_QUORUM)
        ] += 1
        no_read += not any(reads_of(row, side, quorum) is Reads.ALL for side in sides)
    outlook = cluster_outlook(ring, quorum, reach)
    assert (outlook.full, outlook.degraded, outlook.no_write, outlook.no_read) == (
        expected[Service.FULL],
        expected[Service.DEGRADED],
        expected[Service.NO_WRITE_QUORUM],
        no_read,
    )


@given(st.data())
def test_more_nodes_never_make_a_side_worse(data: st.DataObject) -> None:
    ring = ring_of()
    quorum = data.draw(settings_of(3))
    small = frozenset(data.draw(st.sets(st.sampled_from(NAMES))))
    large = small | frozenset(data.draw(st.sets(st.sampled_from(NAMES))))
    less, more = side_outlook(ring, quorum, small), side_outlook(ring, quorum, large)
    assert more.full >= less.full
    assert more.no_write <= less.no_write
    assert more.reads >= less.reads
    assert more.no_read <= less.no_read


def test_a_strict_minority_of_five_writes_nowhere_and_a_sloppy_one_everywhere() -> None:
    ring = ring_of()
    strict = side_outlook(ring, QuorumConfig(3, 2, 3, "strict"), ["n1", "n2"])
    sloppy = side_outlook(ring, QuorumConfig(3, 2, 2, "sloppy"), ["n1", "n2"])
    assert strict.no_write == ring.partitions
    assert sloppy.no_write == 0
    assert sloppy.full == 0, "two nodes are never three owners"


def test_nobody_alive_means_no_write_quorum_anywhere() -> None:
    outlook = cluster_outlook(ring_of(), QuorumConfig(), {})
    assert (outlook.full, outlook.degraded, outlook.no_write) == (0, 0, 64)
    assert outlook.no_read == 64
    assert outlook.sides == ()


def test_a_bridge_makes_overlapping_sides() -> None:
    cut = frozenset([("n1", "n3"), ("n3", "n1")])
    sides = sides_of(reach_of(["n1", "n2", "n3"], cut))
    assert sides == (
        frozenset({"n1", "n2", "n3"}),
        frozenset({"n1", "n2"}),
        frozenset({"n2", "n3"}),
    )


def test_a_link_that_is_cut_one_way_serves_neither() -> None:
    reach = reach_of(["n1", "n2"], frozenset([("n1", "n2")]))
    assert reach == {"n1": {"n1"}, "n2": {"n2"}}


@pytest.mark.parametrize(
    ("side", "mode", "sentence"),
    [
        (NAMES, "sloppy", "n1,n2,n3,n4,n5: writes everywhere; reads everywhere."),
        (("n1",), "sloppy", "n1: no writes; no reads."),
        ((), "strict", "nobody: no writes; no reads."),
    ],
)
def test_a_side_is_described_in_one_sentence(
    side: tuple[str, ...], mode: str, sentence: str
) -> None:
    outlook = side_outlook(ring_of(), QuorumConfig(3, 2, 2, mode), side)
    assert describe_side(outlook) == sentence


def test_the_description_never_rounds_something_away() -> None:
    ring = ring_of(partitions=1024)
    outlook = side_outlook(ring, QuorumConfig(3, 2, 2, "sloppy"), ["n1", "n2", "n3", "n4"])
    almost = outlook._replace(full=0, degraded=1, no_write=1023, reads=1023, reads_stand_ins=1)
    assert describe_side(almost) == (
        "n1,n2,n3,n4: writes in 1 % of the ring; reads in 99 % of the ring, "
        "1 % only what stand-ins hold."
    )
