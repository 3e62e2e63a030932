"""What a client may conclude when nodes refuse, hang up, fall silent or are not there."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable

import pytest
import zmq
from hypothesis import given
from hypothesis import strategies as st

from kvctl.client import request_loop, routing
from kvctl.client.request import ATTEMPT_LEAST_S, plan_attempt
from kvctl.errors import ClusterUnreachableError, exit_code_of
from kvctl_node.errors import (
    FailureKind,
    IndeterminateError,
    UnavailableError,
)
from kvctl_node.protocol.client_messages import (
    ClientPut,
    ClientReply,
    ClientRequest,
    Failed,
)
from tests.unit.client.scripted_node import (
    DEADLINE_S,
    NAMES,
    ScriptedCluster,
    ScriptedNode,
    Silence,
    wait_until,
)

Script = Callable[[ClientRequest], ClientReply]

AT_ONCE_S = 1.0
"""Far less than the five seconds of a request, far more than a noisy machine needs."""


def all_nodes_do_first(cluster: ScriptedCluster, what: str, *, applying: bool) -> None:
    """Whichever node gets the first put hangs up or falls silent; the others are healthy."""
    done = threading.Event()

    def rig(node: ScriptedNode) -> None:
        def on_request(request: ClientRequest) -> ClientReply:
            if isinstance(request, ClientPut) and not done.is_set():
                done.set()
                if what == "hang up":
                    node.hang_up(applying=applying)
                else:
                    node.fall_silent(applying=applying)
                return node.on_request(request)
            return node.answer(request)

        node.on_request = on_request

    for node in cluster.nodes.values():
        rig(node)


# ---------------------------------------------------------------- connections


@pytest.mark.parametrize("survivor", NAMES)
def test_a_refused_connection_is_noticed_at_once(cluster: ScriptedCluster, survivor: str) -> None:
    for name in NAMES:
        if name != survivor:
            cluster.nodes[name].stop()
    began = time.monotonic()
    assert cluster.client().put("k", b"v").coordinator == survivor
    assert time.monotonic() - began < AT_ONCE_S


def test_a_cluster_that_is_down_is_unreachable_at_once_and_every_node_is_named(
    cluster: ScriptedCluster,
) -> None:
    for node in cluster.nodes.values():
        node.stop()
    client = cluster.client()
    began = time.monotonic()
    with pytest.raises(ClusterUnreachableError) as caught:
        client.put("k", b"v")
    assert time.monotonic() - began < AT_ONCE_S
    assert exit_code_of(caught.value) == 5
    for name in NAMES:
        assert f"{name} refused the connection" in caught.value.message
    assert caught.value.hint


def test_a_node_with_other_keys_is_noticed_at_once(cluster: ScriptedCluster) -> None:
    for node in cluster.nodes.values():
        node.stop()
        _, secret = zmq.curve_keypair()
        node.start(secret.decode())
    began = time.monotonic()
    with pytest.raises(ClusterUnreachableError, match="refused the keys of this cluster"):
        cluster.client().get("k")
    assert time.monotonic() - began < AT_ONCE_S


def test_nodes_that_accept_but_never_speak_are_passed_over(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (routing, request_loop):
        monkeypatch.setattr(module, "CONNECT_PATIENCE_S", 0.03)
    listeners = []
    for name in ("n1", "n2"):
        node = cluster.nodes[name]
        node.stop()
        listeners.append(socket.create_server(("127.0.0.1", node.port)))
    began = time.monotonic()
    for _ in range(6):  # each begins with a random node
        assert cluster.client().put("k", b"v").coordinator == "n3"
    assert time.monotonic() - began < 4 * AT_ONCE_S
    for listener in listeners:
        listener.close()


def test_a_put_that_was_never_sent_is_unreachable_and_not_indeterminate(
    cluster: ScriptedCluster,
) -> None:
    listeners = []
    for node in cluster.nodes.values():
        node.stop()
        listeners.append(socket.create_server(("127.0.0.1", node.port)))
    with pytest.raises(ClusterUnreachableError, match="does not complete the connection"):
        cluster.client().put("k", b"v", timeout_s=0.4)
    for listener in listeners:
        listener.close()


def test_a_node_without_a_readable_key_is_passed_over(cluster: ScriptedCluster) -> None:
    for name in ("n1", "n2"):
        (cluster.keys_dir / f"{name}.key").unlink()
    client = cluster.client()
    assert client.put("k", b"v").coordinator == "n3"
    with pytest.raises(ClusterUnreachableError, match="n1 has no readable key here"):
        client.get("k", via="n1")


# ---------------------------------------------------------------- lost attempts


@pytest.mark.parametrize("what", ["hang up", "fall silent"])
@pytest.mark.parametrize("applying", [True, False])
def test_a_lost_put_is_retried_under_its_identity_and_applied_once(
    cluster: ScriptedCluster, what: str, applying: bool
) -> None:
    all_nodes_do_first(cluster, what, applying=applying)
    client = cluster.client(timeout_s=1.0)
    client.put("k", b"v")
    first, second = sorted(cluster.received(ClientPut), key=lambda put: put.attempt)
    assert (first.attempt, second.attempt) == (0, 1)
    assert (first.client, first.sequence, first.started_ms) == (
        second.client,
        second.sequence,
        second.started_ms,
    )
    assert len(cluster.store.applied) == 1
    assert [one.value for one in client.get("k").siblings] == [b"v"]


def test_an_attempt_expires_on_the_wire_before_the_next_one_begins(
    cluster: ScriptedCluster,
) -> None:
    """Else a node that was paused would apply it after its retry, over later writes."""
    received_ms: list[float] = []
    all_nodes_do_first(cluster, "fall silent", applying=False)
    for node in cluster.nodes.values():

        def stamped(request: ClientRequest, answer: Script = node.on_request) -> ClientReply:
            if isinstance(request, ClientPut):
                received_ms.append(time.time() * 1000)
            return answer(request)

        node.on_request = stamped
    skew_ms = 200
    cluster.client(timeout_s=1.2, clock_skew_ms=skew_ms).put("k", b"v")
    first, second = sorted(cluster.received(ClientPut), key=lambda put: put.attempt)
    assert first.deadline_ms + skew_ms <= received_ms[1]
    assert second.deadline_ms > received_ms[1]


def test_a_put_has_no_second_attempt_where_the_first_could_not_expire_in_time(
    cluster: ScriptedCluster,
) -> None:
    all_nodes_do_first(cluster, "fall silent", applying=False)
    with pytest.raises(IndeterminateError):
        cluster.client(timeout_s=0.6, clock_skew_ms=500).put("k", b"v")
    assert [put.attempt for put in cluster.received(ClientPut)] == [0]


def test_a_put_that_expired_is_sent_again_to_the_only_node_there_is(
    cluster: ScriptedCluster,
) -> None:
    node = cluster.nodes["n1"]
    healthy = node.on_request
    node.fall_silent()
    silent = node.on_request

    def first_silent(request: ClientRequest) -> ClientReply:
        if isinstance(request, ClientPut) and request.attempt:
            return healthy(request)
        return silent(request)

    node.on_request = first_silent
    assert cluster.client(timeout_s=1.0).put("k", b"v", via="n1").coordinator == "n1"
    assert [put.attempt for put in cluster.received(ClientPut)] == [0, 1]


@given(
    left_s=st.floats(min_value=0.001, max_value=100),
    skew_s=st.floats(min_value=0, max_value=5),
    writes=st.booleans(),
)
def test_no_attempt_of_a_put_outlives_its_share(left_s: float, skew_s: float, writes: bool) -> None:
    attempt_s, node_s = plan_attempt(left_s, writes=writes, skew_s=skew_s)
    assert 0 < attempt_s <= left_s
    assert 0 < node_s <= left_s
    if writes and attempt_s < left_s:
        assert node_s + skew_s <= attempt_s + 1e-9
        assert node_s >= ATTEMPT_LEAST_S


def test_a_put_that_nobody_answers_is_indeterminate(cluster: ScriptedCluster) -> None:
    for node in cluster.nodes.values():
        node.fall_silent()
    with pytest.raises(IndeterminateError) as caught:
        cluster.client().put("k", b"v", timeout_s=0.3)
    assert exit_code_of(caught.value) == 4
    assert "putting it again is safe" in caught.value.hint


def test_a_get_that_nobody_answers_is_unavailable(cluster: ScriptedCluster) -> None:
    for node in cluster.nodes.values():
        node.fall_silent()
    with pytest.raises(UnavailableError) as caught:
        cluster.client().get("k", timeout_s=0.3)
    assert exit_code_of(caught.value) == 3


def test_a_put_lost_before_the_whole_cluster_went_down_is_indeterminate(
    cluster: ScriptedCluster,
) -> None:
    cluster.nodes["n2"].stop()
    cluster.nodes["n3"].stop()
    node = cluster.nodes["n1"]
    client = cluster.client(timeout_s=0.5)
    received = threading.Event()

    def on_request(request: ClientRequest) -> ClientReply:
        received.set()
        raise Silence

    node.on_request = on_request

    def kill_when_received() -> None:
        assert received.wait(DEADLINE_S)
        node.stop()

    killer = threading.Thread(target=kill_when_received)
    killer.start()
    with pytest.raises(IndeterminateError):
        client.put("k", b"v")
    killer.join(DEADLINE_S)


def test_a_refusal_after_a_lost_attempt_leaves_the_put_indeterminate(
    cluster: ScriptedCluster,
) -> None:
    lost = threading.Event()

    def rig(node: ScriptedNode) -> None:
        def on_request(request: ClientRequest) -> ClientReply:
            if not isinstance(request, ClientPut):
                return node.answer(request)
            if lost.is_set():
                return Failed(request.id, FailureKind.UNAVAILABLE, "too few replicas.")
            lost.set()
            raise Silence

        node.on_request = on_request

    for node in cluster.nodes.values():
        rig(node)
    with pytest.raises(IndeterminateError, match="too few replicas"):
        cluster.client(timeout_s=1.0).put("k", b"v")


def test_a_late_answer_of_the_first_node_ends_the_request(cluster: ScriptedCluster) -> None:
    retried = threading.Event()
    order: list[str] = []

    def rig(node: ScriptedNode) -> None:
        def on_request(request: ClientRequest) -> ClientReply:
            if not isinstance(request, ClientPut):
                return node.answer(request)
            order.append(node.name)
            if len(order) > 1:
                retried.set()
                raise Silence
            assert retried.wait(DEADLINE_S)
            return node.answer(request)

        node.on_request = on_request

    for node in cluster.nodes.values():
        rig(node)
    put = cluster.client(timeout_s=1.0).put("k", b"v")
    assert put.coordinator == order[0]
    assert order[1] != order[0]


def test_a_late_failure_of_the_first_node_does_not_end_the_retry(
    cluster: ScriptedCluster,
) -> None:
    retried = threading.Event()
    asked: list[ScriptedNode] = []

    def rig(node: ScriptedNode) -> None:
        def on_request(request: ClientRequest) -> ClientReply:
            if not isinstance(request, ClientPut):
                return node.answer(request)
            asked.append(node)
            if len(asked) == 1:
                assert retried.wait(DEADLINE_S)
                return Failed(request.id, FailureKind.INDETERMINATE, "stored by 1 of 2.")
            late = asked[0].frames_done
            retried.set()
            wait_until(lambda: asked[0].frames_done > late, "the late failure was sent")
            return node.answer(request)

        node.on_request = on_request

    for node in cluster.nodes.values():
        rig(node)
    put = cluster.client(timeout_s=1.0).put("k", b"v")
    assert put.coordinator == asked[1].name != asked[0].name
