"""Retries, and requests that come late, through the coordinators of a virtual cluster."""

import pytest

from kvctl_node.causality.siblings import decode_context
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    Failed,
    PutDone,
    PutKind,
)
from tests.scenarios.answers import values
from tests.virtual_cluster import VirtualCluster


def test_a_retry_of_an_applied_put_is_not_applied_twice():
    cluster = VirtualCluster(3)
    request = cluster.put_request("k", "v", kind=PutKind.BLIND, client=9, sequence=1)
    cluster.send("n1", request)
    first = cluster.answer(request.id)
    again = cluster.put_request("k", "v", kind=PutKind.BLIND, client=9, sequence=1, attempt=1)
    cluster.send("n2", again)
    second = cluster.answer(again.id)
    assert isinstance(second, PutDone) and second.siblings == 1
    assert decode_context(second.context).includes(decode_context(first.context))
    assert values(cluster.get("n3", "k")) == ["v"]


def test_a_retry_of_a_put_that_was_overwritten_since_does_not_bring_it_back():
    cluster = VirtualCluster(3)
    old = cluster.put_request("k", "old", client=9, sequence=1)
    cluster.send("n1", old)
    assert isinstance(cluster.answer(old.id), PutDone)
    cluster.put("n2", "k", "new")
    again = cluster.put_request("k", "old", client=9, sequence=1, attempt=1)
    cluster.send("n3", again)
    assert isinstance(cluster.answer(again.id), PutDone)
    assert values(cluster.get("n1", "k")) == ["new"]


def test_a_delayed_first_attempt_whose_retry_was_overwritten_does_not_bring_its_value_back():
    cluster = VirtualCluster(3)
    first = cluster.put_request("k", "old", client=9, sequence=1)
    retry = cluster.put_request("k", "old", client=9, sequence=1, attempt=1)
    cluster.send("n2", retry)
    assert isinstance(cluster.answer(retry.id), PutDone)
    cluster.put("n2", "k", "new")
    cluster.send("n1", first)
    assert isinstance(cluster.answer(first.id), PutDone)
    assert values(cluster.get("n3", "k")) == ["new"]


@pytest.mark.parametrize("kind", [PutKind.BLIND, PutKind.OVERWRITE])
def test_a_put_past_its_deadline_is_refused_and_nothing_is_stored(kind):
    cluster = VirtualCluster(3)
    request = cluster.put_request("k", "late", kind=kind, timeout_s=0.5)
    cluster.run_for(1)
    cluster.send("n1", request)
    refused = cluster.answer(request.id)
    assert isinstance(refused, Failed) and refused.kind == FailureKind.UNAVAILABLE
    cluster.run_for(5)
    assert set(cluster.copies("k").values()) == {None}


def test_a_coordinator_that_stalls_between_reading_and_storing_does_not_store_late():
    cluster = VirtualCluster(3)
    request = cluster.put_request("k", "late", timeout_s=1)
    cluster.send("n1", request)
    cluster.pause("n1")
    cluster.run_for(5)
    cluster.put("n2", "k", "new")
    cluster.resume("n1")
    cluster.run_for(5)
    assert values(cluster.get("n1", "k", r=3)) == ["new"]


def test_a_retry_of_a_put_that_was_never_applied_is_applied():
    cluster = VirtualCluster(3)
    again = cluster.put_request("k", "v", client=9, sequence=1, attempt=1)
    cluster.send("n2", again)
    assert isinstance(cluster.answer(again.id), PutDone)
    assert values(cluster.get("n1", "k")) == ["v"]
