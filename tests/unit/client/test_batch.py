"""Many requests in flight: coalescing, limits, order, callbacks, routing."""

from __future__ import annotations

import threading

import pytest

from kvctl.client import batch as batch_module
from kvctl.client.request import Pending
from kvctl_node.errors import FailureKind, IndeterminateError, InvalidRequestError, UnavailableError
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientReply,
    ClientRequest,
    PutDone,
    PutsDone,
    ReplyMessage,
)
from tests.unit.client.scripted_node import (
    DEADLINE_S,
    ScriptedCluster,
    ScriptedNode,
    wait_until,
)


def test_everything_submitted_is_stored_when_the_block_is_left(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    with client.batch(in_flight=32) as batch:
        pendings = [batch.put(f"k{number}", f"{number}") for number in range(500)]
    assert all(pending.done and pending.error is None for pending in pendings)
    assert batch.failed == 0
    with client.batch() as batch:
        reads = [batch.get(f"k{number}") for number in range(500)]
        assert [read.result().value for read in reads] == [b"%d" % n for n in range(500)]


def test_requests_of_one_pass_to_one_node_travel_in_one_frame(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    with client.batch(in_flight=200) as batch:
        for number in range(200):
            batch.put(f"warm{number}", b"v")  # connects to everybody
    before = {name: len(node.frames) for name, node in cluster.nodes.items()}
    with client.batch(in_flight=200) as batch:
        for number in range(200):
            batch.put(f"k{number}", b"v")
    frames = [
        [request for request in frame if isinstance(request, ClientPut)]
        for name, node in cluster.nodes.items()
        for frame in node.frames[before[name] :]
    ]
    assert sum(len(frame) for frame in frames) == 200
    assert len([frame for frame in frames if frame]) <= 3


def test_puts_with_one_reply_each_get_it(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    shared: list[int] = []

    def pack(replies: list[ClientReply]) -> list[ReplyMessage]:
        """All that are puts in one message, as of new keys written by one coordinator."""
        done = [reply for reply in replies if isinstance(reply, PutDone)]
        if len(done) < 2:
            return list(replies)
        shared.append(len(done))
        others = [reply for reply in replies if not isinstance(reply, PutDone)]
        return [PutsDone([one.id for one in done], done[0]), *others]

    for node in cluster.nodes.values():
        node.pack = pack
    with client.batch(in_flight=64) as batch:
        pendings = [batch.put(f"k{number}", f"{number}", blind=True) for number in range(300)]
    assert shared
    assert batch.failed == 0
    for pending in pendings:
        result = pending.result()
        assert (result.key, result.siblings) == (pending.key, 1)
        # The context is bound to the key it is asked of, not to that of another reply.
        assert client.put(pending.key, "next", context=result.context).siblings == 1
    assert [one.under_way for one in client._loop.router.connections.values()] == [0] * 3


def test_a_shared_reply_to_something_else_than_a_put_breaks_the_connection(
    cluster: ScriptedCluster,
) -> None:
    client = cluster.client()
    client.put("k", b"v")
    for node in cluster.nodes.values():
        node.pack = lambda replies: [
            PutsDone([one.id for one in replies], PutDone(0, b"", 1, "n1", ("n1",)))
        ]
    connections = client._loop.router.connections.values()
    least: list[int] = []
    with client.batch(
        on_done=lambda _: least.append(min(c.under_way for c in connections))
    ) as batch:
        reads = [batch.get("k") for _ in range(32)]
    for read in reads:
        with pytest.raises(UnavailableError, match="an answer of another kind"):
            read.result()
    assert min(least) == 0


def test_never_more_than_in_flight_are_outstanding(cluster: ScriptedCluster) -> None:
    gate = threading.Event()
    counted = threading.Lock()
    received = 0

    def rig(node: ScriptedNode) -> None:
        def on_request(request: ClientRequest) -> ClientReply:
            nonlocal received
            if isinstance(request, ClientPut):
                with counted:
                    received += 1
                assert gate.wait(DEADLINE_S)
            return node.answer(request)

        node.on_request = on_request

    for node in cluster.nodes.values():
        rig(node)
    client = cluster.client()
    submitted: list[Pending] = []
    with client.batch(in_flight=8) as batch:
        for number in range(8):
            submitted.append(batch.put(f"k{number}", b"v"))
            assert batch.outstanding == number + 1
        opener = threading.Timer(0.2, gate.set)
        opener.start()
        batch.put("one too many", b"v")
        assert gate.is_set(), "the ninth put did not wait for a slot"
        assert any(pending.done for pending in submitted)
    assert received == 9
    assert batch.outstanding == 0


def test_large_values_are_bounded_by_bytes_too(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_module, "IN_FLIGHT_BYTES_MAX", 1000)
    client = cluster.client()
    with client.batch(in_flight=100) as batch:
        for number in range(20):
            batch.put(f"k{number}", b"v" * 400)
            assert batch.outstanding <= 2
        batch.put("larger than all", b"v" * 5000)
        assert batch.outstanding == 1
    assert client.get("larger than all").value == b"v" * 5000


def test_frames_are_split_before_they_grow_too_large(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    value = b"v" * 1024 * 1024
    with client.batch(in_flight=32) as batch:
        for number in range(24):
            batch.put(f"k{number}", value)
    assert batch.failed == 0
    for node in cluster.nodes.values():
        for frame in node.frames:
            assert sum(len(one.value or b"") for one in frame if isinstance(one, ClientPut)) < (
                4 * 1024 * 1024
            )


def test_an_ordered_batch_never_has_two_requests_of_a_key_in_flight(
    cluster: ScriptedCluster,
) -> None:
    client = cluster.client()
    with client.batch(in_flight=64, ordered=True) as batch:
        for number in range(300):
            batch.put(f"k{number % 3}", f"{number}")
    for node in cluster.nodes.values():
        for frame in node.frames:
            keys = [request.key for request in frame if isinstance(request, ClientPut)]
            assert len(keys) == len(set(keys))
    assert [client.get(f"k{n}").value for n in range(3)] == [b"297", b"298", b"299"]


def test_an_unordered_batch_does_put_one_key_twice_in_a_frame(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    with client.batch(in_flight=64) as batch:
        for number in range(64):
            batch.put("k", f"{number}")
    assert any(len(frame) > 1 for node in cluster.nodes.values() for frame in node.frames)


def test_an_ordered_batch_goes_on_with_a_key_after_a_failure(cluster: ScriptedCluster) -> None:
    for node in cluster.nodes.values():
        node.refuse(FailureKind.INVALID)
    client = cluster.client()
    with client.batch(ordered=True) as batch:
        pendings = [batch.put("k", b"v") for _ in range(3)]
    assert all(isinstance(pending.error, InvalidRequestError) for pending in pendings)
    assert batch.failed == 3


def test_a_callback_is_called_once_for_each_and_may_submit(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    left = 50
    finished: list[bytes] = []

    def again(pending: Pending) -> None:
        nonlocal left
        finished.append(pending.key)
        if left:
            left -= 1
            batch.put(f"next{left}", b"v")

    with client.batch(in_flight=4, on_done=again) as batch:
        for number in range(4):
            batch.put(f"first{number}", b"v")
    assert len(finished) == len(set(finished)) == 54


def test_a_callback_may_not_wait(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    other = client.batch()

    def wait(pending: Pending) -> None:
        other.put("b", b"v").result()

    with (
        pytest.raises(InvalidRequestError, match="callback cannot wait"),
        client.batch(on_done=wait) as batch,
    ):
        batch.put("a", b"v")


def test_a_callback_that_raises_loses_no_other_answer(cluster: ScriptedCluster) -> None:
    client = cluster.client()

    def fail(pending: Pending) -> None:
        raise ZeroDivisionError

    batch = client.batch()
    pendings = [batch.put(f"k{n}", b"v", on_done=fail if n == 3 else None) for n in range(20)]
    with pytest.raises(ZeroDivisionError):
        batch.wait()
    batch.wait()
    assert all(pending.done for pending in pendings)


def test_completed_yields_every_request_once(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    with client.batch(in_flight=16, collect=True) as batch:
        for number in range(100):
            batch.put(f"k{number}", b"v")
        keys = [pending.key for pending in batch.completed()]
    assert sorted(keys) == sorted(b"k%d" % number for number in range(100))
    with client.batch() as batch, pytest.raises(InvalidRequestError, match="does not collect"):
        next(batch.completed())


def test_puts_go_to_the_primary_and_gets_are_spread_over_the_owners(
    cluster: ScriptedCluster,
) -> None:
    client = cluster.client()
    primary = cluster.owners_of(b"k")[0]

    def connected() -> bool:
        client.put("k", b"v")
        return len({client.get("k").coordinator for _ in range(3)}) == 3

    wait_until(connected, "the client has a connection to every owner")
    for node in cluster.nodes.values():
        node.frames.clear()
    with client.batch() as batch:
        for _ in range(60):
            batch.put("k", b"v")
            batch.get("k")
    puts = {
        name: sum(isinstance(one, ClientPut) for one in node.requests)
        for name, node in cluster.nodes.items()
    }
    gets = [
        sum(isinstance(one, ClientGet) for one in node.requests) for node in cluster.nodes.values()
    ]
    assert puts[primary.name] == 60
    assert min(gets) >= 15


def test_a_batch_survives_a_node_that_goes_down_under_it(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    with client.batch(in_flight=32) as batch:
        for number in range(400):
            batch.put(f"k{number}", f"{number}")
            if number == 200:
                cluster.nodes["n1"].stop()
    assert batch.failed == 0
    assert all(client.get(f"k{n}").value == b"%d" % n for n in range(0, 400, 7))
    assert len(cluster.store.applied) == 400


def test_failures_stay_in_their_requests(cluster: ScriptedCluster) -> None:
    for node in cluster.nodes.values():
        node.refuse(FailureKind.UNAVAILABLE)
    with cluster.client().batch() as batch:
        pending = batch.get("k")
    assert batch.failed == 1
    with pytest.raises(UnavailableError):
        pending.result()


def test_an_exception_in_the_block_abandons_what_is_outstanding(cluster: ScriptedCluster) -> None:
    for node in cluster.nodes.values():
        node.fall_silent()
    client = cluster.client()
    with pytest.raises(KeyError), client.batch() as batch:
        batch.put("k", b"v")
        raise KeyError("k")
    for node in cluster.nodes.values():
        node.on_request = node.answer
    assert client.put("other", b"v").siblings == 1


def test_a_batch_that_gets_no_answers_ends_by_its_deadlines(cluster: ScriptedCluster) -> None:
    for node in cluster.nodes.values():
        node.fall_silent()
    with cluster.client(timeout_s=0.4).batch() as batch:
        put, get = batch.put("k", b"v"), batch.get("k")
    assert isinstance(put.error, IndeterminateError)
    assert isinstance(get.error, UnavailableError)


def test_a_batch_of_a_cluster_that_is_down_fails_at_once(cluster: ScriptedCluster) -> None:
    for node in cluster.nodes.values():
        node.stop()
    with cluster.client().batch(in_flight=4) as batch:
        for number in range(20):
            batch.put(f"k{number}", b"v")
    assert batch.failed == 20


@pytest.mark.parametrize("in_flight", [0, 65_537])
def test_an_impossible_number_in_flight_is_refused(
    cluster: ScriptedCluster, in_flight: int
) -> None:
    with pytest.raises(InvalidRequestError, match="in flight"):
        cluster.client().batch(in_flight)
