"""The failure detector: who may conclude what, from which evidence."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.membership.failure_detector import Belief, FailureDetector, window_ms
from kvctl_node.membership.phi_accrual import PhiAccrual
from kvctl_node.ports import Instant

ALL = ("n2", "n3", "n4")


def at(seconds: float) -> Instant:
    return Instant(seconds, int(seconds * 1000))


def detector(*names: str) -> FailureDetector:
    one = FailureDetector("n1", suspect_after_ms=4000, interval_ms=1000)
    one.set_members(names or ALL, at(0))
    for name in names or ALL:
        one.on_news(name, 1, 0.0)
    one.judge(sorted(one.watched), set(one.watched), at(0))
    return one


def judge(one: FailureDetector, seconds: float, reachable=None) -> dict[str, Belief]:
    contact = set(one.watched) if reachable is None else reachable
    one.judge(sorted(one.watched), contact, at(seconds))
    one.check_invariants()
    return {name: watch.belief for name, watch in one.watched.items()}


def keep_fresh(one: FailureDetector, seconds: float, *names: str) -> None:
    for name in names:
        one.on_news(name, 1, seconds)


def test_a_failed_contact_alone_only_suspects_and_accuses_nobody() -> None:
    one = detector()
    keep_fresh(one, 9.0, *ALL)
    one.on_observations("n3", {"n2": 1})
    assert judge(one, 10, {"n3", "n4"})["n2"] == Belief.SUSPECT
    assert one.accused() == {}


def test_own_silence_alone_only_suspects() -> None:
    one = detector()
    keep_fresh(one, 3.9, "n3", "n4")
    assert judge(one, 3.9)["n2"] == Belief.UP
    assert judge(one, 4)["n2"] == Belief.SUSPECT
    assert one.accused() == {"n2": 1}


def test_own_silence_and_a_fresh_observation_of_the_same_generation_make_down() -> None:
    one = detector()
    keep_fresh(one, 4.0, "n3", "n4")
    one.on_observations("n3", {"n2": 1})
    assert judge(one, 4.5)["n2"] == Belief.DOWN
    assert one.observers_of("n2") == ("n1", "n3")


def test_an_observation_of_an_earlier_generation_does_not_count() -> None:
    one = detector()
    one.on_news("n2", 2, 0.1)
    keep_fresh(one, 4.0, "n3", "n4")
    one.on_observations("n3", {"n2": 1})
    assert judge(one, 4.5)["n2"] == Belief.SUSPECT


def test_an_observation_is_as_fresh_as_its_observer() -> None:
    one = detector()
    one.on_observations("n3", {"n2": 1})
    assert judge(one, 4.5)["n2"] == Belief.SUSPECT, "nothing was heard of n3 either"
    keep_fresh(one, 4.6, "n3")
    assert judge(one, 4.7)["n2"] == Belief.DOWN
    assert judge(one, 9)["n2"] == Belief.DOWN, "one late heartbeat of n3 is forgiven"
    assert judge(one, 12.7)["n2"] == Belief.SUSPECT, "two windows are not"


def test_the_accused_does_not_count_as_its_own_observer() -> None:
    one = detector("n2")
    one.on_observations("n2", {"n2": 1})
    assert judge(one, 60)["n2"] == Belief.SUSPECT


def test_a_newer_heartbeat_refutes_but_only_contact_makes_up() -> None:
    one = detector()
    keep_fresh(one, 4.0, "n3", "n4")
    one.on_observations("n3", {"n2": 1})
    judge(one, 4.5)
    one.on_news("n2", 1, 5.0)
    assert judge(one, 5, {"n3", "n4"})["n2"] == Belief.SUSPECT
    assert one.accused() == {}
    assert judge(one, 5)["n2"] == Belief.UP


def test_old_news_that_arrives_late_is_no_sign_of_life() -> None:
    one = detector()
    keep_fresh(one, 4.0, "n3", "n4")
    one.on_news("n2", 1, 0.2)
    assert judge(one, 4.3)["n2"] == Belief.SUSPECT


def test_a_node_that_was_stalled_itself_accuses_nobody_for_a_whole_window() -> None:
    one = detector()
    one.on_observations("n3", {"n2": 1})
    one.forgive(at(60))
    assert set(judge(one, 63.9).values()) == {Belief.UP} and one.accused() == {}
    assert judge(one, 64)["n2"] != Belief.UP


def test_a_member_that_left_is_believed_left_and_a_stranger_too() -> None:
    one = detector()
    one.set_members(["n3", "n4"], at(1))
    assert one.believed("n2") == Belief.LEFT == one.believed("stranger")
    assert one.believed("n1") == Belief.UP and one.left == {"n2": 1}
    one.set_members(["n2", "n3", "n4"], at(2))
    assert one.believed("n2") == Belief.SUSPECT, "until it answers"
    one.check_invariants()


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("news"), st.sampled_from(ALL), st.integers(1, 3)),
            st.tuples(
                st.just("observes"),
                st.sampled_from(ALL),
                st.dictionaries(st.sampled_from(("n1", *ALL)), st.integers(1, 3)),
            ),
            st.tuples(st.just("wait"), st.floats(0, 6), st.sets(st.sampled_from(ALL))),
            st.tuples(st.just("stall"), st.floats(0, 60), st.none()),
        ),
        max_size=40,
    )
)
def test_down_always_rests_on_own_silence_and_a_fresh_second_observer(steps) -> None:
    one, now_s = detector(), 0.0
    heard_s = dict.fromkeys(ALL, 0.0)
    for what, first, second in steps:
        if what == "news":
            one.on_news(first, second, now_s)
            heard_s[first] = now_s
        elif what == "observes":
            one.on_observations(first, second)
        else:
            now_s += first
            if what == "stall":
                one.forgive(at(now_s))
                heard_s = dict.fromkeys(ALL, now_s)
        beliefs = judge(one, now_s, second if what == "wait" else set(ALL))
        for name, belief in beliefs.items():
            watch = one.watched[name]
            if belief == Belief.DOWN:
                assert now_s - heard_s[name] >= one.window_s
                assert any(
                    now_s - heard_s[other] < 2 * one.window_s
                    and one.watched[other].accuses.get(name) == watch.generation
                    for other in ALL
                    if other != name
                )


@pytest.mark.parametrize(
    ("members", "window"), [(2, 4000), (10, 4000), (100, 8000), (256, 9632), (1000, 46_875)]
)
def test_the_window_is_fixed_up_to_ten_members_and_then_grows_as_news_takes_longer(members, window):
    assert window_ms(4000, members) == pytest.approx(window, abs=2)


def test_phi_is_one_when_nine_of_ten_such_silences_would_have_ended() -> None:
    phi = PhiAccrual(1.0)
    assert phi.phi(100.0) == 0.0, "no news yet"
    for second in range(100):
        phi.on_news(float(second))
    assert phi.phi(99 + 2.302585) == pytest.approx(1.0, abs=1e-3)
    slow = PhiAccrual(1.0)
    for second in range(0, 400, 4):
        slow.on_news(float(second))
    assert slow.phi(396 + 2.302585) < 0.3, "who is always slow is suspected later"
