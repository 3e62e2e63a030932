"""Requests that came together, until something sets one of them apart."""

from __future__ import annotations

import random
from collections import Counter

import msgspec
import pytest

from kvctl_node.config import QuorumConfig
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientReply,
    Failed,
    GetDone,
    PutDone,
    PutKind,
)
from kvctl_node.protocol.messages import (
    PeerFrame,
    PeerMessage,
    ReplicaGet,
    ReplicaGetReply,
    ReplicaGets,
    ReplicaPut,
    ReplicaPutAck,
    ReplicaPutReport,
    ReplicaPuts,
    ReplicaSame,
)
from tests.scenarios.answers import values
from tests.scenarios.frames import (
    KEYS,
    Tap,
    ask,
    batch_of,
    gets,
    in_flight,
    puts,
    write_behind_back,
)
from tests.virtual_cluster import VirtualCluster

_ABOUT_REQUESTS = (
    ReplicaPut,
    ReplicaPuts,
    ReplicaPutAck,
    ReplicaPutReport,
    ReplicaGet,
    ReplicaGets,
    ReplicaGetReply,
    ReplicaSame,
)


def test_what_one_replica_holds_besides_is_merged_and_mended_and_the_rest_is_answered_at_once(
    cluster: VirtualCluster,
) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    cluster.run_for(0.1)
    for name in ("n2", "n3"):
        write_behind_back(cluster, name, "k5", name.encode())
    tap = Tap(cluster)
    read = ask(cluster, *gets(cluster, *KEYS))
    others = [values(one) for key, one in zip(KEYS, read, strict=True) if key != "k5"]
    assert others == [[f"v of {key}"] for key in KEYS if key != "k5"]
    assert len(values(read[5])) >= 2
    assert tap.kinds[ReplicaGetReply] == 2
    cluster.run_for(0.5)
    assert len(set(cluster.copies("k5").values())) == 1
    assert len(values(cluster.get("n1", "k5"))) == 3


def test_a_copy_that_differs_after_the_answer_is_mended_all_the_same(
    cluster: VirtualCluster,
) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    cluster.run_for(0.1)
    write_behind_back(cluster, "n3", "k2", b"beside")
    cluster.cut.add(("n3", "n1"))
    cluster.tap = None
    requests = gets(cluster, *KEYS)
    cluster.send("n1", *requests)
    cluster.run_until(lambda: requests[0].id in cluster.replies)
    cluster.heal()
    # n3's answer was lost; give it again, as a slow link would.
    node = cluster.node("n1")
    batch_id = batch_of(cluster)
    theirs = cluster.copies("k2")["n3"]
    assert theirs is not None
    frame = PeerFrame(
        "n3",
        node.ring_epoch,
        [ReplicaSame(batch_id, [2]), ReplicaGetReply(batch_id, 1, theirs, b"", 2)],
    )
    node.on_peer_frame(frame, cluster.now)
    cluster.run_for(0.5)
    assert len(values(cluster.get("n2", "k2"))) == 2
    assert len(set(cluster.copies("k2").values())) == 1
    assert in_flight(cluster) == 0


@pytest.mark.parametrize("reply_first", [True, False])
def test_an_answer_for_one_and_that_for_the_rest_may_come_in_any_order(
    cluster: VirtualCluster, reply_first: bool
) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    cluster.run_for(0.1)
    write_behind_back(cluster, "n2", "k3", b"beside")
    for peer in ("n2", "n3"):
        cluster.cut.add((peer, "n1"))
    requests = gets(cluster, *KEYS)
    for one in requests:
        cluster.replies.pop(one.id, None)
    cluster.send("n1", *requests)
    cluster.run_for(0.01)
    node = cluster.node("n1")
    batch_id = batch_of(cluster)
    theirs = cluster.copies("k3")["n2"]
    assert theirs is not None
    told: list[PeerMessage] = [
        ReplicaGetReply(batch_id, 1, theirs, b"", 3),
        ReplicaSame(batch_id, [3]),
    ]
    for message in told if reply_first else reversed(told):
        node.on_peer_frame(PeerFrame("n2", node.ring_epoch, [message]), cluster.now)
    replies = node.outbox.to_clients
    answered = {one.id: one for reply in replies.values() for one in reply}
    assert answered.keys() == {one.id for one in requests}
    assert values(answered[requests[3].id]) == ["v of k3", "beside"]
    assert in_flight(cluster) == 0


