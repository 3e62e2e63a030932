"""What a node tells of the operations it coordinates, to whom watches and while they watch."""

import pytest

from kvctl_node.protocol.client_messages import (
    AdminDone,
    ClientAdmin,
    Failed,
    PutDone,
    PutKind,
)
from kvctl_node.replication.operation_trace import BURST_MAX, KEPT_MAX, LEASE_S
from tests.virtual_cluster import VirtualCluster


def ask(cluster, via, **arguments):
    number = 7_000_000 + len(cluster.replies)
    cluster.send(via, ClientAdmin(number, "operations", arguments))
    reply = cluster.answer(number)
    assert isinstance(reply, AdminDone), reply
    return reply.result


def watch_all(cluster):
    for name in cluster.running():
        ask(cluster, name)


def told_of(cluster, *keys):
    """The rows about these keys, of every node that answers, by key."""
    rows = [(name, row) for name in cluster.running() for row in ask(cluster, name)["operations"]]
    return {row["key"]: (name, row) for name, row in rows if row["key"] in keys}


def test_the_node_that_coordinates_tells_who_was_asked_and_who_answered():
    cluster = VirtualCluster(5, w=2)
    watch_all(cluster)
    for key in ("a", "b", "c", "d"):
        assert isinstance(cluster.put("n1", key, "v"), PutDone)
    told = told_of(cluster, "a", "b", "c", "d")
    assert sorted(told) == ["a", "b", "c", "d"]
    for key, (name, row) in told.items():
        owners = cluster.node(name).state.map.owners_of(row["partition"])
        assert name in owners, "a node that only hands a request on has nothing to tell"
        assert sorted(row["asked"]) == sorted(owners)
        assert row["answered"][0] == name and len(row["answered"]) == 2
        assert (row["op"], row["outcome"], row["hinted"]) == ("put", "ok", {}), key
        assert 0 < row["took_ms"] < 20


def test_every_outcome_has_a_word():
    cluster = VirtualCluster(3)
    watch_all(cluster)
    cluster.put("n1", "there", "v")
    cluster.get("n1", "there")
    cluster.get("n1", "never")
    cluster.put("n1", "there", None)
    cluster.get("n1", "there")
    for value in ("red", "blue"):
        cluster.put("n1", "color", value, kind=PutKind.BLIND)
    cluster.get("n1", "color")
    rows = ask(cluster, "n1")["operations"]
    assert [(row["op"], row["key"], row["outcome"]) for row in rows] == [
        ("put", "there", "ok"),
        ("get", "there", "ok"),
        ("get", "never", "not found"),
        ("del", "there", "ok"),
        ("get", "there", "not found"),
        ("put", "color", "ok"),
        ("put", "color", "ok"),
        ("get", "color", "conflict"),
    ]


def test_a_stand_in_is_told_with_the_one_it_stands_for():
    cluster = VirtualCluster(4, mode="sloppy")
    cluster.kill("n2")
    assert cluster.run_until(lambda: not cluster.node("n1").state.can_reach("n2"))
    watch_all(cluster)
    keys = [f"k{number}" for number in range(20)]
    for key in keys:
        cluster.put("n1", key, "v")
    rows = [row for _, row in told_of(cluster, *keys).values()]
    hinted = [row for row in rows if row["hinted"]]
    assert hinted and all(list(row["hinted"].values()) == ["n2"] for row in hinted)
    for row in hinted:
        assert set(row["hinted"]) <= set(row["asked"]) and row["outcome"] == "degraded"


def test_a_failure_is_told_by_its_kind_and_with_the_owners_that_were_away():
    cluster = VirtualCluster(3, w=3)
    cluster.kill("n2")
    assert cluster.run_until(lambda: not cluster.node("n1").state.can_reach("n2"))
    ask(cluster, "n1")
    assert isinstance(cluster.put("n1", "a", "v"), Failed)
    (row,) = ask(cluster, "n1")["operations"]
    assert (row["op"], row["key"], row["outcome"]) == ("put", "a", "unavailable")
    assert (sorted(row["asked"]), row["missing"], row["answered"]) == (["n1", "n3"], ["n2"], [])


def test_nobody_watches_by_default_and_the_lease_runs_out_by_itself():
    cluster = VirtualCluster(3)
    node = cluster.node("n1")
    cluster.put("n1", "before", "v")
    assert node.state.trace is None
    assert ask(cluster, "n1")["operations"] == [], "what happened before was not kept"
    for _ in range(5):
        cluster.run_for(LEASE_S / 2)
        ask(cluster, "n1")
        assert node.state.trace is not None, "each asking renews the lease"
    cluster.put("n1", "watched", "v")
    assert cluster.run_until(lambda: node.state.trace is None, LEASE_S + 2)
    cluster.put("n1", "after", "v")
    assert ask(cluster, "n1")["operations"] == []


def test_a_watcher_is_told_each_operation_once_over_leases_and_lives():
    cluster = VirtualCluster(3)
    ask(cluster, "n1")
    cluster.put("n1", "a", "v")
    first = ask(cluster, "n1")
    assert [row["key"] for row in first["operations"]] == ["a"]
    assert ask(cluster, "n1", after=first["last"])["operations"] == []
    cluster.run_for(2 * LEASE_S)
    ask(cluster, "n1", after=first["last"])
    cluster.put("n1", "b", "v")
    second = ask(cluster, "n1", after=first["last"])
    assert [row["key"] for row in second["operations"]] == ["b"]
    cluster.kill("n1")
    cluster.start("n1")
    assert cluster.run_until(lambda: cluster.node("n1").state.can_reach("n2"))
    ask(cluster, "n1", after=second["last"])
    cluster.put("n1", "c", "v")
    third = ask(cluster, "n1", after=second["last"])
    assert [row["key"] for row in third["operations"]] == ["c"], "it counts from 1 again"


def test_a_flood_is_sampled_and_what_went_wrong_is_not_crowded_out():
    cluster = VirtualCluster(3, n=3, w=2)
    ask(cluster, "n1")
    requests = [cluster.put_request(f"k{number}", "v") for number in range(4 * KEPT_MAX)]
    for request in requests:
        cluster.send("n1", request)
    for request in requests:
        cluster.answer(request.id)
    cluster.put("n1", "refused", "v", kind=PutKind.CONTEXT, context=b"nonsense")
    told = ask(cluster, "n1")
    assert told["answered"] == len(requests) + 1
    assert BURST_MAX <= len(told["operations"]) <= BURST_MAX + 8
    assert {"refused": "wrong context"}.items() <= {
        row["key"]: row["outcome"] for row in told["operations"]
    }.items()
    cluster.run_for(2.0)
    ask(cluster, "n1")
    cluster.run_for(2.5)
    cluster.put("n1", "later", "v")
    rows = ask(cluster, "n1", after=told["last"])["operations"]
    assert [row["key"] for row in rows] == ["later"], "time makes room again"


def test_a_number_that_is_none_is_refused():
    cluster = VirtualCluster(3)
    cluster.send("n1", ClientAdmin(1, "operations", {"after": "x"}))
    reply = cluster.answer(1)
    assert isinstance(reply, Failed) and "after" in reply.message


@pytest.mark.parametrize("length", [1, 1024])
def test_a_long_key_is_told_by_its_beginning_with_its_own_partition(length):
    cluster = VirtualCluster(3)
    ask(cluster, "n1")
    cluster.put("n1", "x" * length, "v")
    (row,) = ask(cluster, "n1")["operations"]
    assert row["key"] == "x" * min(length, 128)
    assert row["partition"] == cluster.node("n1").state.map.partition_of(b"x" * length)
