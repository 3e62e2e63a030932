"""The accumulators count slots and nodes once, and know when it is over."""

from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.replication.quorum import Outcome, Quorum

OWN = {"n1": "n1", "n2": "n2", "n3": "n3"}


def test_a_quorum_is_reached_at_the_needed_number_of_acknowledgements():
    quorum = Quorum(2, OWN)
    quorum.add_ack("n1")
    assert quorum.outcome is Outcome.PENDING
    quorum.add_ack("n3")
    assert quorum.outcome is Outcome.REACHED
    assert not quorum.complete


def test_a_second_acknowledgement_of_one_node_counts_nothing():
    quorum = Quorum(2, OWN)
    quorum.add_ack("n1")
    quorum.add_ack("n1")
    assert quorum.outcome is Outcome.PENDING


def test_a_stranger_counts_nothing():
    quorum = Quorum(1, OWN)
    quorum.add_ack("n9")
    assert quorum.outcome is Outcome.PENDING


def test_a_primary_and_the_fallback_that_stood_in_for_it_fill_one_slot():
    quorum = Quorum(2, {"n1": "n1", "n2": "n2", "n4": "n2"})
    quorum.add_ack("n2")
    quorum.add_ack("n4")
    assert quorum.outcome is Outcome.PENDING
    quorum.add_failure("n1")
    assert quorum.outcome is Outcome.MISSED


def test_a_quorum_is_missed_as_soon_as_it_cannot_be_reached_any_more():
    quorum = Quorum(2, OWN)
    quorum.add_failure("n1")
    assert quorum.outcome is Outcome.PENDING
    quorum.add_failure("n2")
    assert quorum.outcome is Outcome.MISSED


events = st.lists(
    st.tuples(st.sampled_from(["ack", "fail"]), st.sampled_from(["n1", "n2", "n3", "n4", "x"])),
    max_size=12,
)


@given(st.integers(1, 4), events)
def test_the_outcome_is_final_and_agrees_with_counting_first_words(needed, history):
    slots = {"n1": "n1", "n2": "n2", "n3": "n3", "n4": "n3"}
    quorum = Quorum(needed, slots)
    first_word: dict[str, str] = {}
    final = None
    for word, node in history:
        (quorum.add_ack if word == "ack" else quorum.add_failure)(node)
        quorum.check_invariants()
        if node in slots:
            first_word.setdefault(node, word)
        filled = {slots[one] for one, said in first_word.items() if said == "ack"}
        possible = filled | {slots[one] for one in slots if one not in first_word}
        if final is None and len(filled) >= needed:
            final = Outcome.REACHED
        elif final is None and len(possible) < needed:
            final = Outcome.MISSED
        assert quorum.outcome is (final or quorum.outcome)
        assert (quorum.outcome is Outcome.REACHED) == (len(filled) >= needed)
        assert (quorum.outcome is Outcome.MISSED) == (len(possible) < needed)
