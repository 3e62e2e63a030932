"""One request is one write: whoever supersedes it under one dot has superseded it under all."""

from __future__ import annotations

from typing import NamedTuple

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from kvctl_node.causality.causal_context import EMPTY_CONTEXT, CausalContext, Dot
from kvctl_node.causality.one_write import basis_of
from kvctl_node.causality.recent_requests import NO_REQUESTS, Applied, RecentRequests
from kvctl_node.causality.siblings import (
    EMPTY_OBJECT,
    StoredObject,
    encode_object,
    end_with_their_requests,
    has_ended,
    merge_objects,
    put_version,
    replace_version,
)

NODES = ("x#1", "y#1", "z#1")
NO_LIMIT = 10_000


class Copy(NamedTuple):
    """What a replica holds of a key."""

    stored: StoredObject = EMPTY_OBJECT
    recent: RecentRequests = NO_REQUESTS

    def merged(self, other: Copy) -> Copy:
        recent = self.recent.union(other.recent, entries_max=NO_LIMIT)
        return Copy(merge_objects(self.stored, other.stored, recent.applied), recent)

    def remembering(self, stored: StoredObject, applied: Applied) -> Copy:
        recent = self.recent.with_request(applied, entries_max=NO_LIMIT, retry_window_ms=1)
        return Copy(stored, recent)


class Request(NamedTuple):
    sequence: int
    given: CausalContext | None
    """None: an overwrite, which supersedes what its replica holds."""


class Minted(NamedTuple):
    """A dot, and the facts by which one takes another with it."""

    dot: Dot
    request: Request
    attempt: int
    basis: int


def put(
    copy: Copy, node: str, request: Request, attempt: int, stamp_ms: int
) -> tuple[Copy, Minted, CausalContext]:
    """As `Replica.mint` does it; the last is what was superseded."""
    seen = copy.stored.context if request.given is None else request.given
    stored, dot = put_version(
        copy.stored,
        b"%d" % request.sequence,
        actor=node,
        seen=seen,
        stamp_ms=stamp_ms,
        request=(1, request.sequence),
        attempt=attempt,
    )
    stored = end_with_their_requests(stored, copy.recent.applied)
    minted = Minted(dot, request, attempt, basis_of(seen))
    applied = (stamp_ms, 1, request.sequence, *dot, attempt, minted.basis)
    return copy.remembering(stored, applied), minted, seen


