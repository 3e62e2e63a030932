"""Faults of the network between five real nodes: what the store does, and that healing is complete.

The tests share a cluster and leave it healed, with every node up.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kvctl.client import Client
from kvctl.cluster.faults import FaultOptions
from kvctl.cluster.local_cluster import Cluster
from kvctl.cluster.locking import hold_lock
from kvctl.errors import ConflictError
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig, RepairConfig, TimingConfig
from kvctl_node.errors import IndeterminateError, InvalidRequestError, UnavailableError
from kvctl_node.protocol.link_fault import FAULTS_FILE_NAME
from tests.cli.cli_run import Command, Outcome
from tests.cluster.node_events import events_of
from tests.soak.writers import Writer, lost_writes

Eventually = Callable[[Callable[[], object]], None]
MINORITY, MAJORITY = ("n1", "n2"), ("n3", "n4", "n5")
QUICK = TimingConfig(
    gossip_interval_ms=150,
    link_dead_after_ms=450,
    suspect_after_ms=700,
    replica_timeout_ms=800,
    handoff_interval_ms=100,
)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Five nodes that notice a cut within half a second. Nothing is repaired in the background."""
    config = ClusterConfig(
        nodes=tuple(NodeSpec(f"n{number}") for number in range(1, 6)),
        quorum=QuorumConfig(3, 2, 2),
        partitions=64,
        timing=QUICK,
        repair=RepairConfig(compare_interval_ms=0),
    )
    with Cluster(config=config) as running:
        yield running


@pytest.fixture
def client(cluster: Cluster) -> Client:
    return cluster.client()


