"""Requests of one frame share messages and a quorum."""

from __future__ import annotations

import msgspec
import pytest

from kvctl_node.causality.siblings import decode_object
from kvctl_node.config import LimitsConfig
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    AdminDone,
    ClientAdmin,
    ClientGet,
    ClientPut,
    Failed,
    GetDone,
    PutDone,
    PutKind,
    RepairMode,
)
from kvctl_node.protocol.messages import (
    PeerMessage,
    ReplicaGet,
    ReplicaGets,
    ReplicaPut,
    ReplicaPuts,
)
from kvctl_node.replication import request_batch
from tests.scenarios.answers import values
from tests.scenarios.frames import (
    KEYS,
    Tap,
    ask,
    gets,
    in_flight,
    puts,
    write_behind_back,
)
from tests.virtual_cluster import VirtualCluster


def test_puts_and_gets_of_a_frame_travel_in_one_message_to_each_replica(
    cluster: VirtualCluster,
) -> None:
    tap = Tap(cluster)
    done = ask(cluster, *puts(cluster, *KEYS))
    assert all(isinstance(one, PutDone) and one.siblings == 1 for one in done)
    assert (tap.kinds[ReplicaPuts], tap.kinds[ReplicaPut]) == (2, 0)
    read = ask(cluster, *gets(cluster, *KEYS))
    assert [values(one) for one in read] == [[f"v of {key}"] for key in KEYS]
    assert (tap.kinds[ReplicaGets], tap.kinds[ReplicaGet]) == (2, 0)
    assert all(isinstance(one, GetDone) and "n1" in one.replied for one in read)
    cluster.run_for(0.1)
    assert all(len(set(cluster.copies(key).values())) == 1 for key in KEYS)
    assert in_flight(cluster) == 0


def test_a_mixed_frame_reads_what_its_own_puts_wrote_here(cluster: VirtualCluster) -> None:
    answers = ask(cluster, *puts(cluster, "a", "b"), *gets(cluster, "a", "b"))
    assert [values(one) for one in answers[2:]] == [["v of a"], ["v of b"]]


def test_blind_puts_of_one_key_in_a_frame_are_siblings(cluster: VirtualCluster) -> None:
    requests = puts(cluster, "k", "k", "k", kind=PutKind.BLIND)
    done = ask(cluster, *requests)
    assert [one.siblings for one in done if isinstance(one, PutDone)] == [1, 2, 3]
    assert len(values(cluster.get("n2", "k"))) == 3


def test_overwrites_of_one_key_in_a_frame_leave_the_last(cluster: VirtualCluster) -> None:
    first, last = puts(cluster, "k", value="first"), puts(cluster, "k", value="last")
    ask(cluster, *first, *last)
    assert values(cluster.get("n2", "k")) == ["last of k"]


def test_an_overwrite_waits_for_r_witnesses_even_where_w_is_one() -> None:
    cluster = VirtualCluster(3, r=2, w=1, n=3)
    ask(cluster, *puts(cluster, *KEYS))
    cluster.run_for(0.1)
    write_behind_back(cluster, "n2", "k4", b"beside")
    theirs, state = cluster.copies("k4")["n2"], cluster.node("n3").state
    assert theirs is not None
    state.replica.apply(state.map.partition_of(b"k4"), b"k4", theirs, b"")
    ask(cluster, *puts(cluster, *KEYS, value="new"))
    cluster.run_for(1.0)
    assert values(cluster.get("n2", "k4", r=3)) == ["new of k4"]


def test_a_retry_among_other_puts_is_looked_up_and_applied_once(cluster: VirtualCluster) -> None:
    (first,) = puts(cluster, "k", kind=PutKind.BLIND)
    ask(cluster, first)
    again = msgspec.structs.replace(first, id=first.id + 5000, attempt=1)
    done = ask(cluster, *puts(cluster, "a"), again, *puts(cluster, "b"))
    assert all(isinstance(one, PutDone) for one in done)
    assert values(cluster.get("n2", "k")) == ["v of k"]
    stored = decode_object(cluster.copies("k")["n1"] or b"")
    assert [counter for _, counter, _ in stored.context.vector] == [1]


def test_where_a_copy_is_doubted_no_get_of_the_frame_counts_it_as_evidence(
    cluster: VirtualCluster,
) -> None:
    ask(cluster, *puts(cluster, "a", "b"))
    cluster.run_for(0.1)
    cluster.cut.add(("n3", "n1"))
    cluster.node("n1").state.replica.doubted.add(b"a")
    doubted, sound = ask(cluster, *gets(cluster, "a", "b"))
    assert isinstance(doubted, Failed)
    assert doubted.kind == FailureKind.UNAVAILABLE
    assert isinstance(sound, GetDone)


def test_while_somebody_watches_every_request_of_a_frame_is_told_of(
    cluster: VirtualCluster,
) -> None:
    cluster.send("n1", ClientAdmin(1, "operations", {}))
    cluster.answer(1)
    ask(cluster, *puts(cluster, "a", "b"), *gets(cluster, "a", "b"))
    cluster.send("n1", ClientAdmin(2, "operations", {}))
    told = cluster.answer(2)
    assert isinstance(told, AdminDone)
    rows = [(row["op"], row["key"]) for row in told.result["operations"]]
    assert sorted(rows) == [("get", "a"), ("get", "b"), ("put", "a"), ("put", "b")]


