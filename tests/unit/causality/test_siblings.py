"""The laws of versions, checked on replicas that put and merge in every order."""

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvctl_node.causality.causal_context import EMPTY_CONTEXT, CausalContext
from kvctl_node.causality.epoch_folding import fold_version
from kvctl_node.causality.siblings import (
    EMPTY_OBJECT,
    StoredObject,
    decode_object,
    digest_of,
    encode_object,
    has_ended,
    merge_objects,
    put_version,
    replace_version,
)

ACTORS = ("x#1", "y#1", "z#1")


class Replicas(RuleBasedStateMachine):
    """Three replicas of one key, and clients that hold contexts they were once given."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[str, StoredObject] = dict.fromkeys(ACTORS, EMPTY_OBJECT)
        self.contexts: list[CausalContext] = [EMPTY_CONTEXT]
        self.values = 0
        self.written: dict[tuple[str, int], bytes | None] = {}
        self.first_name: dict[tuple[str, int], tuple[str, int]] = {}
        """Dot → the dot that it replaces."""
        self.ended_for_good: set[tuple[str, int]] = set()
        """What a put had seen; what a replacement merely overtook is not among them."""
        self.superseded: set[tuple[str, int]] = set()

    @rule(actor=st.sampled_from(ACTORS), choice=st.integers(0, 1000), delete=st.booleans())
    def put(self, actor: str, choice: int, delete: bool) -> None:
        seen = self.contexts[choice % len(self.contexts)]
        self.values += 1
        value = None if delete else b"%d" % self.values
        before = self.copies[actor]
        after, dot = put_version(before, value, actor=actor, seen=seen, stamp_ms=self.values)
        after.check_invariants()
        assert dot not in self.written, "no dot names two values"
        self.written[dot] = value
        covered = {s.dot for s in before.siblings if self.has_seen(seen, s.dot)}
        assert {s.dot for s in after.siblings} == (
            {s.dot for s in before.siblings} - covered | {dot}
        ), "a put dominates exactly its context"
        self.superseded |= {one for one in self.written if self.has_seen(seen, one)}
        self.ended_for_good |= {one for one in self.written if seen.covers(*one)}
        self.copies[actor] = after
        self.contexts.append(seen.with_dot(*dot, self.values))

    def has_seen(self, seen: CausalContext, dot: tuple[str, int]) -> bool:
        first = self.first_name.get(dot)
        return seen.covers(*dot) or (first is not None and seen.covers(*first))

    @rule(actor=st.sampled_from(ACTORS), reporter=st.sampled_from(ACTORS))
    def replace(self, actor: str, reporter: str) -> None:
        """A write of `actor` learns what another replica holds, and takes that in as well."""
        before = self.copies[actor]
        own = [s for s in before.siblings if s.actor == actor and not s.replaces]
        if not own:
            return
        write, known = own[-1], self.copies[reporter]
        if has_ended(known, write.dot):
            return
        self.values += 1
        after, dot = replace_version(before, write.dot, known, stamp_ms=self.values)
        after.check_invariants()
        assert dot not in self.written, "no dot names two values"
        self.written[dot] = write.value
        self.first_name[dot] = write.dot
        if write.dot in self.ended_for_good:
            self.superseded.add(dot)
        self.superseded |= {one for one in self.written if known.context.covers(*one)}
        self.superseded.add(write.dot)
        self.copies[actor] = after

    @rule(actor=st.sampled_from(ACTORS))
    def read(self, actor: str) -> None:
        self.contexts.append(self.copies[actor].context)

    @rule(receiver=st.sampled_from(ACTORS), sender=st.sampled_from(ACTORS))
    def replicate(self, receiver: str, sender: str) -> None:
        ours, theirs = self.copies[receiver], self.copies[sender]
        merged = merge_objects(ours, theirs)
        assert encode_object(merged) == encode_object(merge_objects(theirs, ours))
        assert merge_objects(merged, theirs) == merged
        assert merge_objects(merged, ours) == merged
        self.copies[receiver] = merged

    @invariant()
    def merging_is_associative(self) -> None:
        x, y, z = self.copies.values()
        assert merge_objects(merge_objects(x, y), z) == merge_objects(x, merge_objects(y, z))

    @invariant()
    def exactly_what_nobody_superseded_survives_a_full_merge(self) -> None:
        x, y, z = self.copies.values()
        everything = merge_objects(merge_objects(x, y), z)
        alive = {sibling.dot: sibling.value for sibling in everything.siblings}
        expected = {d: v for d, v in self.written.items() if d not in self.superseded}
        assert alive == expected
        assert alive or not self.written, "writes may not all end each other"

    @invariant()
    def the_encoding_is_canonical(self) -> None:
        for copy in self.copies.values():
            content = encode_object(copy)
            assert decode_object(content) == copy
            assert digest_of(content) == digest_of(encode_object(decode_object(content)))


Replicas.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
test_replicas_keep_the_laws_of_versions = Replicas.TestCase


def put(stored, value, actor, seen):
    return put_version(stored, value, actor=actor, seen=seen, stamp_ms=0)[0]


def test_the_story_of_d1_to_d5_ends_with_one_version_that_sx_reconciled():
    """Figure 3 of the Dynamo paper (SOSP 2007, section 4.4)."""
    d1 = put(EMPTY_OBJECT, b"D1", "sx#1", EMPTY_CONTEXT)
    assert fold_version(d1.context) == [("sx", 1)]
    d2 = put(d1, b"D2", "sx#1", d1.context)
    assert fold_version(d2.context) == [("sx", 2)]
    assert [s.value for s in d2.siblings] == [b"D2"]
    d3 = put(d2, b"D3", "sy#1", d2.context)
    d4 = put(d2, b"D4", "sz#1", d2.context)
    assert fold_version(d3.context) == [("sx", 2), ("sy", 1)]
    assert fold_version(d4.context) == [("sx", 2), ("sz", 1)]
    fork = merge_objects(d3, d4)
    assert sorted(s.value for s in fork.siblings) == [b"D3", b"D4"]
    d5 = put(fork, b"D5", "sx#1", fork.context)
    assert fold_version(d5.context) == [("sx", 3), ("sy", 1), ("sz", 1)]
    assert [s.value for s in d5.siblings] == [b"D5"]
    for old in (d1, d2, d3, d4):
        assert merge_objects(old, d5) == d5


def test_two_writers_from_one_context_through_one_replica_leave_both_values():
    base = put(EMPTY_OBJECT, b"base", "n1#1", EMPTY_CONTEXT)
    first = put(base, b"a", "n1#1", base.context)
    second = put(first, b"b", "n1#1", base.context)
    assert [s.value for s in second.siblings] == [b"a", b"b"]


def test_the_answer_to_a_blind_put_does_not_cover_the_sibling_its_client_never_saw():
    first, dot1 = put_version(EMPTY_OBJECT, b"a", actor="n1#1", seen=EMPTY_CONTEXT, stamp_ms=0)
    second, dot2 = put_version(first, b"b", actor="n1#1", seen=EMPTY_CONTEXT, stamp_ms=0)
    answer = EMPTY_CONTEXT.with_dot(*dot2, 0)
    third = put(second, b"c", "n1#1", answer)
    assert [s.value for s in third.siblings] == [b"a", b"c"]
    assert not answer.covers(*dot1)


@given(st.lists(st.sampled_from([0, 1]), min_size=1, max_size=20))
def test_two_clients_that_put_with_their_own_last_answer_leave_the_two_newest(turns):
    stored = EMPTY_OBJECT
    contexts = [EMPTY_CONTEXT, EMPTY_CONTEXT]
    last: dict[int, bytes] = {}
    for number, client in enumerate(turns):
        value = b"%d" % number
        stored, dot = put_version(
            stored, value, actor="n1#1", seen=contexts[client], stamp_ms=number
        )
        contexts[client] = contexts[client].with_dot(*dot, number)
        last[client] = value
    assert sorted(s.value for s in stored.siblings) == sorted(last.values())


def test_a_tombstone_beside_a_value_is_a_conflict_and_alone_reads_as_deleted():
    value = put(EMPTY_OBJECT, b"a", "n1#1", EMPTY_CONTEXT)
    deleted = put(value, None, "n1#1", value.context)
    assert deleted.deleted
    concurrent = put(value, b"b", "n2#1", value.context)
    both = merge_objects(deleted, concurrent)
    assert not both.deleted
    assert [s.value for s in both.siblings] == [None, b"b"]
