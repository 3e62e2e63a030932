"""First owners are balanced in proportion to what a server owns."""

from __future__ import annotations

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.ring.primaries import balance_primaries
from tests.unit.ring.ring_strategies import LAWS


@st.composite
def owner_tables(draw: st.DrawFn) -> list[list[int]]:
    """Any owners at all, however lopsided: rows of N distinct of six servers."""
    n = draw(st.integers(1, 4))
    row = st.permutations(range(6)).map(lambda order: list(order[:n]))
    return draw(st.lists(row, min_size=1, max_size=40))


@LAWS
@given(owner_tables(), st.booleans())
def test_primaries_are_a_nth_of_the_replicas_rounded_down_or_up(
    rows: list[list[int]], keep: bool
) -> None:
    n = len(rows[0])
    balanced = [list(row) for row in rows]
    balance_primaries(balanced, 6, n=n, keep=keep)
    replicas = Counter(server for row in rows for server in row)
    primaries = Counter(row[0] for row in balanced)
    for server in range(6):
        assert replicas[server] // n <= primaries[server] <= -(-replicas[server] // n)
    for before, after in zip(rows, balanced, strict=True):
        assert sorted(before) == sorted(after)
        assert after[1:] == [server for server in before if server != after[0]]


def test_a_chain_of_promotions_helps_where_no_single_one_does() -> None:
    # 0 leads too much and shares partitions only with 1, which passes leadership on to 2.
    rows = [[0, 1], [0, 1], [1, 2], [1, 2]]
    balance_primaries(rows, 3, n=2, keep=True)
    assert Counter(row[0] for row in rows) == {0: 1, 1: 2, 2: 1}


def test_balanced_primaries_are_kept() -> None:
    rows = [[0, 1, 2], [1, 2, 0], [2, 0, 1]]
    balance_primaries(rows, 3, n=3, keep=True)
    assert rows == [[0, 1, 2], [1, 2, 0], [2, 0, 1]]


def test_a_server_below_its_lower_bound_draws_a_primary_from_afar() -> None:
    # Nobody is above the upper bound: 0 leads two of four (floor 1, ceiling 2), 3 leads none.
    rows = [[0, 1], [0, 1], [0, 1], [1, 2], [2, 3], [2, 3]]
    balance_primaries(rows, 4, n=2, keep=True)
    led = Counter(row[0] for row in rows)
    assert led[3] == 1
    assert 1 <= led[0] <= 2 and led[1] == 2 and 1 <= led[2] <= 2