class RetryingClients(RuleBasedStateMachine):
    """Three replicas of one key, and clients whose requests reach several of them."""

    def __init__(self) -> None:
        super().__init__()
        self.copies: dict[str, Copy] = dict.fromkeys(NODES, Copy())
        self.contexts: list[CausalContext] = [EMPTY_CONTEXT]
        self.requests: list[Request] = []
        self.attempts: list[int] = []
        self.minted: list[Minted] = []
        self.superseded_by: dict[Dot, set[Dot]] = {}
        """Dot → the dots whose puts had seen it."""
        self.second_names: set[Dot] = set()
        self.now_ms = 0

    def mint(self, node: str, request: Request, attempt: int) -> None:
        self.now_ms += 1
        copy, minted, seen = put(self.copies[node], node, request, attempt, self.now_ms)
        copy.stored.check_invariants()
        self.copies[node] = copy
        for one in self.minted:
            if seen.covers(*one.dot):
                self.superseded_by.setdefault(one.dot, set()).add(minted.dot)
        self.minted.append(minted)
        self.contexts.append(seen.with_dot(*minted.dot, self.now_ms))

    @rule(node=st.sampled_from(NODES), choice=st.integers(-1, 1000))
    def send(self, node: str, choice: int) -> None:
        given = None if choice < 0 else self.contexts[choice % len(self.contexts)]
        request = Request(len(self.requests) + 1, given)
        self.requests.append(request)
        self.attempts.append(0)
        self.mint(node, request, 0)

    @rule(node=st.sampled_from(NODES), choice=st.integers(0, 1000))
    def send_again(self, node: str, choice: int) -> None:
        """To a replica that has not heard of the request."""
        if not self.requests:
            return
        at = choice % len(self.requests)
        request = self.requests[at]
        if self.attempts[at] == 0 and not self.copies[node].recent.find(1, request.sequence):
            self.attempts[at] += 1
            self.mint(node, request, self.attempts[at])

    @rule(node=st.sampled_from(NODES), reporter=st.sampled_from(NODES))
    def replace(self, node: str, reporter: str) -> None:
        """A write learns what another replica holds, and takes that in as well."""
        copy, (known, recent) = self.copies[node], self.copies[reporter]
        overwrites = {one.dot for one in self.minted if one.request.given is None}
        own = [
            one
            for one in copy.stored.siblings
            if one.actor == node and not one.replaces and one.dot in overwrites
        ]
        if not own or has_ended(known, own[-1].dot):
            return
        if recent.find_besides(*own[-1].request, own[-1].dot):
            return  # the coordinator takes such a write back instead
        self.now_ms += 1
        stored, dot = replace_version(copy.stored, own[-1].dot, known, stamp_ms=self.now_ms)
        stored.check_invariants()
        write = next(one for one in stored.siblings if one.dot == dot)
        applied = (self.now_ms, *write.request, *dot, write.attempt, write.basis)
        self.copies[node] = copy.remembering(stored, applied)
        before = next(one for one in self.minted if one.dot == own[-1].dot)
        ended_before = self.superseded_by.get(before.dot, set())
        for one in self.minted:
            if known.context.covers(*one.dot) and one.dot != before.dot:
                self.superseded_by.setdefault(one.dot, set()).add(dot)
        self.superseded_by[dot] = set(ended_before)
        self.superseded_by.setdefault(before.dot, set()).add(dot)
        self.second_names.add(dot)
        self.minted.append(Minted(dot, before.request, write.attempt, write.basis))

    @rule(node=st.sampled_from(NODES))
    def read(self, node: str) -> None:
        self.contexts.append(self.copies[node].stored.context)

    @rule(receiver=st.sampled_from(NODES), sender=st.sampled_from(NODES))
    def replicate(self, receiver: str, sender: str) -> None:
        ours, theirs = self.copies[receiver], self.copies[sender]
        merged = ours.merged(theirs)
        assert encode_object(merged.stored) == encode_object(theirs.merged(ours).stored)
        assert merged.merged(theirs) == merged
        assert merged.merged(ours) == merged
        self.copies[receiver] = merged

    @invariant()
    def merging_is_associative(self) -> None:
        x, y, z = self.copies.values()
        assert x.merged(y).merged(z) == x.merged(y.merged(z))

    @invariant()
    def no_write_is_lost(self) -> None:
        """From every write, who superseded whom leads to one that is alive."""
        x, y, z = self.copies.values()
        alive = {one.dot for one in x.merged(y).merged(z).stored.siblings}
        by_request: dict[int, set[Dot]] = {}
        for one in self.minted:
            by_request.setdefault(one.request.sequence, set()).add(one.dot)
        reached = {one.request.sequence for one in self.minted if one.dot in alive}
        above = {
            one.dot: {
                other.request.sequence
                for other in self.minted
                if other.dot in self.superseded_by.get(one.dot, ())
            }
            for one in self.minted
        }
        for _ in self.requests:
            for sequence, dots in by_request.items():
                if any(above[dot] & reached for dot in dots):
                    reached.add(sequence)
        assert reached == set(by_request)

    @invariant()
    def a_request_ends_as_one(self) -> None:
        x, y, z = self.copies.values()
        everything = x.merged(y).merged(z).stored
        alive = {one.dot for one in everything.siblings}
        ended = [one for one in self.minted if has_ended(everything, one.dot)]
        replaced = {Dot(one.actor, one.replaces) for one in everything.siblings}
        for one in self.minted:
            for other in ended:
                is_one_write = one.request is other.request and other.dot not in replaced
                if is_one_write and one.dot in alive - self.second_names:
                    assert one.attempt >= other.attempt
                    assert one.basis not in (0, other.basis)


RetryingClients.TestCase.settings = settings(
    max_examples=150, stateful_step_count=25, deadline=None
)
test_one_request_is_one_write = RetryingClients.TestCase


@pytest.mark.parametrize("existed", [False, True])
@pytest.mark.parametrize("ended", [0, 1])
def test_a_retried_write_that_was_superseded_does_not_come_back(existed: bool, ended: int) -> None:
    """The first attempt reached x alone, the second y; one of the two was deleted."""
    shared = Copy()
    if existed:
        shared, _, _ = put(shared, "z#1", Request(1, None), 0, 1)
    old = Request(2, None)
    copies = [put(shared, node, old, at, 2)[0] for at, node in enumerate(("x#1", "y#1"))]
    delete = Request(3, None)
    copies[ended], _, _ = put(copies[ended], "z#1", delete, 0, 3)
    both = copies[0].merged(copies[1]).stored
    assert [one.sequence for one in both.siblings] == [3]


def test_two_requests_that_supersede_each_other_do_not_both_vanish() -> None:
    first, second, blind = Request(1, None), Request(2, None), Request(3, EMPTY_CONTEXT)
    x, _, _ = put(Copy(), "x#1", first, 0, 1)
    x, _, _ = put(x, "x#1", second, 0, 2)
    y, _, _ = put(Copy(), "y#1", second, 1, 3)
    y, _, _ = put(y, "y#1", first, 1, 4)
    z, _, _ = put(Copy(), "z#1", blind, 0, 5)
    left = x.merged(y).merged(z).stored
    assert [one.sequence for one in left.siblings] in ([1, 3], [2, 3])


def test_what_a_put_has_seen_of_a_request_ends_its_other_dot_at_once() -> None:
    old = Request(1, EMPTY_CONTEXT)
    x, one, _ = put(Copy(), "x#1", old, 0, 1)
    y, _, _ = put(Copy(), "y#1", old, 1, 1)
    both = x.merged(y)
    assert len(both.stored.siblings) == 2
    seen = EMPTY_CONTEXT.with_dot(*one.dot, 1)
    after, _, _ = put(both, "x#1", Request(2, seen), 0, 2)
    assert [one.sequence for one in after.stored.siblings] == [2]
