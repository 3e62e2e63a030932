"""Many gets submitted by one call are what as many calls of `get` would be."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvctl.client import request_builder
from kvctl.client.client_clock import ClientClock
from kvctl.client.request import Pending, PendingGet
from kvctl_node.config import QuorumMode
from kvctl_node.errors import InvalidRequestError
from kvctl_node.protocol.client_messages import ClientGet, RepairMode
from tests.unit.client.scripted_node import ScriptedCluster


def test_all_are_read_and_each_is_reported(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    done: list[Pending] = []
    with client.batch(in_flight=16) as batch:
        batch.put_all((f"k{n}", b"%d" % n) for n in range(200))
        batch.wait()
        batch.get_all((f"k{n}" for n in range(201)), on_done=done.append)
    read = {one.key: one.result() for one in done}
    assert len(done) == len(read) == 201
    assert all(read[b"k%d" % n].value == b"%d" % n for n in range(200))
    assert not read[b"k200"].values, "a key that is not there is a result like any other"


def test_the_options_are_those_of_a_get(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    with client.batch() as batch:
        batch.get_all(["a", b"b"], r=3, mode="strict", repair="blocking")
        for key in ("a", b"b"):
            batch.get(key, r=3, mode="strict", repair="blocking")
    requests = sorted(cluster.received(ClientGet), key=lambda one: one.id)
    assert [one.key for one in requests] == [b"a", b"b", b"a", b"b"]
    for one in requests:
        assert (one.r, one.mode, one.repair) == (3, int(QuorumMode.STRICT), RepairMode.BLOCKING)
        assert not one.explain
        assert abs(one.deadline_ms - requests[-1].deadline_ms) < 1000


def test_never_more_than_in_flight_are_outstanding(cluster: ScriptedCluster) -> None:
    outstanding: list[int] = []
    with cluster.client().batch(in_flight=8) as batch:

        def keys() -> Iterator[str]:
            for number in range(100):
                outstanding.append(batch.outstanding)
                yield f"k{number}"

        batch.get_all(keys())
        outstanding.append(batch.outstanding)
    assert max(outstanding) == 8
    assert len(cluster.received(ClientGet)) == 100


def test_who_brings_the_keys_slowly_takes_no_time_from_the_requests(
    cluster: ScriptedCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = 1000.0

    monkeypatch.setattr(request_builder, "monotonic", lambda: now_s)
    monkeypatch.setattr(ClientClock, "wall_s", lambda self: now_s + 5000.0)
    builder = cluster.client().batch()._builder
    made: list[PendingGet] = []
    for pending in builder.gets(["a", "b", "c"]):
        made.append(pending)
        now_s += 0.0004 if len(made) == 1 else 2.0
    first, second, third = made
    assert first.request.deadline_ms == second.request.deadline_ms, "they share a stamp"
    assert third.request.deadline_ms - first.request.deadline_ms == 2000
    assert third.deadline - first.deadline == pytest.approx(2.0004)
    assert third.attempt_ends - first.attempt_ends == pytest.approx(2.0004)


def test_a_wrong_key_is_refused_and_those_before_it_are_read(cluster: ScriptedCluster) -> None:
    batch = cluster.client().batch()
    with pytest.raises(InvalidRequestError, match="a key cannot be empty"):
        batch.get_all(["a", "b", "", "c"])
    for options in ({"r": 9}, {"mode": "vague"}, {"repair": "never"}):
        with pytest.raises(InvalidRequestError):
            batch.get_all(["d"], **options)  # type: ignore[arg-type]
    batch.wait()
    assert sorted(one.key for one in cluster.received(ClientGet)) == [b"a", b"b"]