def test_a_place_that_is_not_in_the_batch_is_refused(cluster: VirtualCluster) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    cluster.cut.update({("n2", "n1"), ("n3", "n1")})
    cluster.send("n1", *gets(cluster, *KEYS))
    cluster.run_for(0.01)
    node = cluster.node("n1")
    batch_id = batch_of(cluster)
    before = node.refused_messages
    for bad in (ReplicaSame(batch_id, [8]), ReplicaGetReply(batch_id, 1, b"", b"", -1)):
        node.on_peer_frame(PeerFrame("n2", node.ring_epoch, [bad]), cluster.now)
    assert node.refused_messages == before + 2
    node.check_invariants()


def test_when_replicas_are_lost_every_get_fails_by_itself(cluster: VirtualCluster) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    tap = Tap(cluster)
    tap.lost = {ReplicaGets}
    requests = gets(cluster, *KEYS)
    cluster.send("n1", *requests)
    cluster.run_for(0.01)
    assert in_flight(cluster) == len(KEYS)
    cluster.kill("n2")
    cluster.run_for(0.01)
    assert in_flight(cluster) == len(KEYS)
    cluster.node("n1").check_invariants()
    cluster.kill("n3")
    for one in requests:
        failed = cluster.answer(one.id)
        assert isinstance(failed, Failed)
        assert failed.kind == FailureKind.UNAVAILABLE
    assert in_flight(cluster) == 0


def test_gets_without_answers_end_at_their_deadline(cluster: VirtualCluster) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    tap = Tap(cluster)
    tap.lost = {ReplicaGets}
    failed = ask(cluster, *gets(cluster, *KEYS, timeout_s=1.5))
    assert {one.kind for one in failed if isinstance(one, Failed)} == {FailureKind.UNAVAILABLE}
    assert len(failed) == len(KEYS)
    cluster.run_for(3.0)
    assert in_flight(cluster) == 0
    assert not cluster.node("n1")._coordination._requests


def test_puts_of_which_a_replica_hears_nothing_leave_a_hint_each(cluster: VirtualCluster) -> None:
    cluster.cut.add(("n1", "n3"))
    done = ask(cluster, *puts(cluster, *KEYS))
    assert all(isinstance(one, PutDone) for one in done)
    hinted = cluster.hosts["n1"].storage.hints
    assert cluster.run_until(lambda: sum(one.hints for one in hinted.queues()) == len(KEYS), 5.0)
    assert [one.target for one in hinted.queues()] == ["n3"]
    cluster.heal()
    assert cluster.run_until(lambda: not hinted.queues(), 10.0)
    assert all(len(set(cluster.copies(key).values())) == 1 for key in KEYS)


def test_puts_that_reach_nobody_are_indeterminate_each(cluster: VirtualCluster) -> None:
    tap = Tap(cluster)
    tap.lost = {ReplicaPuts}
    failed = ask(cluster, *puts(cluster, *KEYS))
    assert {one.kind for one in failed if isinstance(one, Failed)} == {FailureKind.INDETERMINATE}
    assert len(failed) == len(KEYS)


