"""Keys that a node holds nothing of are minted and stored together, as they would be one by one."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kvctl_node.causality.causal_context import EMPTY_CONTEXT
from kvctl_node.causality.siblings import EMPTY_OBJECT, decode_object, encode_object, put_version
from kvctl_node.config import LimitsConfig
from kvctl_node.errors import FailureKind
from kvctl_node.ports import Record
from kvctl_node.protocol.client_messages import (
    ClientReply,
    Failed,
    PutDone,
    PutKind,
    PutsDone,
    ReplyMessage,
)
from kvctl_node.protocol.codec import encode_replies
from kvctl_node.protocol.messages import PeerFrame, ReplicaPut, ReplicaPuts
from kvctl_node.replication import new_copies, put_batch, replica_service, request_batch
from kvctl_node.replication.put_batch import batches_of_puts
from kvctl_node.ring.placed_keys import PlacedKeys
from tests import virtual_hosts
from tests.memory_storage_engine import MemoryStorageEngine
from tests.scenarios.answers import token_of, values
from tests.scenarios.frames import KEYS, Tap, ask, puts, write_behind_back
from tests.virtual_cluster import VirtualCluster

NAMES = ["n1", "n2", "n3"]


@pytest.fixture
def stored_together(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many keys each call of `put_new` got."""
    counts: list[int] = []
    put_new = MemoryStorageEngine.put_new

    def counted(self: MemoryStorageEngine, placed: PlacedKeys, records: Sequence[Record]) -> None:
        counts.append(len(placed.keys))
        put_new(self, placed, records)

    monkeypatch.setattr(MemoryStorageEngine, "put_new", counted)
    return counts


def everything(cluster: VirtualCluster) -> list[object]:
    """All that the nodes hold of any key, and what they know about it."""
    found: list[object] = []
    for name in NAMES:
        state, storage = cluster.node(name).state, cluster.hosts[name].storage
        merkle = state.replica.merkle
        found += [storage.committed(*place) for place in storage.committed_places()]
        found += [merkle.partition_hash(one) for one in range(merkle.partitions)]
        found += [merkle.key_count(), merkle.content_bytes(tuple(range(merkle.partitions)))]
        found += [sorted(state.replica.conflicted)]
    return found


@pytest.mark.parametrize("kind", [PutKind.BLIND, PutKind.OVERWRITE])
def test_new_keys_are_stored_together(
    cluster: VirtualCluster, stored_together: list[int], kind: PutKind
) -> None:
    done = ask(cluster, *puts(cluster, *KEYS, kind=kind))
    assert all(isinstance(one, PutDone) and one.siblings == 1 for one in done)
    cluster.run_for(0.1)
    # Of overwrites the replicas have to say what they held, which they look up key by key.
    nodes = 3 if kind == PutKind.BLIND else 1
    assert stored_together == [len(KEYS)] * nodes
    assert all(len(set(cluster.copies(key).values())) == 1 for key in KEYS)


def test_only_those_that_are_new_are(cluster: VirtualCluster, stored_together: list[int]) -> None:
    ask(cluster, *puts(cluster, *KEYS[:3], kind=PutKind.BLIND))
    cluster.run_for(0.1)
    stored_together.clear()
    done = ask(cluster, *puts(cluster, *KEYS, value="w", kind=PutKind.BLIND))
    assert [one.siblings for one in done if isinstance(one, PutDone)] == [2] * 3 + [1] * 5
    cluster.run_for(0.1)
    assert stored_together == [len(KEYS) - 3] * 3


