"""Many puts submitted by one call are what as many calls of `put` would be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvctl.client import request_builder
from kvctl.client.client_clock import ClientClock
from kvctl.client.request import Pending
from kvctl_node.config import QuorumMode
from kvctl_node.errors import InvalidRequestError, TooLargeError
from kvctl_node.protocol.client_messages import ClientPut, PutKind
from tests.unit.client.scripted_node import ScriptedCluster


def test_all_are_stored_and_each_is_reported(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    done: list[Pending] = []
    with client.batch(in_flight=16) as batch:
        batch.put_all(((f"k{n}", b"%d" % n) for n in range(200)), on_done=done.append)
        batch.put("after", b"v")
    assert sorted(one.key for one in done) == sorted(b"k%d" % n for n in range(200))
    assert all(one.error is None for one in done)
    assert [client.get(f"k{n}").value for n in range(200)] == [b"%d" % n for n in range(200)]


@pytest.mark.parametrize("blind", [False, True])
def test_the_options_are_those_of_a_put(cluster: ScriptedCluster, blind: bool) -> None:
    client = cluster.client()
    with client.batch() as batch:
        batch.put_all([("a", "text"), (b"b", b"bytes")], w=3, mode="strict", blind=blind)
        for key, value in [("a", "text"), (b"b", b"bytes")]:
            batch.put(key, value, w=3, mode="strict", blind=blind)
    together, one_by_one = {}, {}
    for request in sorted(cluster.received(ClientPut), key=lambda one: one.sequence):
        seen = one_by_one if request.key in together else together
        seen[request.key] = request
        assert request.kind == (PutKind.BLIND if blind else PutKind.OVERWRITE)
        assert (request.w, request.mode) == (3, int(QuorumMode.STRICT))
    for key, request in together.items():
        other = one_by_one[key]
        assert (request.value, request.attempt, request.context) == (other.value, 0, b"")
        assert request.client == other.client
        assert request.id == request.sequence
        budget_ms = request.deadline_ms - request.started_ms
        assert budget_ms == other.deadline_ms - other.started_ms


def test_never_more_than_in_flight_are_outstanding_whoever_else_submits(
    cluster: ScriptedCluster,
) -> None:
    client = cluster.client()
    outstanding: list[int] = []
    with client.batch(
        in_flight=8, on_done=lambda pending: outstanding.append(batch.outstanding)
    ) as batch:

        def pairs() -> Iterator[tuple[str, bytes]]:
            for number in range(100):
                outstanding.append(batch.outstanding)
                yield f"k{number}", b"v"
                if number % 10 == 0:
                    batch.put(f"own{number}", b"v")

        batch.put_all(pairs())
        outstanding.append(batch.outstanding)
    assert max(outstanding) == 8
    assert len(cluster.received(ClientPut)) == 110


def test_a_request_that_waited_for_room_has_all_its_time_before_it(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cluster.client()
    batch = client.batch(in_flight=1)
    restarted: list[Pending] = []
    restart_clock = batch._builder.restart_clock

    def restart(pending: Pending) -> None:
        restarted.append(pending)
        restart_clock(pending)

    monkeypatch.setattr(batch._builder, "restart_clock", restart)
    batch.put_all((f"k{number}", b"v") for number in range(5))
    batch.wait()
    assert [one.key for one in restarted] == [b"k1", b"k2", b"k3", b"k4"]


def test_a_callback_may_use_the_slot_that_is_free(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    with client.batch(in_flight=1) as batch:
        batch.put("k", b"v", on_done=lambda pending: batch.put_all([("next", b"w")]))
    assert client.get("next").value == b"w"


def test_it_does_not_wait_for_the_last(cluster: ScriptedCluster) -> None:
    with cluster.client().batch(in_flight=2) as batch:
        batch.put_all([("a", b"1"), ("b", b"2")])
        assert batch.outstanding == 2


def test_a_wrong_pair_is_refused_and_those_before_it_are_stored(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    batch = client.batch()
    with pytest.raises(InvalidRequestError, match="a key cannot be empty"):
        batch.put_all([("a", b"1"), ("b", b"2"), ("", b"3"), ("c", b"4")])
    with pytest.raises(TooLargeError):
        batch.put_all([("d", b"x" * (2 * 1024 * 1024))])
    with pytest.raises(InvalidRequestError, match="w must be between"):
        batch.put_all([("e", b"5")], w=9)
    batch.wait()
    assert sorted(one.key for one in cluster.received(ClientPut)) == [b"a", b"b"]


def test_nothing_to_put_is_nothing(cluster: ScriptedCluster) -> None:
    with cluster.client().batch() as batch:
        batch.put_all([])
        batch.put_all(iter(()))
    assert not cluster.received(ClientPut)


def test_who_brings_the_pairs_slowly_takes_no_time_from_the_requests(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings_s = [0.0]

    def monotonic() -> float:
        readings_s.append(990.0 + 10.0 * len(readings_s))
        return readings_s[-1]

    builder = cluster.client()._builder
    monkeypatch.setattr(request_builder, "monotonic", monotonic)
    monkeypatch.setattr(ClientClock, "wall_s", lambda self: readings_s[-1] + 1e9)
    made = list(builder.puts([("a", b"1"), ("b", b"2"), ("c", b"3")]))
    assert [one.started_at for one in made] == [1000.0, 1010.0, 1020.0]
    stamps = [one.request.started_ms for one in made if isinstance(one.request, ClientPut)]
    assert stamps == [1_000_001_000_000, 1_000_001_010_000, 1_000_001_020_000]
    for one in made:
        assert isinstance(one.request, ClientPut)
        assert one.request.started_ms < one.request.deadline_ms
        assert one.started_at < one.attempt_ends <= one.deadline