def test_an_overwrite_supersedes_what_another_replica_reports(cluster: VirtualCluster) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    cluster.run_for(0.1)
    write_behind_back(cluster, "n2", "k4", b"beside")
    theirs, state = cluster.copies("k4")["n2"], cluster.node("n3").state
    assert theirs is not None
    state.replica.apply(state.map.partition_of(b"k4"), b"k4", theirs, b"")
    done = ask(cluster, *puts(cluster, *KEYS, value="new"))
    assert all(isinstance(one, PutDone) for one in done)
    cluster.run_for(1.0)
    assert [values(cluster.get("n2", key, r=3)) for key in KEYS] == [
        [f"new of {key}"] for key in KEYS
    ]


@pytest.mark.parametrize("known_to_n3", [True, False])
def test_late_answers_to_the_first_round_count_nothing_in_the_second(
    cluster: VirtualCluster, known_to_n3: bool
) -> None:
    """Whoever was replaced begins a round of its own: what n3 says of the first proves nothing,
    be it a report or a plain acknowledgement."""
    ask(cluster, *puts(cluster, *KEYS))
    cluster.run_for(0.1)
    if known_to_n3:
        cluster.isolate(["n1"])
        cluster.put("n2", "k4", "beside")
        cluster.heal()
        cluster.run_for(0.05)
    else:
        write_behind_back(cluster, "n2", "k4", b"beside")
    held: list[PeerMessage] = []

    def tap(sender: str, receiver: str, message: PeerMessage) -> bool:
        if (sender, receiver) == ("n3", "n1") and isinstance(
            message, ReplicaPutAck | ReplicaPutReport
        ):
            held.append(message)
            return False
        return not (sender == "n1" and isinstance(message, ReplicaPut) and not message.report)

    cluster.tap = tap
    requests = puts(cluster, *KEYS, value="new")
    cluster.send("n1", *requests)
    cluster.run_for(0.02)
    assert held
    node = cluster.node("n1")
    node.on_peer_frame(PeerFrame("n3", node.ring_epoch, held), cluster.now)
    for messages in (node.outbox.to_clients.get(client, []) for client in node.outbox.to_clients):
        assert requests[4].id not in [one.id for one in messages]
    assert requests[4].id not in cluster.replies
    failed = cluster.answer(requests[4].id)
    assert isinstance(failed, Failed)
    assert failed.kind == FailureKind.INDETERMINATE
    cluster.tap = None
    hints = cluster.hosts["n1"].storage.hints
    assert {one.target for one in hints.queues()} == {"n2", "n3"}
    assert cluster.run_until(lambda: not hints.queues(), 30.0)
    assert [values(cluster.get("n2", "k4", r=3))] == [["new of k4"]]


def test_requests_of_a_frame_keep_the_quorum_they_started_with() -> None:
    cluster = VirtualCluster(3, r=1, w=3)
    ask(cluster, *puts(cluster, *KEYS))
    cluster.run_for(0.1)
    write_behind_back(cluster, "n2", "k4", b"beside")
    cluster.cut.add(("n1", "n3"))
    requests = puts(cluster, *KEYS, value="new")
    cluster.send("n1", *requests)
    cluster.node("n1").state.set_quorum(QuorumConfig(3, 1, 1, "strict"))
    cluster.run_for(0.02)
    assert requests[4].id not in cluster.replies, "W was 3 when it began"


def test_who_has_more_time_is_answered_though_another_of_the_frame_has_less(
    cluster: VirtualCluster,
) -> None:
    ask(cluster, *puts(cluster, "short", "long"))
    cluster.run_for(0.1)
    cluster.latency_s = (0.6, 0.6)
    deadlines_ms: dict[type, int] = {}

    def note(_sender: str, _receiver: str, message: PeerMessage) -> bool:
        if isinstance(message, ReplicaGets | ReplicaPuts):
            deadlines_ms[type(message)] = message.deadline_ms
        return True

    cluster.tap = note
    latest_ms = cluster.now.wall_ms + cluster.node("n1").state.timing.replica_timeout_ms
    (short,) = gets(cluster, "short", timeout_s=1.05)
    (long,) = gets(cluster, "long", timeout_s=5.0)
    long = msgspec.structs.replace(long, id=short.id + 1)
    put_long = cluster.put_request("long", "new")
    put_short = cluster.put_request("short", "new", timeout_s=1.05)
    cluster.send("n1", short, long)
    cluster.send("n1", put_short, put_long)
    assert isinstance(cluster.answer(short.id), Failed)
    assert isinstance(cluster.answer(long.id), GetDone)
    assert isinstance(cluster.answer(put_short.id), Failed)
    assert isinstance(cluster.answer(put_long.id), PutDone)
    assert deadlines_ms == {ReplicaGets: latest_ms, ReplicaPuts: latest_ms}


