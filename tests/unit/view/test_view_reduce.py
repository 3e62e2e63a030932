"""The laws of `reduce`, and what each observation says."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.view.event_sequence import Place, is_news, missed_before
from kvctl.view.observation import NodeEvent, Observation, OperationSeen, ProcessWord
from kvctl.view.reduce import reduce
from kvctl.view.state import EVENTS_MAX, ClusterView, HintQueueView, changed
from kvctl_node.config import QuorumConfig
from tests.unit.view.cluster_story import (
    BEGAN_MS,
    NAMES,
    all_up,
    answered,
    beliefs,
    cluster_seen,
    cut_fault,
    event,
    put_seen,
    silent,
    view_after,
)

LATER_MS = BEGAN_MS + 2000

BELIEF_OF_EVENT = {"member_suspected": "suspect", "member_down": "down", "member_alive": "up"}


def observations() -> st.SearchStrategy[Observation]:
    nodes, times = st.sampled_from(NAMES), st.integers(BEGAN_MS, BEGAN_MS + 10_000)
    return st.one_of(
        st.builds(answered, nodes, times, keys=st.integers(0, 9)),
        st.builds(silent, nodes, times, st.sampled_from(ProcessWord)),
        st.builds(
            lambda node, seq, kind, own, member: event(
                node, seq, kind, own=own, member=member, generation=1
            ),
            nodes,
            st.integers(1, 6),
            st.sampled_from([*BELIEF_OF_EVENT, "node_started", "sibling_created"]),
            st.integers(1, 2),
            nodes,
        ),
        st.builds(put_seen, st.sampled_from("abc"), times),
    )


@given(st.lists(observations(), max_size=20))
def test_an_observation_made_twice_in_a_row_changes_nothing(told: list[Observation]) -> None:
    view = view_after(cluster_seen())
    for observation in told:
        view = reduce(view, observation)
        assert reduce(view, observation) is view


@given(st.lists(observations(), max_size=20))
def test_a_reduction_leaves_the_view_before_it_untouched(told: list[Observation]) -> None:
    view = view_after(cluster_seen())
    for observation in told:
        before = msgspec.structs.asdict(view)
        frozen = repr({name: part for name, part in before.items() if name != "ring"})
        after = reduce(view, observation)
        assert repr({name: getattr(view, name) for name in before if name != "ring"}) == frozen
        view = after


@given(
    st.lists(
        st.tuples(
            st.sampled_from(NAMES), st.sampled_from(list(BELIEF_OF_EVENT)), st.sampled_from(NAMES)
        ),
        max_size=15,
    )
)
def test_events_after_a_snapshot_lead_to_the_beliefs_of_the_next(
    changes: list[tuple[str, str, str]],
) -> None:
    view = view_after(*all_up())
    truth = {name: beliefs() for name in NAMES}
    for seq, (observer, kind, member) in enumerate(changes, 1):
        truth[observer][member]["state"] = BELIEF_OF_EVENT[kind]
        view = reduce(view, event(observer, seq, kind, member=member, generation=1))
    fresh = view
    for name in NAMES:
        fresh = reduce(fresh, answered(name, LATER_MS, members=truth[name]))
    assert {
        (row, column): belief.state
        for row, cells in view.beliefs.items()
        for column, belief in cells.items()
    } == {
        (row, column): belief.state
        for row, cells in fresh.beliefs.items()
        for column, belief in cells.items()
    }


def test_hint_events_lead_to_the_queue_of_the_next_snapshot() -> None:
    view = view_after(
        *all_up(),
        event("n4", 1, "hint_stored", target="n3", count=5, queued=5),
        event("n4", 2, "hint_delivered", target="n3", count=2, queued=3),
    )
    fresh = reduce(view, answered("n4", LATER_MS, hints=[{"target": "n3", "count": 3}]))
    assert view.hints_total == fresh.hints_total == 3
    gone = reduce(fresh, event("n4", 3, "hint_delivered", target="n3", count=3, queued=0))
    assert gone.hints == {}


def test_a_quorum_change_is_shown_as_soon_as_one_node_tells() -> None:
    view = view_after(*all_up(), event("n1", 1, "quorum_changed", n=3, r=1, w=3, mode="strict"))
    assert view.quorum == QuorumConfig(3, 1, 3, "strict")


def test_an_answer_older_than_what_is_known_changes_nothing() -> None:
    view = view_after(*all_up(), answered("n1", LATER_MS, keys=7))
    assert reduce(view, answered("n1", LATER_MS - 1, keys=1)) is view
    assert reduce(view, silent("n1", LATER_MS - 1)) is view


def test_a_late_event_does_not_undo_a_newer_one() -> None:
    view = view_after(*all_up(), event("n1", 4, "member_alive", member="n2", generation=1))
    assert reduce(view, event("n1", 3, "member_down", member="n2", generation=1)) is view


def test_what_an_observation_does_not_touch_stays_the_same_object() -> None:
    before = view_after(*all_up())
    after = reduce(before, event("n1", 1, "sibling_created", key="k"))
    assert changed(before, after) == {"nodes", "events", "clocks"}
    assert changed(before, before) == frozenset()


def test_an_equal_answer_changes_only_the_node_and_its_beliefs() -> None:
    before = view_after(*all_up(), answered("n1", LATER_MS))
    after = reduce(before, answered("n1", LATER_MS + 1000))
    assert changed(before, after) == {"at_ms", "nodes", "beliefs"}


def test_an_answer_for_a_node_nobody_declared_is_ignored() -> None:
    view = view_after(*all_up())
    assert reduce(view, answered("n9", LATER_MS)) is view


# ------------------------------------------------------------------ gaps


@pytest.mark.parametrize(
    ("last", "place", "news", "missed"),
    [
        (None, Place(3, 17), True, 0),
        (Place(1, 4), Place(1, 5), True, 0),
        (Place(1, 4), Place(1, 8), True, 3),
        (Place(1, 4), Place(2, 1), True, 0),
        (Place(1, 4), Place(2, 3), True, 2),
        (Place(1, 4), Place(1, 4), False, 0),
        (Place(2, 1), Place(1, 9), False, 0),
    ],
)
def test_a_gap_in_the_numbers_tells_how_many_events_were_missed(
    last: Place | None, place: Place, news: bool, missed: int
) -> None:
    assert is_news(last, place) is news
    assert missed_before(last, place) == missed


def test_missed_events_are_counted_in_the_view() -> None:
    view = view_after(*all_up(), event("n1", 1, "x"), event("n1", 5, "x"), event("n2", 9, "x"))
    assert view.events_missed == 3


def test_the_timeline_is_bounded() -> None:
    view = view_after(*all_up())
    for seq in range(1, EVENTS_MAX + 50):
        view = reduce(view, event("n1", seq, "x"))
    assert len(view.events) == EVENTS_MAX
    assert view.events[-1].seq == EVENTS_MAX + 49


# ------------------------------------------------------------------ trace clocks


def test_every_event_advances_the_clock_of_its_node_alone() -> None:
    view = view_after(*all_up(), event("n1", 1, "x"), event("n1", 2, "x"), event("n2", 1, "x"))
    assert [one.clock for one in view.events] == [{"n1": 1}, {"n1": 2}, {"n2": 1}]


def test_an_event_about_a_generation_comes_after_its_start() -> None:
    view = view_after(
        *all_up(),
        event("n2", 1, "node_started", own=2),
        event("n2", 2, "x", own=2),
        event("n1", 1, "member_alive", member="n2", generation=2),
        event("n3", 1, "member_alive", member="n2", generation=1),
    )
    assert view.events[2].clock == {"n1": 1, "n2": 1}, "after the start, not after what followed"
    assert view.events[3].clock == {"n3": 1}, "the start of another generation says nothing"


def test_a_clock_never_goes_back() -> None:
    told: list[NodeEvent] = []
    for seq in range(1, 6):
        for name in NAMES:
            told.append(event(name, seq, "member_alive", member="n2", generation=1))
    view = view_after(*all_up(), event("n2", 1, "node_started"), *told)
    latest: dict[str, dict[str, int]] = {}
    for one in view.events:
        before = latest.get(one.node, {})
        assert all(one.clock.get(name, 0) >= count for name, count in before.items())
        assert one.clock[one.node] == before.get(one.node, 0) + 1
        latest[one.node] = dict(one.clock)


# ------------------------------------------------------------------ figures


def test_rates_are_what_changed_since_the_answer_before() -> None:
    view = view_after(
        cluster_seen(),
        answered("n1", BEGAN_MS + 1000, cpu_s=1.0, turns=100),
        answered("n1", BEGAN_MS + 3000, cpu_s=1.5, turns=300),
    )
    figures = view.nodes["n1"].figures
    assert (figures.cpu_share, figures.turns_per_s) == (0.25, 100.0)


@pytest.mark.parametrize("turns", [10, 9500], ids=["fewer", "more"])
def test_a_restarted_node_has_no_rate_yet(turns: int) -> None:
    view = view_after(
        cluster_seen(),
        answered("n1", BEGAN_MS + 1000, cpu_s=9.0, turns=9000),
        answered("n1", BEGAN_MS + 2000, cpu_s=0.2, turns=turns, generation=2),
    )
    assert view.nodes["n1"].figures.turns_per_s == 0.0
    assert view.nodes["n1"].figures.cpu_share == 0.0


def test_a_queue_that_drains_has_an_eta_and_one_that_does_not_has_none() -> None:
    def hints(count: int, delivered: int) -> list[dict[str, int | str]]:
        return [{"target": "n3", "count": count, "delivered": delivered}]

    view = view_after(
        cluster_seen(),
        answered("n4", BEGAN_MS + 1000, hints=hints(100, 0)),
        answered("n4", BEGAN_MS + 2000, hints=hints(80, 20)),
    )
    queue = view.hints["n4", "n3"]
    assert (queue.drained_per_s, queue.eta_s, queue.history) == (20.0, 4.0, (100, 80))
    assert HintQueueView("n4", "n3", 5).eta_s is None


def test_hits_of_a_fault_are_summed_over_the_nodes_and_links_united() -> None:
    view = view_after(
        *all_up(),
        answered("n1", LATER_MS, faults=[cut_fault(("n1", "n2"), hits=3)]),
        answered("n2", LATER_MS, faults=[cut_fault(("n1", "n2"), ("n2", "n1"), hits=4)]),
    )
    fault = view.faults["f1"]
    assert fault.hits == 7
    assert set(fault.links) == {("n1", "n2"), ("n2", "n1")}
    assert fault.cuts
    healed = reduce(reduce(view, answered("n1", LATER_MS + 1)), answered("n2", LATER_MS + 1))
    assert healed.faults == {}


def test_operations_of_nodes_are_kept_in_the_order_of_time_and_once() -> None:
    said = {"at_ms": BEGAN_MS + 5, "op": "get", "key": "k", "answered": ["n1", "n2"]}
    view = view_after(
        cluster_seen(),
        put_seen("k", BEGAN_MS + 9),
        answered("n1", LATER_MS, operations=[said]),
        answered("n1", LATER_MS + 1, operations=[said]),
    )
    assert [(one.op, one.coordinator) for one in view.operations] == [("get", "n1"), ("put", "n1")]


def told_by_the_coordinator(at_ms: int) -> dict[str, Any]:
    return {
        "at_ms": at_ms,
        "op": "put",
        "key": "k",
        "partition": 3,
        "asked": ["n1", "n2", "n3"],
        "answered": ["n1", "n2"],
        "took_ms": 1.0,
    }


@pytest.mark.parametrize("client_first", [True, False])
def test_what_client_and_coordinator_tell_of_one_request_is_one_operation(
    client_first: bool,
) -> None:
    by_client = OperationSeen(BEGAN_MS + 9, "put", "k", "n1", ("n1", "n2"), took_ms=8.0)
    by_node = answered("n1", LATER_MS, operations=[told_by_the_coordinator(BEGAN_MS + 4)])
    told = [by_client, by_node] if client_first else [by_node, by_client]
    (operation,) = view_after(cluster_seen(), *told).operations
    assert operation.asked == ("n1", "n2", "n3"), "the coordinator knows more"
    assert operation.partition == 3


@pytest.mark.parametrize("at_ms", [BEGAN_MS - 20, BEGAN_MS + 20])
def test_an_operation_outside_the_time_a_client_waited_is_another_one(at_ms: int) -> None:
    by_client = OperationSeen(BEGAN_MS + 9, "put", "k", "n1", ("n1", "n2"), took_ms=8.0)
    by_node = answered("n1", LATER_MS, operations=[told_by_the_coordinator(at_ms)])
    assert len(view_after(cluster_seen(), by_client, by_node).operations) == 2


def test_conflicts_are_counted_once_though_every_replica_counts_them() -> None:
    view = view_after(
        cluster_seen(),
        *(answered(name, LATER_MS, conflicts=2) for name in ("n1", "n2", "n3")),
    )
    assert view.conflicts == 2


def test_an_empty_view_knows_nothing() -> None:
    assert ClusterView().conflicts == 0
    assert ClusterView().hints_total == 0
