"""A causal context is a set of dots; everything else about it is representation."""

from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.causality.causal_context import EMPTY_CONTEXT, CausalContext, Ordering

ACTORS = ("n1#1", "n2#1", "n3#2")
dots = st.tuples(st.sampled_from(ACTORS), st.integers(1, 6))
dot_sets = st.frozensets(dots, max_size=12)


def stamp_of(dot: tuple[str, int]) -> int:
    """The stamp is a function of the dot, as it is where dots are minted."""
    return 1000 * ACTORS.index(dot[0]) + dot[1]


def context_of(members: frozenset[tuple[str, int]]) -> CausalContext:
    context = EMPTY_CONTEXT
    for actor, counter in sorted(members, key=lambda dot: hash(dot) % 7):
        context = context.with_dot(actor, counter, stamp_of((actor, counter)))
    return context


def dots_in(context: CausalContext) -> frozenset[tuple[str, int]]:
    return frozenset(
        (actor, counter)
        for actor in ACTORS
        for counter in range(1, 14)
        if context.covers(actor, counter)
    )


@given(dot_sets)
def test_a_context_covers_exactly_the_dots_put_into_it(members):
    context = context_of(members)
    context.check_invariants()
    assert dots_in(context) == members


@given(dot_sets, dot_sets)
def test_union_is_the_union_of_the_sets(left, right):
    union = context_of(left).union(context_of(right))
    union.check_invariants()
    assert dots_in(union) == left | right


@given(dot_sets, dot_sets)
def test_union_is_commutative_and_idempotent(left, right):
    a, b = context_of(left), context_of(right)
    assert a.union(b) == b.union(a)
    assert a.union(a) == a
    assert a.union(b).union(b) == a.union(b)


@given(dot_sets, dot_sets, dot_sets)
def test_union_is_associative(one, two, three):
    a, b, c = context_of(one), context_of(two), context_of(three)
    assert a.union(b).union(c) == a.union(b.union(c))


@given(dot_sets)
def test_the_same_set_has_one_representation_whatever_the_order(members):
    forwards, backwards = EMPTY_CONTEXT, EMPTY_CONTEXT
    for dot in sorted(members):
        forwards = forwards.with_dot(*dot, stamp_of(dot))
    for dot in sorted(members, reverse=True):
        backwards = backwards.with_dot(*dot, stamp_of(dot))
    assert forwards == backwards


@given(dot_sets, dot_sets)
def test_comparison_is_that_of_the_sets(left, right):
    expected = {
        (True, True): Ordering.EQUAL,
        (True, False): Ordering.SUCCEEDS,
        (False, True): Ordering.PRECEDES,
        (False, False): Ordering.CONFLICTS,
    }[left >= right, right >= left]
    assert context_of(left).compare(context_of(right)) is expected


@given(dot_sets, st.sampled_from(ACTORS))
def test_the_highest_counter_counts_detached_dots_too(members, actor):
    expected = max((counter for name, counter in members if name == actor), default=0)
    assert context_of(members).highest_counter(actor) == expected


def test_a_context_can_say_two_but_not_one():
    context = EMPTY_CONTEXT.with_dot("n1#1", 2, 0)
    assert context.covers("n1#1", 2)
    assert not context.covers("n1#1", 1)