@pytest.mark.parametrize(
    "special",
    [
        {"r": 3},
        {"repair": int(RepairMode.BLOCKING)},
        {"explain": True},
        {"mode": 2},
        {"key": b"missing"},
    ],
)
def test_a_get_that_asks_for_something_special_goes_alone(
    cluster: VirtualCluster, special: dict[str, object]
) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    tap = Tap(cluster)
    first, second, third = gets(cluster, *KEYS[:3])
    odd = ClientGet(second.id, **{"key": second.key, "deadline_ms": second.deadline_ms, **special})  # type: ignore[arg-type]
    answers = ask(cluster, first, odd, third)
    assert all(isinstance(one, GetDone) for one in answers)
    assert tap.kinds[ReplicaGet] == 2
    assert tap.kinds[ReplicaGets] == 2


def test_bad_requests_of_a_frame_are_refused_and_the_others_done(cluster: VirtualCluster) -> None:
    good = puts(cluster, "a", "b")
    bad = [
        ClientPut(900, b"", b"v", PutKind.BLIND, good[0].deadline_ms, 1, 900, 0),
        ClientPut(901, b"k", b"v", 7, good[0].deadline_ms, 1, 901, 0),
        ClientGet(902, b"x" * 2000, good[0].deadline_ms),
    ]
    answers = ask(cluster, good[0], *bad, good[1])
    assert [type(one) for one in answers] == [PutDone, Failed, Failed, Failed, PutDone]


def test_beyond_the_limit_of_requests_in_flight_each_is_weighed_alone(
    cluster: VirtualCluster,
) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    node = cluster.node("n1")
    node._coordination._in_flight_max = 5
    cluster.cut.update({("n2", "n1"), ("n3", "n1")})
    cluster.send("n1", *gets(cluster, *KEYS))
    cluster.run_for(0.01)
    assert in_flight(cluster) == 5
    refused = [one for one in cluster.replies.values() if isinstance(one, Failed)]
    assert [one.kind for one in refused] == [FailureKind.OVERLOADED] * 3


def test_batches_have_a_bounded_length_and_size(
    cluster: VirtualCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_batch, "BATCH_MAX", 3)
    tap = Tap(cluster)
    ask(cluster, *puts(cluster, *KEYS))
    assert tap.kinds[ReplicaPuts] == 2 * 3
    ask(cluster, *gets(cluster, *KEYS))
    assert tap.kinds[ReplicaGets] == 2 * 3
    monkeypatch.setattr(request_batch, "BATCH_MAX", 100)
    monkeypatch.setattr(request_batch, "BATCH_BYTES_MAX", 1)
    ask(cluster, *puts(cluster, *KEYS, value="new"))
    assert tap.kinds[ReplicaPuts] == 2 * 3 + 2 * len(KEYS), "each is too large for any company"
    ask(cluster, *gets(cluster, *KEYS))
    assert tap.kinds[ReplicaGets] == 2 * 3 + 2 * len(KEYS)


def test_a_batch_is_never_larger_than_a_frame_may_be() -> None:
    limits = LimitsConfig(value_bytes_max=8_000, frame_bytes_max=16_000)
    cluster = VirtualCluster(3, limits=limits)
    sizes: list[int] = []

    def weigh(_sender: str, _receiver: str, message: PeerMessage) -> bool:
        if isinstance(message, ReplicaPuts):
            sizes.append(sum(len(put[0]) + len(put[1]) for put in message.puts))
        return True

    cluster.tap = weigh
    done = ask(cluster, *puts(cluster, *KEYS, value="x" * 3_000))
    assert all(isinstance(one, PutDone) for one in done)
    assert len(sizes) == 2 * 4
    assert max(sizes) <= 8_000


def test_while_an_owner_is_away_requests_go_alone(cluster: VirtualCluster) -> None:
    cluster.kill("n3")
    cluster.run_for(0.1)
    tap = Tap(cluster)
    done = ask(cluster, *puts(cluster, *KEYS))
    assert all(isinstance(one, PutDone) and one.degraded for one in done)
    assert (tap.kinds[ReplicaPuts], tap.kinds[ReplicaPut]) == (0, len(KEYS))


def test_five_nodes_make_one_batch_for_each_set_of_owners() -> None:
    cluster = VirtualCluster(5)
    keys = [f"key {number}" for number in range(60)]
    tap = Tap(cluster)
    state = cluster.node("n1").state
    done = ask(cluster, *puts(cluster, *keys))
    assert all(isinstance(one, PutDone) for one in done)
    rows = [state.map.owners[state.map.partition_of(key.encode())] for key in keys]
    sets = {frozenset(row) for row in rows if "n1" in row}
    assert tap.kinds[ReplicaPuts] == 2 * len(sets)
    assert all(values(one) for one in ask(cluster, *gets(cluster, *keys)))
