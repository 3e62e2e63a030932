"""What faults do to messages: the laws of loss, delay and duplication, alone and combined."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvctl_node.errors import InvalidRequestError
from kvctl_node.protocol.link_fault import (
    DELAY_MAX_MS,
    FAULTS_MAX,
    LinkFault,
    decode_faults,
    encode_faults,
    parse_fault,
)
from kvctl_node.runtime.link_faults import LinkFaults

TO_N2 = (("n1", "n2"),)
MANY = 10_000
shares = st.floats(min_value=0.01, max_value=0.99)
seeds = st.integers(min_value=0, max_value=1 << 30)


def fault(
    number: int = 1, links: tuple[tuple[str, str], ...] = TO_N2, **options: object
) -> LinkFault:
    document = {"id": f"f{number}", "kind": "link", "links": links, **options}
    return parse_fault(document)


def faults_at_n1(*given: LinkFault, seed: int = 0) -> LinkFaults:
    faults = LinkFaults("n1", random.Random(seed))
    for one in given:
        faults.set(one)
    return faults


def sent(
    faults: LinkFaults, count: int, peer: str = "n2"
) -> tuple[list[int], dict[int, list[int]]]:
    """Messages 0, 1, ... to a peer: those that leave at once, and those that wait."""
    departures = faults.outgoing(peer, range(count))
    assert departures is not None
    return departures.at_once, departures.delayed


def arrivals(faults: LinkFaults, count: int) -> list[int]:
    """Messages 0, 1, ... in the order in which they arrive."""
    at_once, delayed = sent(faults, count)
    return at_once + [one for wait_ms in sorted(delayed) for one in delayed[wait_ms]]


# ------------------------------------------------------------------ single faults


def test_without_a_fault_nothing_is_active_and_nothing_is_touched() -> None:
    faults = faults_at_n1()
    assert not faults.active
    assert faults.outgoing("n2", [1, 2]) is None
    assert not faults.refuses("n2", 2)


def test_a_cut_stops_what_leaves_and_refuses_what_arrives_only_in_its_direction() -> None:
    outward = faults_at_n1(fault(drop=True))
    assert sent(outward, 3) == ([], {})
    assert not outward.refuses("n2", 1)
    inward = faults_at_n1(fault(links=(("n2", "n1"),), drop=True))
    assert inward.outgoing("n2", [1]) is None
    assert inward.refuses("n2", 4)
    assert not inward.refuses("n3", 4)
    assert [one.hits for one in (*outward.reports(), *inward.reports())] == [3, 4]


def test_a_fault_leaves_other_links_alone() -> None:
    faults = faults_at_n1(fault(drop=True))
    assert faults.outgoing("n3", [1]) is None
    assert faults.cut_peers() == ["n2"]


@settings(max_examples=25, deadline=None)
@given(loss=shares, seed=seeds)
def test_as_many_messages_are_lost_as_was_asked_for(loss: float, seed: int) -> None:
    faults = faults_at_n1(fault(loss=loss), seed=seed)
    at_once, delayed = sent(faults, MANY)
    assert not delayed
    lost = MANY - len(at_once)
    # Six standard deviations of a binomial distribution: a wrong share fails, luck does not.
    assert abs(lost - loss * MANY) <= 6 * (loss * (1 - loss) * MANY) ** 0.5
    assert at_once == sorted(at_once)
    assert faults.reports()[0].hits == lost


@settings(max_examples=25, deadline=None)
@given(duplicate=shares, seed=seeds)
def test_as_many_messages_are_doubled_as_was_asked_for_and_none_is_missing(
    duplicate: float, seed: int
) -> None:
    faults = faults_at_n1(fault(duplicate=duplicate), seed=seed)
    counted = Counter(sent(faults, MANY)[0])
    assert set(counted) == set(range(MANY))
    assert set(counted.values()) <= {1, 2}
    doubled = sum(times == 2 for times in counted.values())
    assert abs(doubled - duplicate * MANY) <= 6 * (duplicate * (1 - duplicate) * MANY) ** 0.5
    assert faults.reports()[0].hits == doubled


@settings(max_examples=50, deadline=None)
@given(
    delay_ms=st.integers(1, DELAY_MAX_MS),
    jitter_share=st.floats(0, 1),
    count=st.integers(1, 200),
    seed=seeds,
)
def test_every_message_waits_within_the_jitter_around_the_delay(
    delay_ms: int, jitter_share: float, count: int, seed: int
) -> None:
    jitter_ms = int(delay_ms * jitter_share)
    faults = faults_at_n1(fault(delay_ms=delay_ms, jitter_ms=jitter_ms), seed=seed)
    at_once, delayed = sent(faults, count)
    waits = [0] * bool(at_once) + list(delayed)
    assert all(delay_ms - jitter_ms <= wait_ms <= delay_ms + jitter_ms for wait_ms in waits)
    everything = at_once + [one for waiting in delayed.values() for one in waiting]
    assert sorted(everything) == list(range(count))
    assert all(waiting == sorted(waiting) for waiting in delayed.values())
    assert faults.reports()[0].hits == count


def test_without_jitter_messages_keep_their_order_and_with_it_they_overtake() -> None:
    steady = faults_at_n1(fault(delay_ms=100))
    assert arrivals(steady, 100) == list(range(100))
    unsteady = faults_at_n1(fault(delay_ms=100, jitter_ms=50))
    assert arrivals(unsteady, 100) != list(range(100))


# ------------------------------------------------------------------ several faults


def test_delays_of_several_faults_add_up_and_each_counts_the_message_once() -> None:
    faults = faults_at_n1(fault(1, delay_ms=100), fault(2, delay_ms=20, duplicate=1.0))
    assert sent(faults, 2) == ([], {120: [0, 0, 1, 1]})
    assert [one.hits for one in faults.reports()] == [2, 2]


def test_one_cut_is_enough_and_every_cut_counts_but_nothing_else_does() -> None:
    faults = faults_at_n1(
        fault(1, delay_ms=100, duplicate=1.0), fault(2, drop=True), fault(3, drop=True)
    )
    assert sent(faults, 5) == ([], {})
    assert [one.hits for one in faults.reports()] == [0, 5, 5]


@settings(max_examples=10, deadline=None)
@given(first=shares, second=shares, seed=seeds)
def test_two_losses_let_through_what_both_let_through(
    first: float, second: float, seed: int
) -> None:
    faults = faults_at_n1(fault(1, loss=first), fault(2, loss=second), seed=seed)
    through = (1 - first) * (1 - second)
    passed = len(sent(faults, MANY)[0])
    assert abs(passed - through * MANY) <= 6 * (through * (1 - through) * MANY) ** 0.5 + 1
    assert sum(one.hits for one in faults.reports()) == MANY - passed


def test_two_duplications_make_up_to_three_copies() -> None:
    faults = faults_at_n1(fault(1, duplicate=1.0), fault(2, duplicate=1.0))
    assert sent(faults, 2)[0] == [0, 0, 0, 1, 1, 1]


def test_copies_of_a_message_on_an_unsteady_link_travel_apart() -> None:
    faults = faults_at_n1(fault(delay_ms=1000, jitter_ms=1000, duplicate=1.0), seed=3)
    at_once, delayed = sent(faults, 1)
    assert len(delayed) == 2
    assert not at_once


def test_the_same_seed_makes_the_same_decisions() -> None:
    def decisions(seed: int) -> list[int]:
        given = fault(delay_ms=50, jitter_ms=50, loss=0.3, duplicate=0.3)
        return arrivals(faults_at_n1(given, seed=seed), 200)

    assert decisions(7) == decisions(7)
    assert decisions(7) != decisions(8)


# ------------------------------------------------------------------ setting and lifting


def test_a_lifted_fault_touches_nothing_more_and_the_others_go_on() -> None:
    faults = faults_at_n1(fault(1, drop=True), fault(2, delay_ms=10))
    sent(faults, 3)
    ended = faults.lift("f1")
    assert ended is not None
    assert ended.hits == 3
    assert sent(faults, 1) == ([], {10: [0]})
    faults.lift("f2")
    assert not faults.active
    assert faults.lift("f2") is None


def test_a_fault_expires_at_its_time_and_not_before() -> None:
    faults = faults_at_n1(fault(1, drop=True, expires_ms=5000), fault(2, drop=True))
    assert faults.next_expiry_ms() == 5000
    assert faults.expired(4999) == []
    assert faults.expired(5000) == ["f1"]
    faults.lift("f1")
    assert faults.next_expiry_ms() is None


def test_a_node_takes_a_bounded_number_of_faults() -> None:
    faults = faults_at_n1(*(fault(number, drop=True) for number in range(FAULTS_MAX)))
    faults.set(fault(0, delay_ms=1))
    with pytest.raises(InvalidRequestError, match="already has"):
        faults.set(fault(FAULTS_MAX, drop=True))


def test_hits_go_on_from_what_was_counted_before() -> None:
    faults = faults_at_n1(fault(drop=True, hits=40))
    sent(faults, 2)
    assert faults.reports()[0].hits == 42


# ------------------------------------------------------------------ the document


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"loss": 1.5},
        {"loss": -0.1},
        {"duplicate": 2},
        {"delay_ms": -1},
        {"delay_ms": DELAY_MAX_MS + 1},
        {"delay_ms": 10, "jitter_ms": 11},
        {"delay_ms": 0.5},
        {"drop": True, "links": ()},
        {"drop": True, "id": ""},
        {"drop": True, "what": 1},
        {"drop": "yes"},
    ],
    ids=str,
)
def test_a_fault_that_makes_no_sense_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        parse_fault({"id": "f1", "kind": "link", "links": TO_N2, **options})


def test_faults_survive_the_file() -> None:
    given = (fault(1, drop=True, expires_ms=7, hits=3), fault(2, delay_ms=5, jitter_ms=5, loss=0.5))
    assert decode_faults(encode_faults(given)) == given
    for damaged in (b"", b"{", encode_faults(given)[:-9], b'{"faults": [{"id": "f1"}]}', b"\xff"):
        with pytest.raises(InvalidRequestError):
            decode_faults(damaged)


def test_a_node_keeps_only_the_links_it_is_at_an_end_of() -> None:
    links = (("n1", "n2"), ("n3", "n1"), ("n2", "n3"))
    assert fault(links=links, drop=True).at("n1").links == (("n1", "n2"), ("n3", "n1"))
    assert not fault(links=links, drop=True).touches("n4")
