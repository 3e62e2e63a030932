"""Gossip exchanges between pairs: after three messages both know the newer of everything."""

from __future__ import annotations

import random

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.errors import ProtocolError
from kvctl_node.membership.digest import ENTRY_BYTES, DigestEntry, decode_digest, encode_entries
from kvctl_node.membership.gossip import DELTAS_BYTES_MAX, DIGEST_MEMBERS_MAX, Gossip
from kvctl_node.membership.member import Member, StateKey, member_id
from kvctl_node.membership.news import Before, News
from kvctl_node.membership.observations import decode_accused, encode_accused
from kvctl_node.membership.removed_members import RemovedMembers
from tests.memory_storage_engine import MemoryStorageEngine

COUNTERS = st.integers(0, 2**32 - 1)


def member(name: str, *, uuid: str = "", generation: int = 1) -> Member:
    record = Member(member_id(name), generation=generation)
    record.set_text(StateKey.NAME, name)
    record.set_text(StateKey.STORAGE_UUID, uuid or f"disk-of-{name}")
    return record


def gossip(name: str, generation: int = 1) -> Gossip:
    return Gossip(member(name, generation=generation), RemovedMembers(MemoryStorageEngine()))


def exchange(left: Gossip, right: Gossip, seed: int = 0) -> None:
    rng = random.Random(seed)
    digest, complete = left.digest(right.own.id, rng)
    reply = right.on_digest(decode_digest(digest), complete=complete, now_s=0.0, rng=rng)
    left.on_deltas(reply.deltas, 0.0)
    deltas = left.on_wanted(reply.wanted, 0.0, rng)
    if deltas is not None:
        right.on_deltas(deltas.deltas, 0.0)
    left.check_invariants()
    right.check_invariants()


def known(one: Gossip) -> dict[int, tuple]:
    return {
        identifier: (record.generation, record.heartbeat, record.version, record.values)
        for identifier, record in one.members.items()
    }


@given(
    st.lists(
        st.tuples(
            st.integers(0, 4), st.sampled_from(["beat", "load", "restart", "meet"]), st.integers()
        ),
        max_size=60,
    )
)
def test_after_an_exchange_both_know_the_newer_of_every_record(steps) -> None:
    everybody = [gossip(f"n{index}") for index in range(5)]
    for at, what, number in steps:
        own = everybody[at].own
        if what == "beat":
            own.beat(0.0)
        elif what == "load":
            own.set(StateKey.LOAD, number % 7)
        elif what == "restart":
            own.begin_generation(own.generation + 1)
        else:
            other = everybody[(at + 1 + number % 4) % 5]
            before = [known(everybody[at]), known(other)]
            exchange(everybody[at], other)
            assert known(everybody[at]) == known(other)
            for identifier, record in known(other).items():
                stamps = [one[identifier][:3] for one in before if identifier in one]
                assert record[:2] == max(stamp[:2] for stamp in stamps)
    for one in everybody:
        for other in everybody:
            if one is not other:
                exchange(one, other)
    assert all(known(one) == known(everybody[0]) for one in everybody)


def test_nobody_changes_this_nodes_own_record() -> None:
    left, right = gossip("n1"), gossip("n2")
    impostor = member("n1", generation=9)
    impostor.set(StateKey.LOAD, 5)
    right.on_deltas([impostor.delta_since(0, 0, 0.0)], 0.0)
    exchange(left, right)
    assert left.own.generation == 1 and left.members[left.own.id] is left.own


def test_an_equal_pair_exchanges_one_digest_and_nothing_else() -> None:
    left, right = gossip("n1"), gossip("n2")
    exchange(left, right)
    rng = random.Random(0)
    digest, complete = left.digest(right.own.id, rng)
    reply = right.on_digest(decode_digest(digest), complete=complete, now_s=0.0, rng=rng)
    assert not reply.deltas and not reply.wanted and len(digest) == 2 * ENTRY_BYTES


def test_a_removed_disk_never_comes_back_and_its_name_may_with_another() -> None:
    left, right = gossip("n1"), gossip("n2")
    old = member("n3", uuid="old", generation=7)
    right.on_deltas([old.delta_since(0, 0, 0.0)], 0.0)
    left.removed.add(["old"])
    exchange(left, right)
    assert old.id not in left.members and left.refused_ghosts
    new = member("n3", uuid="new")
    assert left.on_deltas([new.delta_since(0, 0, 0.0)], 0.0)
    assert left.members[new.id].storage_uuid == "new"


def test_removals_are_durable() -> None:
    storage = MemoryStorageEngine()
    assert RemovedMembers(storage).add(["b", "a", ""]) == {"a", "b"}
    storage.commit()
    again = RemovedMembers(storage)
    assert "a" in again and "b" in again and "" not in again
    assert again.add(["a"]) == set() and again.text() == "a,b"


