"""What a client does when nodes refuse, when it is to ask exactly one, and in long use."""

from __future__ import annotations

import threading
import time

import pytest

from kvctl.errors import ClusterUnreachableError, exit_code_of
from kvctl_node.errors import (
    FailureKind,
    IndeterminateError,
    InvalidRequestError,
    OverloadedError,
    StoreError,
    TooLargeError,
    UnavailableError,
    WrongContextError,
)
from kvctl_node.protocol.client_messages import (
    ClientPut,
    ClientReply,
    ClientRequest,
)
from tests.unit.client.scripted_node import (
    DEADLINE_S,
    NAMES,
    ScriptedCluster,
    ScriptedNode,
    wait_until,
)


def first_asked(cluster: ScriptedCluster) -> ScriptedNode:
    """The one node that was asked anything."""
    (asked,) = [node for node in cluster.nodes.values() if node.requests]
    return asked


# ---------------------------------------------------------------- refusals


@pytest.mark.parametrize("kind", [FailureKind.UNAVAILABLE, FailureKind.OVERLOADED])
def test_a_definite_refusal_of_one_node_is_tried_on_another_as_a_first_attempt(
    cluster: ScriptedCluster, kind: FailureKind
) -> None:
    for name in ("n1", "n2"):
        cluster.nodes[name].refuse(kind)
    for _ in range(5):
        client = cluster.client()
        assert client.put("k", b"v").coordinator == "n3"
        assert client.get("k").coordinator == "n3"
    assert {put.attempt for put in cluster.received(ClientPut)} == {0}


def test_a_refusal_by_every_node_is_final_and_each_was_asked_once(
    cluster: ScriptedCluster,
) -> None:
    for node in cluster.nodes.values():
        node.refuse(FailureKind.UNAVAILABLE, "only 1 of 2 replicas can be reached.")
    with pytest.raises(UnavailableError, match="only 1 of 2") as caught:
        cluster.client().put("k", b"v")
    assert caught.value.hint == "try later."
    assert sorted(len(node.requests) for node in cluster.nodes.values()) == [1, 1, 1]


def test_a_refusal_stands_when_the_other_nodes_are_down(cluster: ScriptedCluster) -> None:
    cluster.nodes["n1"].refuse(FailureKind.OVERLOADED, "4096 requests are in flight.")
    cluster.nodes["n2"].stop()
    cluster.nodes["n3"].stop()
    with pytest.raises(OverloadedError, match="4096"):
        cluster.client().put("k", b"v")


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FailureKind.INDETERMINATE, IndeterminateError),
        (FailureKind.INVALID, InvalidRequestError),
        (FailureKind.WRONG_CONTEXT, WrongContextError),
        (FailureKind.TOO_LARGE, TooLargeError),
    ],
)
def test_every_other_refusal_is_final(
    cluster: ScriptedCluster, kind: FailureKind, error: type[StoreError]
) -> None:
    for node in cluster.nodes.values():
        node.refuse(kind)
    with pytest.raises(error):
        cluster.client().put("k", b"v")
    assert len(first_asked(cluster).requests) == 1


def test_a_command_in_a_nodes_hint_is_about_the_key_as_a_shell_reads_it(
    cluster: ScriptedCluster,
) -> None:
    for node in cluster.nodes.values():
        node.refuse(FailureKind.OVERLOADED, hint="kvctl resolve KEY shows them.")
    with pytest.raises(OverloadedError) as raised:
        cluster.client().put("it's", b"v")
    assert raised.value.hint == "kvctl resolve 'it'\"'\"'s' shows them."


# ---------------------------------------------------------------- exactly this node


def test_via_asks_exactly_this_node(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    for name in NAMES:
        assert client.put(f"k-{name}", b"v", via=name).coordinator == name
        assert client.get(f"k-{name}", via=name).coordinator == name


def test_via_a_node_that_is_down_is_an_error_and_no_failover(cluster: ScriptedCluster) -> None:
    cluster.nodes["n2"].stop()
    client = cluster.client()
    with pytest.raises(ClusterUnreachableError, match="n2 could not be asked") as caught:
        client.put("k", b"v", via="n2")
    assert exit_code_of(caught.value) == 5
    assert caught.value.hint
    assert not cluster.received(ClientPut)


def test_via_a_node_that_refuses_is_its_refusal(cluster: ScriptedCluster) -> None:
    cluster.nodes["n2"].refuse(FailureKind.UNAVAILABLE)
    with pytest.raises(UnavailableError):
        cluster.client().put("k", b"v", via="n2")
    assert len(cluster.received(ClientPut)) == 1


def test_via_a_node_that_hung_up_asks_the_same_node_again(cluster: ScriptedCluster) -> None:
    cluster.nodes["n2"].hang_up(applying=True)
    assert cluster.client().put("k", b"v", via="n2").coordinator == "n2"
    assert [put.attempt for put in cluster.nodes["n2"].requests if isinstance(put, ClientPut)] == [
        0,
        1,
    ]
    assert len(cluster.store.applied) == 1


# ---------------------------------------------------------------- long use


def test_a_long_lived_client_goes_to_the_owner_and_back_to_it_after_a_restart(
    cluster: ScriptedCluster,
) -> None:
    client = cluster.client()
    primary, *others = cluster.owners_of(b"k")

    def coordinator() -> str:
        return client.put("k", b"v").coordinator

    wait_until(lambda: coordinator() == primary.name, "the client routes to the primary")
    assert {coordinator() for _ in range(20)} == {primary.name}
    primary.stop()
    assert {coordinator() for _ in range(20)} <= {other.name for other in others}
    primary.start()
    wait_until(lambda: coordinator() == primary.name, "the client is back at the primary")


def test_a_silent_node_is_avoided_until_it_answers_again(cluster: ScriptedCluster) -> None:
    client = cluster.client(timeout_s=0.6)
    primary = cluster.owners_of(b"k")[0]

    def coordinator() -> str:
        return client.put("k", b"v").coordinator

    wait_until(lambda: coordinator() == primary.name, "the client routes to the primary")
    healthy = primary.on_request
    gate = threading.Event()

    def paused(request: ClientRequest) -> ClientReply:
        assert gate.wait(DEADLINE_S)
        return healthy(request)

    primary.on_request = paused
    assert coordinator() != primary.name
    began = time.monotonic()
    assert all(coordinator() != primary.name for _ in range(20))
    assert time.monotonic() - began < 0.3, "the silent node was asked again"
    gate.set()
    wait_until(lambda: coordinator() == primary.name, "the client is back at the primary")


def test_a_node_that_sends_garbage_is_dropped_and_another_asked(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "tests.unit.client.scripted_node.encode_replies", lambda replies: b"\x01\xc1garbage"
    )
    client = cluster.client(timeout_s=1.0)
    with pytest.raises(UnavailableError, match="sent something that is not an answer"):
        client.get("k")
