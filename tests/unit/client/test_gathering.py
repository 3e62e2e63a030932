"""Requests wait for company while their node is busy with more, and for nothing else."""

from __future__ import annotations

import pytest

from kvctl.client import request_loop
from kvctl.client.connection import GATHER_FROM
from tests.unit.client.busy_node import Busy
from tests.unit.client.scripted_node import ScriptedCluster

NO_SWEEP_S = 3600.0


@pytest.fixture
def no_sweep(monkeypatch: pytest.MonkeyPatch, busy: Busy) -> None:
    """The sweep, which sends everything, does not come."""
    monkeypatch.setattr(request_loop, "SWEEP_INTERVAL_S", NO_SWEEP_S)
    busy.loop._sweep_at += NO_SWEEP_S


@pytest.mark.usefixtures("no_sweep")
def test_requests_wait_until_they_are_as_many_as_those_under_way(busy: Busy) -> None:
    busy.submit(20)
    assert (busy.connection.under_way, busy.connection.unsent) == (20, [])
    busy.submit(5)
    assert (busy.connection.under_way, len(busy.connection.unsent)) == (20, 5)
    busy.submit(14)
    assert (busy.connection.under_way, len(busy.connection.unsent)) == (20, 19)
    busy.submit(1)
    assert (busy.connection.under_way, busy.connection.unsent) == (40, [])
    busy.finish()
    assert [len(frame) for frame in busy.node.frames[-2:]] == [20, 20]
    assert busy.connection.under_way == 0


@pytest.mark.usefixtures("no_sweep")
def test_an_answer_sends_those_that_wait(busy: Busy) -> None:
    busy.submit(20)
    busy.submit(5)
    busy.finish()
    assert [len(frame) for frame in busy.node.frames[-2:]] == [20, 5]


@pytest.mark.usefixtures("no_sweep")
def test_few_requests_do_not_wait(busy: Busy) -> None:
    busy.submit(GATHER_FROM - 1)
    busy.submit(1)
    assert busy.connection.unsent == []
    busy.submit(1)
    assert len(busy.connection.unsent) == 1
    busy.finish()


def test_none_waits_longer_than_for_the_next_sweep(busy: Busy) -> None:
    busy.submit(20)
    busy.submit(5)
    while busy.connection.unsent:
        busy.loop.turn()
    assert busy.connection.under_way == 25
    busy.finish()


def test_requests_that_nobody_answers_are_not_waited_for(cluster: ScriptedCluster) -> None:
    client = cluster.client(timeout_s=0.3)
    for node in cluster.nodes.values():
        node.fall_silent()
    with client.batch() as batch:
        for number in range(200):
            batch.put(f"k{number}", b"v")
    assert batch.failed == 200
    client._loop.catch_up()
    in_flight = len(client._loop._in_flight)  # a question whether a silent node is back
    assert in_flight <= 1
    assert sum(one.under_way for one in client._loop.router.connections.values()) == in_flight


def test_a_broken_connection_has_nothing_under_way(cluster: ScriptedCluster) -> None:
    busy = Busy(cluster)
    busy.submit(20)
    busy.submit(5)
    busy.free()
    busy.node.stop()
    for pending in busy.pendings:
        busy.loop.wait(pending)
        assert pending.error is None
    assert busy.connection.under_way == 0
