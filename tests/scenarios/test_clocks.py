"""Wrong clocks: a node that is a day off, clocks that step, clients whose clock is wrong."""

from __future__ import annotations

import msgspec
import pytest

from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import Failed, PutDone, PutKind
from tests.scenarios.answers import values
from tests.virtual_cluster import VirtualCluster

DAY_MS = 24 * 60 * 60 * 1000
NODES = ("n1", "n2", "n3")


def step(cluster, name, ahead_ms):
    cluster.hosts[name].wall_ahead_ms += ahead_ms


def corrections(cluster):
    return {name: cluster.node(name).state.clock.correction_ms for name in cluster.hosts}


@pytest.mark.parametrize("ahead_ms", [-DAY_MS, DAY_MS, -3_000, 3_000])
def test_a_node_whose_clock_is_off_follows_the_majority_and_fails_nothing(ahead_ms):
    cluster = VirtualCluster(3)
    cluster.kill("n3")
    step(cluster, "n3", ahead_ms)
    cluster.start("n3")
    cluster.run_for(3)
    for number in range(30):
        key = f"k{number}"
        assert isinstance(cluster.put(NODES[number % 3], key, "v", w=3), PutDone)
        for via in NODES:
            assert values(cluster.get(via, key, r=3)) == ["v"]
    found = corrections(cluster)
    assert (found["n1"], found["n2"]) == (0, 0)
    assert found["n3"] == pytest.approx(-ahead_ms, abs=50)


def test_of_two_nodes_the_one_behind_follows_the_one_ahead():
    cluster = VirtualCluster(2)
    step(cluster, "n2", -DAY_MS)
    cluster.run_for(3)
    assert isinstance(cluster.put("n1", "k", "v", w=2), PutDone)
    assert isinstance(cluster.put("n2", "k", "w", w=2), PutDone)
    found = corrections(cluster)
    assert found["n1"] == 0
    assert found["n2"] == pytest.approx(DAY_MS, abs=50)


@pytest.mark.parametrize("ahead_ms", [-DAY_MS, DAY_MS])
@pytest.mark.parametrize("who", [["n3"], list(NODES)])
def test_a_step_of_clocks_neither_holds_up_nor_fails_what_is_under_way(ahead_ms, who):
    cluster = VirtualCluster(3, latency_s=(0.05, 0.06))
    cluster.run_for(2)
    cluster.tap = lambda _, receiver, __: receiver != "n2" or cluster.time_s > 4
    began_s = cluster.time_s
    request = cluster.put_request("k", "v", kind=PutKind.BLIND, w=3)
    cluster.send("n3", request)
    cluster.run_for(0.02)
    for name in who:
        step(cluster, name, ahead_ms)
    reply = cluster.answer(request.id)
    assert isinstance(reply, PutDone) or reply.kind == FailureKind.INDETERMINATE
    assert cluster.time_s - began_s < 5
    assert cluster.run_until(lambda: not cluster.node("n3")._coordination.in_flight, 10)


def test_clocks_that_stepped_together_are_followed_by_all():
    cluster = VirtualCluster(3)
    cluster.run_for(2)
    for name in NODES:
        step(cluster, name, DAY_MS)
    cluster.run_for(3)
    assert set(corrections(cluster).values()) == {0}
    assert isinstance(cluster.put("n1", "k", "v", w=3), PutDone)


@pytest.mark.parametrize(("ahead_ms", "word"), [(-DAY_MS, "after its deadline"), (DAY_MS, "clock")])
def test_a_client_whose_clock_is_wrong_is_told_the_time_and_nothing_is_stored(ahead_ms, word):
    cluster = VirtualCluster(3)
    request = cluster.put_request("k", "v", kind=PutKind.OVERWRITE)
    request = msgspec.structs.replace(
        request,
        deadline_ms=request.deadline_ms + ahead_ms,
        started_ms=cluster.now.wall_ms + ahead_ms,
    )
    cluster.send("n1", request)
    reply = cluster.answer(request.id)
    assert isinstance(reply, Failed)
    assert reply.kind == FailureKind.UNAVAILABLE
    assert word in reply.message
    assert reply.wall_ms == pytest.approx(cluster.now.wall_ms, abs=1000)
    assert set(cluster.copies("k").values()) == {None}