def test_a_digest_is_at_most_thirty_bytes_a_member_and_bounded() -> None:
    crowd = gossip("n0")
    for index in range(1, 1000):
        crowd.on_deltas([member(f"a-rather-long-name-{index:05d}").delta_since(0, 0, 0.0)], 0.0)
    receiver = member_id("a-rather-long-name-00500")
    data, complete = crowd.digest(receiver, random.Random(1))
    listed = [entry.member for entry in decode_digest(data)]
    assert not complete and ENTRY_BYTES <= 30 and len(data) == DIGEST_MEMBERS_MAX * ENTRY_BYTES
    assert crowd.own.id in listed and receiver in listed and len(set(listed)) == len(listed)


def test_a_change_is_in_every_slice_and_in_the_answer_to_every_slice_for_a_while() -> None:
    crowd, behind = gossip("n0"), gossip("behind")
    others = [member(f"n{index}") for index in range(1, 400)]
    whole = [one.delta_since(0, 0, 0.0) for one in others]
    crowd.on_deltas(whole, 0.0)
    behind.on_deltas(whole, 0.0)
    slices = [crowd.digest(0, random.Random(seed))[0] for seed in range(400)]
    assert not is_in_all(slices[-10:], others[200]), "what it learnt at the start is old by now"

    changed = others[200]
    before = changed.version
    changed.set_text(StateKey.ZONE, "b")
    crowd.on_deltas([changed.delta_since(changed.generation, before, 0.0)], 0.0)
    slices = [crowd.digest(0, random.Random(seed))[0] for seed in range(10)]
    assert is_in_all(slices, changed)

    asks, _ = behind.digest(crowd.own.id, random.Random(1))
    elsewhere = [one for one in decode_digest(asks) if one.member != changed.id]
    reply = crowd.on_digest(elsewhere, complete=False, now_s=0.0, rng=random.Random(1))
    assert [delta.member for delta in reply.deltas] == [changed.id]
    behind.on_deltas(reply.deltas, 0.0)
    assert behind.members[changed.id].text(StateKey.ZONE) == "b"

    slices = [crowd.digest(0, random.Random(seed))[0] for seed in range(100)]
    assert not is_in_all(slices, changed), "news grow old"
    crowd.check_invariants()


def is_in_all(slices: list[bytes], changed: Member) -> bool:
    return all(changed.id in {one.member for one in decode_digest(data)} for data in slices)


def test_of_too_much_news_what_was_mentioned_least_goes_first() -> None:
    news = News()
    for one in range(10):
        news.note(one, Before(1, 0), members=1000)
    first = {one for one, _ in news.take(5, ())}
    assert {one for one, _ in news.take(5, ())} == set(range(10)) - first
    news.note(3, Before(1, 1), members=1000)
    assert news.take(1, ()) == [(3, Before(1, 1))]
    assert all(one != 3 for one, _ in news.take(10, {3}))


def test_the_deltas_of_one_message_are_bounded_and_every_record_gets_its_turn() -> None:
    crowd, newcomer = gossip("n0"), gossip("new")
    for index in range(1, 1000):
        crowd.on_deltas([member(f"n{index}").delta_since(0, 0, 0.0)], 0.0)
    rng = random.Random(1)
    for _ in range(40):
        digest, complete = newcomer.digest(crowd.own.id, rng)
        reply = crowd.on_digest(decode_digest(digest), complete=complete, now_s=0.0, rng=rng)
        assert len(msgspec.msgpack.encode(reply.deltas)) < 2 * DELTAS_BYTES_MAX
        newcomer.on_deltas(reply.deltas, 0.0)
        if len(newcomer.members) == 1001:
            return
        if len(newcomer.members) > DIGEST_MEMBERS_MAX:
            exchange(crowd, newcomer, rng.getrandbits(32))
    assert len(newcomer.members) == 1001


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), COUNTERS, COUNTERS, COUNTERS)))
def test_digests_survive_packing(entries) -> None:
    given_entries = [DigestEntry(*entry) for entry in entries]
    assert decode_digest(encode_entries(given_entries)) == given_entries


@given(st.dictionaries(st.integers(0, 2**64 - 1), COUNTERS))
def test_observations_survive_packing(accused) -> None:
    assert decode_accused(encode_accused(accused)) == accused


@pytest.mark.parametrize("decode", [decode_digest, decode_accused])
def test_bytes_that_end_in_the_middle_of_an_entry_are_refused(decode) -> None:
    with pytest.raises(ProtocolError):
        decode(b"\0" * 13)