@pytest.fixture
def kvctl(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Command:
    """`kvctl("faults", "-o", "json")`: a command line on the cluster, in this process."""
    monkeypatch.setenv("KVCTL_HOME", str(cluster.home))
    return Command(monkeypatch)


@pytest.fixture(autouse=True)
def healed_afterwards(cluster: Cluster) -> Iterator[None]:
    yield
    cluster.heal()
    cluster.wait("ready")


def transport(cluster: Cluster, node: str, figure: str) -> Any:
    """What a node says of its sockets, None if it does not answer."""
    snapshot = cluster.status().node(node).snapshot
    return None if snapshot is None else snapshot["transport"][figure]


def sees(client: Client, observer: str, peer: str) -> bool:
    return bool(client.status(observer)["peers"][peer]["reachable"])


def apart(client: Client, *groups: tuple[str, ...]) -> bool:
    """Whether nobody reaches anybody of another group any more."""
    return not any(
        sees(client, one, other)
        for group in groups
        for one in group
        for another in groups
        if another is not group
        for other in another
    )


def key_owned_by(client: Client, minority_owners: int) -> str:
    """A key of whose three owners so many are on the small side."""
    ring = client.describe().ring
    for number in range(1000):
        key = f"key-{number}"
        owners = ring.owners[ring.partition_of(key.encode())]
        if len(set(owners) & set(MINORITY)) == minority_owners:
            return key
    raise AssertionError("no such key")


def documents(done: Outcome) -> list[Any]:
    assert done.code == 0, done.stderr
    return done.lines


def test_both_sides_of_a_partition_take_writes_and_every_replica_keeps_both(
    cluster: Cluster, client: Client, eventually: Eventually, kvctl: Command
) -> None:
    key = key_owned_by(client, 1)
    fault_id = cluster.partition(MINORITY, MAJORITY)
    eventually(lambda: apart(client, MINORITY, MAJORITY))
    small = client.put(key, "small", via="n1")
    large = client.put(key, "large", via="n4")
    assert small.degraded
    assert large.degraded
    assert small.hinted, "somebody stands in for the owners on the other side"
    (hints,) = documents(kvctl("hints", "-o", "json"))
    assert hints["total"] > 0
    assert {queue["target"] for queue in hints["queues"]} <= {*MINORITY, *MAJORITY}

    (fault,) = cluster.faults()
    assert (fault.id, fault.kind, len(fault.links)) == (fault_id, "partition", 12)
    assert fault.hits > 0
    (lifted,) = cluster.heal()
    assert lifted.hits >= fault.hits
    cluster.wait("converged")

    # The roots of all pairs are equal, so what all three together know, each of them knows.
    versions = client.get(key, r=3)
    assert sorted(one.value or b"" for one in versions.siblings) == [b"large", b"small"]
    with pytest.raises(ConflictError):
        _ = versions.value
    conflicts = documents(kvctl("conflicts", "-o", "jsonl"))
    assert [line["key"] for line in conflicts] == [key]
    assert kvctl("resolve", key, "--value", "both").code == 0
    assert client.get(key, r=3).value == b"both"
    assert documents(kvctl("conflicts", "-o", "jsonl")) == []


def test_a_strict_minority_refuses_for_certain_and_the_value_is_never_read(
    cluster: Cluster, client: Client, eventually: Eventually, kvctl: Command
) -> None:
    key = key_owned_by(client, 1)
    before = [one.value for one in client.get(key).siblings]
    cluster.partition(MINORITY)
    eventually(lambda: apart(client, MINORITY, MAJORITY))
    refused = kvctl("put", key, "lost", "--mode", "strict", "--via", "n1")
    assert refused.code == 3, refused.stderr
    with pytest.raises(UnavailableError):
        client.get(key, mode="strict", via="n2")
    client.put(key, "kept", mode="strict", via="n3")
    cluster.heal()
    cluster.wait("converged")
    assert [one.value for one in client.get(key, r=3).siblings] == [b"kept"]
    assert b"lost" not in before


def test_a_link_cut_one_way_makes_both_ends_give_each_other_up_and_nobody_else(
    cluster: Cluster, client: Client, eventually: Eventually, kvctl: Command
) -> None:
    cluster.link("n1>n2", drop=True)
    eventually(lambda: apart(client, ("n1",), ("n2",)))
    assert sees(client, "n3", "n1")
    assert sees(client, "n3", "n2")
    (fault,) = cluster.faults()
    assert fault.links == (("n1", "n2"),)
    (views,) = documents(kvctl("gossip", "-o", "json"))
    assert views["views"]["n3"]["n1"]["state"] == "up", "n3 hears of both"


def test_a_fault_outlives_kill_and_restart_and_the_start_does_not_wait_for_the_cut_link(
    cluster: Cluster, client: Client, eventually: Eventually
) -> None:
    cluster.isolate("n5")
    eventually(lambda: apart(client, ("n5",), ("n1", "n2", "n3", "n4")))
    cluster.kill("n5")
    assert [fault.kind for fault in cluster.faults()] == ["isolate"]
    cluster.start("n5")
    assert transport(cluster, "n5", "cut_peers") == ["n1", "n2", "n3", "n4"]
    assert apart(cluster.client(), ("n5",), ("n1", "n2", "n3", "n4"))


def test_a_fault_ends_by_itself_with_no_kvctl_left_to_end_it(
    cluster: Cluster, client: Client, eventually: Eventually, kvctl: Command
) -> None:
    done = kvctl("isolate", "n2", "--out", "--for", "800ms", "-o", "json")
    (fault,) = documents(done)
    assert {receiver for _, receiver in fault["links"]} == {"n1", "n3", "n4", "n5"}
    assert {sender for sender, _ in fault["links"]} == {"n2"}
    eventually(lambda: all(transport(cluster, node, "faults") == [] for node in cluster.nodes))
    assert not (cluster.directory.node("n2") / FAULTS_FILE_NAME).exists()
    cluster.wait("ready")
    events = documents(kvctl("events", "--node", "n2", "--kind", "fault_lifted", "-o", "jsonl"))
    assert (events[-1]["fault"], events[-1]["by"]) == (fault["id"], "expired")


def test_nodes_that_are_down_or_paused_are_given_the_fault_and_healed_all_the_same(
    cluster: Cluster, client: Client, eventually: Eventually
) -> None:
    cluster.kill("n4")
    cluster.pause("n5")
    injected = cluster.network.link(["n4>n5"], FaultOptions(drop=True))
    assert (injected.told, set(injected.later)) == ((), {"n4", "n5"})
    assert [fault.links for fault in cluster.faults()] == [(("n4", "n5"),)]
    cluster.resume("n5")
    eventually(lambda: transport(cluster, "n5", "cut_peers") == ["n4"])
    cluster.start("n4")
    assert transport(cluster, "n4", "cut_peers") == ["n5"]
    cluster.pause("n5")
    assert [fault.id for fault in cluster.heal()] == [injected.fault.id]
    cluster.resume("n5")
    eventually(lambda: transport(cluster, "n5", "faults") == [])
    assert transport(cluster, "n4", "faults") == []


def test_a_node_paused_under_load_comes_back_accusing_nobody_and_nothing_is_lost(
    cluster: Cluster,
) -> None:
    """Three seconds here are as long for the nodes as twenty at the default settings.

    All it knows of the others is three seconds old when it wakes: a node that judged by that would
    accuse them at once, long before anything that happens later can make it suspect somebody.
    """
    stop = threading.Event()
    writers = [Writer(cluster, 100 + index, stop) for index in range(2)]
    for writer in writers:
        writer.start()
    stop.wait(0.5)
    cluster.pause("n3")
    stop.wait(3)
    resumed_ms = int(time.time() * 1000)
    cluster.resume("n3")
    cluster.wait("ready")
    stop.wait(1)
    stop.set()
    for writer in writers:
        writer.join()
    at_once = (resumed_ms, resumed_ms + QUICK.suspect_after_ms * 0.7)
    told = [event for event in events_of(cluster, "n3") if at_once[0] <= event["at"] < at_once[1]]
    assert [event for event in told if event["kind"] in ("member_suspected", "member_down")] == []
    cluster.wait("converged")
    assert sum(len(writer.acknowledged) for writer in writers) > 100
    assert lost_writes(cluster, writers) == []


def test_healing_lifts_what_kvctl_has_forgotten_and_ids_are_not_given_out_twice(
    cluster: Cluster,
) -> None:
    first = cluster.isolate("n1", inward=False)
    (cluster.home / "registry.sqlite").rename(cluster.home / "registry.before")
    second = cluster.isolate("n2", inward=False)
    assert [fault.id for fault in cluster.faults()] == [first, second]
    assert first != second
    with pytest.raises(InvalidRequestError, match="no fault 'f999'"):
        cluster.heal("f999")
    assert [fault.id for fault in cluster.heal(second)] == [second]
    assert [fault.id for fault in cluster.heal()] == [first]
    assert cluster.isolate("n3", inward=False) not in (first, second)


def test_a_slow_lossy_link_delays_work_and_loses_none(cluster: Cluster, client: Client) -> None:
    cluster.link("n1<>*", delay_ms=30, jitter_ms=20, loss=0.05, duplicate=0.2)
    acknowledged = []
    for number in range(10):
        try:
            client.put(f"slow-{number}", str(number), via="n1")
        except (UnavailableError, IndeterminateError):
            continue  # a miss is fine, a loss is not
        acknowledged.append(number)
    assert cluster.faults()[0].hits > 10
    cluster.heal()
    cluster.wait("converged")
    assert acknowledged
    for number in acknowledged:
        assert client.get(f"slow-{number}").value == str(number).encode()


def test_healing_does_not_wait_for_a_command_that_holds_the_cluster(cluster: Cluster) -> None:
    with hold_lock(cluster.directory.lock_path, wait_s=5):
        fault_id = cluster.partition(MINORITY, MAJORITY)
        assert [fault.id for fault in cluster.heal()] == [fault_id]


@pytest.mark.parametrize(
    "arguments",
    [
        ("partition", "n1,n2", "n2,n3"),
        ("partition", "n1", "n9"),
        ("partition", "n1,n2,n3,n4,n5"),
        ("isolate", "n7"),
        ("link", "n1>n2"),
        ("link", "n1", "--drop"),
        ("link", "n1>n1", "--drop"),
        ("link", "n1>n2", "--loss", "120%"),
        ("link", "n1>n2", "--delay", "10ms", "--jitter", "20ms"),
        ("link", "n1>n2", "--delay", "2m"),
        ("heal", "f77"),
        ("wait", "sunday"),
        ("wait", "seen", "n9=down"),
        ("merkle", "n1", "n1"),
        ("repair", "n9"),
        ("handoff", "n9"),
    ],
    ids=" ".join,
)
def test_what_makes_no_sense_is_a_usage_error_and_changes_nothing(
    cluster: Cluster, arguments: tuple[str, ...], kvctl: Command
) -> None:
    done = kvctl(*arguments, "-o", "json")
    assert (done.code, done.stdout) == (2, b"")
    assert done.error["message"]
    assert done.error["hint"] or arguments[0] == "merkle"
    assert cluster.faults() == ()


# ------------------------------------------------------------------ what heals


def test_hints_wait_while_held_and_go_home_when_told(
    cluster: Cluster, client: Client, kvctl: Command
) -> None:
    assert documents(kvctl("hints", "hold", "-o", "json"))
    key = key_owned_by(client, 1)
    cluster.kill("n3")
    cluster.wait("seen n3=down")
    for number in range(20):
        client.put(f"hinted-{number}", "x")
    client.put(key, "y")
    cluster.start("n3")
    held = kvctl("handoff", "-o", "json")
    assert held.code == 1
    assert held.document["total"] > 0
    assert "(held)" in held.stderr
    vain = kvctl("wait", "hints=0", "--timeout", "200ms")
    assert vain.code == 124
    assert "keeps" in vain.stderr
    kvctl("hints", "release")
    (done,) = documents(kvctl("handoff", "-o", "json"))
    assert done == {"total": 0, "queues": [], "dropped": 0}
    cluster.wait("converged")


def test_repair_brings_home_what_no_hint_did_and_merkle_sees_the_difference(
    cluster: Cluster, client: Client, eventually: Eventually, kvctl: Command
) -> None:
    for number in range(10):
        client.put(f"wiped-{number}", "x")
    cluster.wait("converged")
    cluster.isolate("n2")
    eventually(lambda: apart(client, ("n2",), ("n1",)))
    for number in range(40):
        client.put(f"missed-{number}", "x", via="n1")
    # Held hints bring nothing home: only the trees can tell now.
    kvctl("hints", "hold")
    cluster.heal()
    cluster.wait("ready")
    compared = [
        documents(kvctl("merkle", other, "n2", "-o", "json"))[0]
        for other in ("n1", "n3", "n4", "n5")
    ]
    assert {row["state"] for row in compared} <= {"different", "equal"}
    differing = [row for row in compared if row["keys_differing"]]
    assert differing
    assert all(row["keys_repaired"] == 0 for row in compared)
    worst = differing[0]["a"]
    assert kvctl("merkle", worst, "n2", "--check").code == 1
    (repaired,) = documents(kvctl("repair", "n2", "-o", "json"))
    assert {(row["a"], row["b"]) for row in repaired["pairs"]} == {
        ("n2", other) for other in ("n1", "n3", "n4", "n5")
    }
    assert sum(row["keys_repaired"] for row in repaired["pairs"]) > 0
    assert kvctl("merkle", worst, "n2", "--check").code == 0
    watched = documents(kvctl("repair", "--watch", "-o", "jsonl"))
    assert {row["state"] for row in watched if row["level"] == "done"} <= {"equal", "repaired"}
    kvctl("hints", "release")
    cluster.wait("converged")
