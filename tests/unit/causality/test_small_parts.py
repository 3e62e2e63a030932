"""Tokens, folding, truncation and the memory of request ids."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.causality.causal_context import EMPTY_CONTEXT, CausalContext, Dot
from kvctl_node.causality.context_token import (
    decode_token,
    encode_token,
    token_from_text,
    token_to_text,
)
from kvctl_node.causality.epoch_folding import fold_dot, fold_version
from kvctl_node.causality.recent_requests import (
    HARD_CAP_FACTOR,
    NO_REQUESTS,
    RecentRequests,
    decode_recent,
    encode_recent,
)
from kvctl_node.causality.siblings import Sibling, StoredObject, encode_context
from kvctl_node.causality.truncation import truncate_context
from kvctl_node.errors import WrongContextError

CONTEXT = CausalContext((("n1#1", 3, 30), ("n2#1", 1, 10)), (("n3#1", 4, 5),))
TOKEN = encode_token(encode_context(CONTEXT), cluster_id="c", key=b"k")


def test_a_token_survives_being_text():
    assert token_from_text(token_to_text(TOKEN)) == TOKEN
    assert decode_token(TOKEN, cluster_id="c", key=b"k") == CONTEXT


@pytest.mark.parametrize(("cluster_id", "key"), [("c", b"other"), ("other", b"k"), ("ck", b"")])
def test_a_token_of_another_key_or_cluster_is_refused(cluster_id, key):
    with pytest.raises(WrongContextError):
        decode_token(TOKEN, cluster_id=cluster_id, key=key)


@given(st.integers(0, len(TOKEN) - 1), st.integers(1, 255))
def test_a_token_with_any_byte_changed_is_refused(place, change):
    damaged = bytearray(TOKEN)
    damaged[place] ^= change
    with pytest.raises(WrongContextError):
        decode_token(bytes(damaged), cluster_id="c", key=b"k")


@given(st.text())
def test_any_text_that_is_no_token_is_refused_and_nothing_else(text):
    with pytest.raises(WrongContextError):
        decode_token(token_from_text(text), cluster_id="c", key=b"k")


def test_folding_lays_the_epochs_of_a_node_end_to_end():
    context = CausalContext((("n1#1", 3, 0), ("n1#4", 2, 0), ("n2#1", 1, 0)))
    assert fold_version(context) == [("n1", 5), ("n2", 1)]
    assert fold_dot(Dot("n1#1", 3), context) == ("n1", 3)
    assert fold_dot(Dot("n1#4", 1), context) == ("n1", 4)


def long_object(entries: int, *, value: bytes | None = b"v") -> StoredObject:
    vector = tuple(sorted((f"n{index}#1", 1, index) for index in range(entries)))
    return StoredObject(CausalContext(vector), (Sibling(f"n{entries - 1}#1", 1, value),))


def test_truncation_drops_the_oldest_entries_and_keeps_its_own_and_the_living():
    stored = long_object(25)
    shorter, dropped = truncate_context(
        stored, own_actor="n0#1", entries_max=20, shared_by_all=True
    )
    assert [entry[0] for entry in dropped] == ["n1#1", "n2#1", "n3#1", "n4#1", "n5#1"]
    assert len(shorter.context.vector) == 20
    assert shorter.siblings == stored.siblings
    shorter.check_invariants()


def test_truncation_waits_until_all_primaries_share_the_entries_or_the_hard_cap_is_passed():
    patient, dropped = truncate_context(
        long_object(80), own_actor="n0#1", entries_max=20, shared_by_all=False
    )
    assert not dropped and len(patient.context.vector) == 80
    forced, dropped = truncate_context(
        long_object(81), own_actor="n0#1", entries_max=20, shared_by_all=False
    )
    assert len(forced.context.vector) == 20 and len(dropped) == 61


def test_truncation_never_touches_an_object_with_a_tombstone():
    stored = long_object(100, value=None)
    same, dropped = truncate_context(stored, own_actor="n0#1", entries_max=20, shared_by_all=True)
    assert same == stored and not dropped


def remember(count: int, *, entries_max: int = 4, clients: int = 100) -> RecentRequests:
    """Requests 1, 2, ... of as many clients in turn, ten milliseconds apart."""
    recent = NO_REQUESTS
    for number in range(1, count + 1):
        recent = recent.with_request(
            (number * 10, number % clients, number, "n1#1", number, 0, 0),
            entries_max=entries_max,
            retry_window_ms=1000,
            settled=recent.applied,
        )
    return recent


def test_recent_requests_are_found_by_client_and_sequence():
    recent = decode_recent(encode_recent(remember(3)))
    assert recent.find(2, 2) == Dot("n1#1", 2)
    assert recent.find(2, 4) is None
    assert recent.find(8, 2) is None


def test_what_was_pushed_out_by_other_clients_can_no_longer_be_decided():
    recent = remember(6)
    assert recent.find(2, 2) is None
    assert not recent.decides(2, 2, 20, 0), "request 2 was applied and forgotten"
    assert recent.decides(2, 2, 21, 0)
    assert not recent.decides(2, 2, 25, 5), "the skew bound counts against certainty"


def test_only_the_latest_requests_of_one_client_are_kept_and_older_ones_are_undecidable():
    recent = remember(50, clients=1, entries_max=32)
    assert [one[2] for one in recent.applied] == [48, 49, 50]
    assert recent.floor_ms == 0, "another client's retries stay decidable"
    assert not recent.decides(0, 47, 10_000, 0)
    assert recent.decides(0, 51, 10_000, 0)
    assert recent.decides(5, 1, 10, 0)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 30)), max_size=30, unique=True))
def test_a_request_that_is_not_found_and_decidable_was_never_applied(history):
    recent = NO_REQUESTS
    for number, (client, sequence) in enumerate(history, start=1):
        recent = recent.with_request(
            (number, client, sequence, "n1#1", number, 0, 0),
            entries_max=6,
            retry_window_ms=1000,
            settled=recent.applied if number % 3 else (),
        )
    for number, (client, sequence) in enumerate(history, start=1):
        if recent.find(client, sequence) is None:
            assert not recent.decides(client, sequence, number, 0)


APPLIED = st.tuples(
    st.integers(1, 40),
    st.integers(0, 1),
    st.integers(1, 12),
    st.just("n1#1"),
    st.integers(1, 3),
    st.just(0),
    st.just(0),
)


@given(st.lists(APPLIED, max_size=12, unique=True), st.integers(2, 6))
def test_remembering_a_request_is_uniting_with_a_memory_of_one(history, entries_max):
    recent = NO_REQUESTS
    for applied in history:
        before = recent
        recent = before.with_request(applied, entries_max=entries_max, retry_window_ms=1000)
        alone = RecentRequests(0, (applied,))
        assert recent == before.union(alone, entries_max=entries_max)


@given(st.integers(0, 8), st.integers(0, 8), st.integers(0, 8), st.integers(1, 4))
def test_uniting_recent_requests_is_commutative_and_idempotent(a, b, c, clients):
    x, y, z = (remember(count, clients=clients) for count in (a, b, c))
    bound = {"entries_max": 4}
    assert x.union(y, **bound) == y.union(x, **bound)
    assert x.union(y, **bound).union(y, **bound) == x.union(y, **bound)
    assert (
        x.union(y, **bound).union(z, **bound).applied
        == x.union(y.union(z, **bound), **bound).applied
    )


def test_what_is_not_settled_is_kept_up_to_the_hard_cap():
    recent, largest = NO_REQUESTS, 0
    for number in range(1, 100):
        applied = (number * 10, 7, number, "n1#1", number, 0, 0)
        recent = recent.with_request(applied, entries_max=4, retry_window_ms=1)
        largest = max(largest, len(recent.applied))
        assert recent.applied[-1] == applied
    assert largest == 4 * HARD_CAP_FACTOR
    assert not recent.decides(7, 1, 10, 0), "it may have been dropped"


def test_of_the_settled_only_what_a_retry_may_ask_for_is_kept():
    recent = NO_REQUESTS
    for number in range(1, 9):
        settled = [one for one in recent.applied if one[2] != 2]
        recent = recent.with_request(
            (number * 10, 7, number, "n1#1", number, 0, 0),
            entries_max=32,
            retry_window_ms=1000,
            settled=settled,
        )
    assert [one[2] for one in recent.applied] == [2, 6, 7, 8]


def test_a_context_without_entries_covers_nothing():
    assert not EMPTY_CONTEXT.covers("n1#1", 1)
