"""Laws of members' records: merging forgets the order, and never claims what it does not have."""

from __future__ import annotations

from copy import deepcopy

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.errors import ProtocolError
from kvctl_node.membership.member import COUNTER_MAX, Member, StateKey, check_delta, member_id
from kvctl_node.protocol.messages import (
    MemberDelta,
)

NAME = "n1"
KEYS = (StateKey.LOAD, StateKey.RING_EPOCH, StateKey.CAPACITY_MILLI)

steps = st.lists(
    st.one_of(
        st.just(("beat",)),
        st.tuples(st.just("set"), st.sampled_from(KEYS), st.integers(0, 5)),
        st.just(("restart",)),
    ),
    max_size=25,
)


def history(operations) -> list[Member]:
    """All states of one owner's record, oldest first."""
    owner = Member(member_id(NAME), generation=1)
    owner.set_text(StateKey.NAME, NAME)
    states = [deepcopy(owner)]
    for operation in operations:
        if operation[0] == "beat":
            owner.beat(0.0)
        elif operation[0] == "set":
            owner.set(operation[1], operation[2])
        else:
            owner.begin_generation(owner.generation + 1)
        owner.check_invariants()
        states.append(deepcopy(owner))
    return states


def whole(member: Member) -> MemberDelta:
    return member.delta_since(0, 0, 0.0)


def content(member: Member):
    return member.generation, member.heartbeat, member.version, member.values


def merged(*states: Member) -> Member:
    copy = Member(member_id(NAME))
    for state in states:
        copy.apply(whole(state), 0.0)
        copy.check_invariants()
    return copy


@given(steps, st.data())
def test_merging_is_commutative_associative_and_idempotent(operations, data) -> None:
    states = history(operations)
    pick = st.sampled_from(states)
    a, b, c = data.draw(pick), data.draw(pick), data.draw(pick)
    assert content(merged(a, b)) == content(merged(b, a))
    assert content(merged(merged(a, b), c)) == content(merged(a, merged(b, c)))
    assert content(merged(a, a)) == content(merged(a))


@given(steps, st.randoms(use_true_random=False))
def test_the_newest_record_wins_in_whatever_order_copies_arrive(operations, rng) -> None:
    states = history(operations)
    shuffled = list(states)
    rng.shuffle(shuffled)
    assert content(merged(*shuffled)) == content(states[-1])


@given(steps, st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30)), max_size=30))
def test_a_copy_at_a_version_holds_exactly_what_the_owner_had_set_by_then(operations, picks):
    """Deltas between any two states, lost, repeated and out of order, leave no gaps."""
    states = history(operations)
    at_version = {(one.generation, one.version): one.values for one in states}
    copy = merged(states[0])
    for base, later in picks:
        known, state = states[base % len(states)], states[later % len(states)]
        copy.apply(state.delta_since(known.generation, known.version, 0.0), 0.0)
        if copy.generation:
            assert at_version[copy.generation, copy.version] == copy.values


def test_the_age_of_a_heartbeat_grows_with_every_hand_it_passes_through() -> None:
    owner = Member(member_id(NAME), generation=1)
    owner.set_text(StateKey.NAME, NAME)
    owner.beat(10.0)
    first, second = Member(owner.id), Member(owner.id)
    first.apply(owner.delta_since(0, 0, 10.0), 110.0)
    assert first.heard_s == 110.0
    second.apply(first.delta_since(0, 0, 112.5), 500.0)
    assert second.heard_s == 497.5


def test_a_newer_heartbeat_never_makes_the_last_sign_of_life_older() -> None:
    copy = Member(member_id(NAME), generation=1, heartbeat=3, heard_s=50.0)
    assert copy.hear(4, 45.0) and copy.heard_s == 50.0
    assert not copy.hear(4, 60.0) and copy.heard_s == 50.0


@pytest.mark.parametrize(
    "change",
    [
        {"generation": 0},
        {"generation": COUNTER_MAX + 1},
        {"heartbeat": -1},
        {"age_ms": -1},
        {"member": 1 << 64},
        {"member": 5},
        {"values": {}},
        {"values": {StateKey.NAME: (1, 7)}},
        {"values": {StateKey.NAME: (1, b"\xff")}},
        {"values": {StateKey.NAME: (1, b"n1"), StateKey.LOAD: (1, b"x")}},
        {"values": {StateKey.NAME: (1, b"n1"), StateKey.LOAD: (9, 1)}},
        {"values": {StateKey.NAME: (1, b"n1"), StateKey.ACCUSED: (1, b"odd")}},
    ],
)
def test_a_delta_no_member_could_have_made_is_refused(change) -> None:
    fields = {
        "member": member_id(NAME),
        "generation": 1,
        "heartbeat": 1,
        "age_ms": 0,
        "since": 0,
        "version": 1,
        "values": {StateKey.NAME: (1, b"n1")},
    }
    check_delta(MemberDelta(**fields))
    with pytest.raises(ProtocolError):
        check_delta(MemberDelta(**{**fields, **change}))


def test_values_of_a_later_release_are_kept_and_passed_on() -> None:
    delta = MemberDelta(member_id(NAME), 1, 1, 0, 0, 2, {0: (1, b"n1"), 99: (2, b"new")})
    check_delta(delta)
    copy = Member(delta.member)
    copy.apply(delta, 0.0)
    assert copy.delta_since(1, 1, 0.0).values == {99: (2, b"new")}


def test_ids_of_the_names_of_a_large_cluster_are_distinct() -> None:
    names = {f"n{index}" for index in range(10_000)}
    assert len({member_id(name) for name in names}) == len(names)