def test_a_batch_that_all_have_left_answers_nobody(cluster: VirtualCluster) -> None:
    ask(cluster, *puts(cluster, *KEYS))
    tap = Tap(cluster)
    tap.lost = {ReplicaSame, ReplicaGetReply}
    requests = gets(cluster, *KEYS)
    cluster.send("n1", *requests)
    cluster.run_for(0.01)
    node = cluster.node("n1")
    batch_id = batch_of(cluster)
    everybody = list(range(len(KEYS)))
    for peer in ("n2", "n3"):
        told = ReplicaSame(batch_id, everybody)
        node.on_peer_frame(PeerFrame(peer, node.ring_epoch, [told]), cluster.now)
    assert node.outbox.to_clients == {}, "not even an empty frame"
    node.check_invariants()


@pytest.mark.parametrize("seed", range(40))
def test_frames_over_links_that_lose_messages_leave_no_replica_behind(seed: int) -> None:
    """Every put ends at every primary, by acknowledgement or by hint, and every request is answered
    once; nothing else mends the replicas here."""
    rng = random.Random(seed)
    n, r, w = rng.choice([(1, 1, 1), (2, 1, 2), (3, 1, 1), (3, 1, 3), (3, 2, 2), (3, 3, 1)])
    nodes = max(2, n) + rng.choice([0, 0, 1])
    cluster = VirtualCluster(nodes, n=n, r=r, w=w, mode=rng.choice(["strict", "sloppy"]), seed=seed)
    answered: Counter[int] = Counter()
    on_reply = cluster.on_reply

    def count(name: str, reply: ClientReply) -> None:
        answered[reply.id] += 1
        on_reply(name, reply)

    cluster.on_reply = count  # type: ignore[method-assign]
    loss = rng.choice([0.0, 0.1, 0.3])
    cluster.tap = lambda _sender, _receiver, message: (
        not isinstance(message, _ABOUT_REQUESTS) or rng.random() >= loss
    )
    asked: list[int] = []
    for _ in range(20):
        frame: list[ClientGet | ClientPut] = []
        for _ in range(rng.randint(1, 8)):
            key, timeout_s = rng.choice(KEYS), rng.choice([1.2, 5.0])
            kind = rng.choice([PutKind.OVERWRITE, PutKind.OVERWRITE, PutKind.BLIND])
            put = cluster.put_request(key, f"v{len(asked)}", kind=kind, timeout_s=timeout_s)
            asked.append(put.id)
            read = rng.random() < 0.4
            frame.append(ClientGet(put.id, put.key, put.deadline_ms) if read else put)
        cluster.send(rng.choice(list(cluster.hosts)), *frame)
        cluster.run_for(rng.choice([0.0, 0.0007, 0.002, 0.1]))
    cluster.run_for(6.0)
    assert answered == Counter(asked)
    for name in cluster.hosts:
        coordination = cluster.node(name)._coordination
        assert not coordination._requests
        assert coordination.in_flight == 0
    cluster.tap = None
    stores = [host.storage for host in cluster.hosts.values()]
    assert cluster.run_until(lambda: not any(one.hints.queues() for one in stores), 60.0)
    for key in KEYS:
        assert len(set(cluster.copies(key).values())) == 1, key
