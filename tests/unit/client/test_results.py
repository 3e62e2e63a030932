"""Results as people and scripts see them."""

from __future__ import annotations

import base64

import pytest

from kvctl.client.results import GetResult, PutResult, encode_value
from kvctl.errors import ConflictError
from kvctl_node.causality.causal_context import EMPTY_CONTEXT, CausalContext
from kvctl_node.causality.context_token import decode_token, token_from_text
from kvctl_node.causality.siblings import (
    EMPTY_OBJECT,
    Sibling,
    StoredObject,
    encode_context,
    encode_object,
    put_version,
)
from kvctl_node.protocol.client_messages import (
    PutDone,
)


def a_get(stored: StoredObject, key: bytes = b"k") -> GetResult:
    return GetResult(
        key,
        encode_object(stored),
        cluster_id="c1",
        coordinator="n1",
        replied=("n1", "n3"),
        degraded=True,
    )


def stored_with(*siblings: Sibling) -> StoredObject:
    """An object whose context covers its siblings."""
    context = EMPTY_CONTEXT
    for sibling in siblings:
        context = context.with_dot(sibling.actor, sibling.counter, 1)
    return StoredObject(context, siblings)


def test_a_get_prints_exactly_the_documented_fields() -> None:
    stored = stored_with(Sibling("n1#1", 1, "zwölf".encode()), Sibling("n2#1", 1, b"\xff"))
    result = a_get(stored)
    document = result.to_json()
    context = document.pop("context")
    clock = [["n1", 1], ["n2", 1]]
    assert document == {
        "key": "k",
        "found": True,
        "siblings": [
            {
                "value": "zwölf",
                "enc": "utf-8",
                "version": clock,
                "dot": ["n1", 1],
                "deleted": False,
            },
            {
                "value": base64.b64encode(b"\xff").decode(),
                "enc": "base64",
                "version": clock,
                "dot": ["n2", 1],
                "deleted": False,
            },
        ],
        "coordinator": "n1",
        "replied": ["n1", "n3"],
        "degraded": True,
    }
    assert decode_token(token_from_text(context), cluster_id="c1", key=b"k") == stored.context


def test_a_get_that_found_nothing_prints_the_same_object() -> None:
    document = GetResult(b"k", b"", cluster_id="c1").to_json()
    assert document["found"] is False
    assert document["siblings"] == []
    token = token_from_text(document["context"])
    assert decode_token(token, cluster_id="c1", key=b"k") == EMPTY_CONTEXT


def test_an_explanation_is_printed_when_there_is_one() -> None:
    asked = GetResult(b"k", b"", cluster_id="c1", explanation={"replicas": []})
    assert asked.to_json()["explanation"] == {"replicas": []}
    assert "explanation" not in GetResult(b"k", b"", cluster_id="c1").to_json()


def test_a_put_prints_exactly_the_documented_fields() -> None:
    context = CausalContext((("n1#1", 2, 5), ("n1#3", 1, 6), ("n2#1", 4, 7)))
    reply = PutDone(
        9, encode_context(context), 1, "n1", ("n1", "n4"), hinted={"n4": "n3"}, degraded=True
    )
    result = PutResult(b"k", reply, cluster_id="c1")
    document = result.to_json()
    token = token_from_text(document.pop("context"))
    assert document == {
        "key": "k",
        "version": [["n1", 3], ["n2", 4]],
        "siblings": 1,
        "coordinator": "n1",
        "acked": ["n1", "n4"],
        "hinted": {"n4": "n3"},
        "degraded": True,
    }
    assert decode_token(token, cluster_id="c1", key=b"k") == context


def test_siblings_of_one_retried_request_show_as_one() -> None:
    result = a_get(
        stored_with(
            Sibling("n1#1", 1, b"v", client=7, sequence=3),
            Sibling("n2#1", 1, b"v", client=7, sequence=3),
        )
    )
    assert [version.dot for version in result.siblings] == [("n1", 1)]
    assert result.value == b"v"


def test_siblings_of_different_requests_all_show() -> None:
    result = a_get(
        stored_with(
            Sibling("n1#1", 1, b"v", client=7, sequence=3),
            Sibling("n2#1", 1, b"v", client=7, sequence=4),
            Sibling("n3#1", 1, b"v", client=8, sequence=3),
        )
    )
    assert len(result.siblings) == 3
    with pytest.raises(ConflictError):
        _ = result.value


def test_siblings_without_a_request_are_never_taken_for_one() -> None:
    result = a_get(stored_with(Sibling("n1#1", 1, b"v"), Sibling("n2#1", 1, b"v")))
    assert len(result.siblings) == 2


def test_all_tombstones_read_as_not_found_with_a_context_that_covers_them() -> None:
    stored = stored_with(Sibling("n1#1", 1, None), Sibling("n2#1", 1, None))
    result = a_get(stored)
    assert not result.found
    assert result.value is None
    assert result.siblings == ()
    token = token_from_text(result.context)
    assert decode_token(token, cluster_id="c1", key=b"k").includes(stored.context)


def test_a_tombstone_beside_a_value_is_a_conflict_and_shows_as_deleted() -> None:
    result = a_get(stored_with(Sibling("n1#1", 1, b"v"), Sibling("n2#1", 1, None)))
    assert result.found
    assert [(one.value, one.deleted) for one in result.siblings] == [(b"v", False), (None, True)]
    assert result.to_json()["siblings"][1]["value"] is None
    with pytest.raises(ConflictError):
        _ = result.value


def test_every_dot_shown_names_another_version_across_epochs_of_a_node() -> None:
    first, _ = put_version(EMPTY_OBJECT, b"a", actor="n1#1", seen=EMPTY_CONTEXT, stamp_ms=1)
    both, _ = put_version(first, b"b", actor="n1#4", seen=EMPTY_CONTEXT, stamp_ms=2)
    result = a_get(both)
    assert {(one.value, one.dot) for one in result.siblings} == {
        (b"a", ("n1", 1)),
        (b"b", ("n1", 2)),
    }


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"", ("", "utf-8")),
        (b"plain", ("plain", "utf-8")),
        (b"\x00\x01", ("\x00\x01", "utf-8")),
        (b"\xc3\x28", ("wyg=", "base64")),
        (None, (None, "utf-8")),
    ],
)
def test_a_value_is_text_where_it_can_be_and_base64_otherwise(
    value: bytes | None, shown: tuple[str | None, str]
) -> None:
    assert encode_value(value) == shown