def test_what_has_the_same_answer_shares_a_reply(
    cluster: VirtualCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[ReplyMessage] = []

    def encode(replies: list[ReplyMessage]) -> bytes:
        sent.extend(replies)
        return encode_replies(replies)

    monkeypatch.setattr(virtual_hosts, "encode_replies", encode)
    ask(cluster, *puts(cluster, *KEYS[:3], kind=PutKind.BLIND))
    new = puts(cluster, *KEYS[3:], kind=PutKind.BLIND)
    old = puts(cluster, *KEYS[:3], value="w", kind=PutKind.BLIND)
    sent.clear()
    done = ask(cluster, *old, *new)
    assert [type(message) for message in sent] == [PutsDone] + [PutDone] * 3
    assert [one.ids for one in sent if isinstance(one, PutsDone)] == [[one.id for one in new]]
    # Each answer is as good as one of its own: its context covers its put, and no other.
    for request, one in zip([*old, *new], done, strict=True):
        assert isinstance(one, PutDone)
        key = request.key.decode()
        context = token_of(cluster, key, one)
        again = cluster.put_request(key, "x", kind=PutKind.CONTEXT, context=context)
        cluster.send("n1", again)
        last = cluster.answer(again.id)
        assert isinstance(last, PutDone) and last.siblings == one.siblings


def test_a_key_that_is_named_twice_gets_both_versions(cluster: VirtualCluster) -> None:
    done = ask(cluster, *puts(cluster, "a", "b", "a", kind=PutKind.BLIND))
    assert [one.siblings for one in done if isinstance(one, PutDone)] == [1, 1, 2]
    cluster.run_for(0.1)
    assert len(set(cluster.copies("a").values())) == 1


def test_too_many_for_one_batch_become_several(
    cluster: VirtualCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_batch, "BATCH_MAX", 5)
    tap = Tap(cluster)
    keys = [f"many{number}" for number in range(12)]
    done = ask(cluster, *puts(cluster, *keys, kind=PutKind.BLIND))
    assert all(isinstance(one, PutDone) for one in done)
    assert (tap.kinds[ReplicaPuts], tap.kinds[ReplicaPut]) == (3 * 2, 0)
    cluster.run_for(0.1)
    assert all(None not in cluster.copies(key).values() for key in keys)


def test_too_large_for_one_batch_become_several(
    cluster: VirtualCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_batch, "BATCH_BYTES_MAX", 10_000)
    tap = Tap(cluster)
    done = ask(cluster, *puts(cluster, *KEYS[:5], value="x" * 3000, kind=PutKind.BLIND))
    assert all(isinstance(one, PutDone) for one in done)
    assert (tap.kinds[ReplicaPuts], tap.kinds[ReplicaPut]) == (2 * 2, 0)
    cluster.run_for(0.1)
    assert all(None not in cluster.copies(key).values() for key in KEYS[:5])


def test_a_batch_with_new_keys_has_no_more_room_than_another(
    cluster: VirtualCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask(cluster, *puts(cluster, KEYS[0], kind=PutKind.BLIND))
    cluster.run_for(0.1)
    monkeypatch.setattr(request_batch, "BATCH_BYTES_MAX", 10_000)
    tap = Tap(cluster)
    ask(cluster, *puts(cluster, *KEYS[:4], value="x" * 2900, kind=PutKind.BLIND))
    assert (tap.kinds[ReplicaPuts], tap.kinds[ReplicaPut]) == (2 * 2, 0)


def test_a_full_disk_takes_none_of_them(cluster: VirtualCluster) -> None:
    cluster.hosts["n1"].storage.full = True
    refused = ask(cluster, *puts(cluster, *KEYS, kind=PutKind.BLIND))
    assert all(isinstance(one, Failed) and one.kind == FailureKind.OVERLOADED for one in refused)
    cluster.run_for(0.1)
    assert all(set(cluster.copies(key).values()) == {None} for key in KEYS)


def test_a_key_in_conflict_whose_copy_is_gone_begins_anew(cluster: VirtualCluster) -> None:
    state = cluster.node("n1").state
    state.replica.conflicted.add(KEYS[0].encode())
    ask(cluster, *puts(cluster, *KEYS, kind=PutKind.BLIND))
    assert not state.replica.conflicted


@pytest.mark.parametrize("kind", [PutKind.BLIND, PutKind.OVERWRITE])
def test_nothing_is_overwritten_on_the_word_of_a_node_in_doubt(
    cluster: VirtualCluster, kind: PutKind
) -> None:
    """Which it may come to be in the middle of a frame."""
    node = cluster.node("n1")
    node.state.replica.doubted.add(b"another")
    requests = puts(cluster, *KEYS, kind=kind)
    batches, alone = batches_of_puts(
        node.state, node._coordination, b"client", requests, cluster.now
    )
    in_batches = sum(batch.size for batch in batches)
    assert (in_batches, len(alone)) == ((0, 8) if kind == PutKind.OVERWRITE else (8, 0))


def test_siblings_that_come_to_a_replica_with_a_new_key_are_noticed(
    cluster: VirtualCluster,
) -> None:
    write_behind_back(cluster, "n1", KEYS[0], b"earlier")
    ask(cluster, *puts(cluster, *KEYS, kind=PutKind.BLIND))
    cluster.run_for(0.1)
    for name in NAMES:
        assert cluster.node(name).state.replica.conflicted == {KEYS[0].encode()}


def test_a_new_key_overwrites_what_another_replica_had_of_it(cluster: VirtualCluster) -> None:
    write_behind_back(cluster, "n2", KEYS[0], b"earlier")
    cluster.tap = lambda _sender, receiver, _message: receiver != "n3"  # so n2 is needed
    done = ask(cluster, *puts(cluster, *KEYS, kind=PutKind.OVERWRITE))
    assert all(isinstance(one, PutDone) and one.siblings == 1 for one in done)
    cluster.run_for(0.1)
    assert cluster.copies(KEYS[0])["n1"] == cluster.copies(KEYS[0])["n2"]
    assert values(cluster.get("n2", KEYS[0])) == [f"v of {KEYS[0]}"]


def test_one_that_cannot_be_stored_is_refused_and_the_others_are_not() -> None:
    cluster = VirtualCluster(3, limits=LimitsConfig(siblings_max=2))
    for value in ("v", "w"):
        ask(cluster, *puts(cluster, KEYS[0], value=value, kind=PutKind.BLIND))
    done = ask(cluster, *puts(cluster, *KEYS, value="x", kind=PutKind.BLIND))
    assert [type(one) for one in done] == [Failed] + [PutDone] * 7


def test_a_bad_memory_of_requests_is_dropped_with_its_message(cluster: VirtualCluster) -> None:
    node = cluster.node("n1")
    content = encode_object(
        put_version(EMPTY_OBJECT, b"v", actor="n2#1", seen=EMPTY_CONTEXT, stamp_ms=1)[0]
    )
    good, bad = (b"good", content, b"", b"", 0), (b"bad", content, b"\xc1", b"", 0)
    for held in (False, True):
        message = ReplicaPuts(7, [good, bad], cluster.now.wall_ms + 1000)
        node.outbox.clear()
        node.on_peer_frame(PeerFrame("n2", node.ring_epoch, [message]), cluster.now)
        assert node.outbox.to_peers.get("n2", []) == []
        partition = node.state.map.partition_of(b"bad")
        found = node.state.storage.get(partition, b"bad")
        assert found is None if not held else found is not None and found.recent == b""
        node.state.replica.apply(partition, b"bad", content, b"")


@pytest.mark.parametrize("before", [0, 8])
def test_a_disk_that_fills_up_within_a_frame_takes_only_the_first(
    cluster: VirtualCluster, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """`before`: how many of the keys are there already."""
    ask(cluster, *puts(cluster, *KEYS[:before], value="w", kind=PutKind.BLIND))
    cluster.run_for(0.1)
    monkeypatch.setattr(put_batch, "SLICE_BYTES", 10)
    storage = cluster.hosts["n1"].storage
    answers = iter([True, True, True])
    monkeypatch.setattr(storage, "accepts_writes", lambda: next(answers, False))
    done = ask(cluster, *puts(cluster, *KEYS, value="value", kind=PutKind.BLIND))
    # Both kinds of key are asked for once each; what is refused was not stored anywhere.
    assert [type(one) for one in done] == [PutDone] * 3 + [Failed] * 5
    cluster.run_for(0.1)
    expected = [2 if before else 1] * 3 + [1 if before else 0] * 5
    for name in NAMES:
        state = cluster.node(name).state
        found = [
            state.storage.get(state.map.partition_of(key.encode()), key.encode()) for key in KEYS
        ]
        siblings = [0 if one is None else len(decode_object(one.content).siblings) for one in found]
        assert siblings == expected


PUTS = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.sampled_from([PutKind.BLIND, PutKind.BLIND, PutKind.OVERWRITE]),
        st.sampled_from(["v", "w", "x" * 300, None]),
    ),
    min_size=1,
    max_size=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(frames=st.lists(PUTS, min_size=1, max_size=5))
def test_they_are_what_they_would_be_one_by_one(
    frames: list[list[tuple[str, PutKind, str | None]]],
) -> None:
    def run() -> tuple[list[list[ClientReply]], list[object]]:
        cluster = VirtualCluster(3)
        answers = []
        for frame in frames:
            requests = [cluster.put_request(key, value, kind=kind) for key, kind, value in frame]
            answers.append(ask(cluster, *requests))
        cluster.run_for(0.5)
        return answers, everything(cluster)

    together = run()
    with pytest.MonkeyPatch.context() as patch:
        for module in (put_batch, replica_service):
            assert module.may_be_held is new_copies.may_be_held  # type: ignore[attr-defined]
            patch.setattr(module, "may_be_held", lambda state, placed: range(len(placed.keys)))
        one_by_one = run()
    assert together == one_by_one
