"""Where far more waits than at another owner, it is the other that is asked."""

from __future__ import annotations

import pytest

from kvctl.client.connection import Connection
from kvctl.client.request import Pending
from kvctl.client.routing import CROWDED_FACTOR, CROWDED_FROM
from tests.unit.client.busy_node import Busy


@pytest.fixture
def others(busy: Busy) -> list[Connection]:
    """The nodes that are not busy."""
    return [one for name, one in busy.loop.router.connections.items() if name != "n1"]


def _spread(busy: Busy, others: list[Connection], at_n1: int, at_n2: int, at_n3: int) -> None:
    """Let so much be outstanding at each node, as far as the router knows."""
    for connection, count in zip((busy.connection, *others), (at_n1, at_n2, at_n3), strict=True):
        connection.under_way = count
    busy.loop.router.note_crowds()


def test_a_blind_put_goes_where_least_is_outstanding(busy: Busy, others: list[Connection]) -> None:
    _spread(busy, others, CROWDED_FACTOR * 40, 50, 40)
    assert busy.loop.router.quick(busy.next_put(blind=True), 0) is others[1]
    _spread(busy, others, CROWDED_FACTOR * 40, 40, 50)
    assert busy.loop.router.quick(busy.next_put(blind=True), 0) is others[0]


def test_it_stays_where_not_much_more_is_outstanding_than_elsewhere(
    busy: Busy, others: list[Connection]
) -> None:
    _spread(busy, others, CROWDED_FACTOR * 40 - 1, 40, 40)
    assert busy.loop.router.quick(busy.next_put(blind=True), 0) is busy.connection


def test_few_requests_are_no_crowd(busy: Busy, others: list[Connection]) -> None:
    _spread(busy, others, CROWDED_FROM - 1, 0, 0)
    assert busy.loop.router.quick(busy.next_put(blind=True), 0) is busy.connection
    _spread(busy, others, CROWDED_FROM, 0, 0)
    assert busy.loop.router.quick(busy.next_put(blind=True), 0) in others


def test_what_is_not_sent_yet_counts_as_well(busy: Busy, others: list[Connection]) -> None:
    _spread(busy, others, CROWDED_FROM - 1, 0, 0)
    busy.connection.unsent.append(busy.next_put())
    busy.loop.router.note_crowds()
    assert busy.loop.router.quick(busy.next_put(blind=True), 0) in others
    busy.connection.unsent.clear()


def test_a_crowd_that_is_gone_is_forgotten(busy: Busy, others: list[Connection]) -> None:
    _spread(busy, others, CROWDED_FROM, 0, 0)
    assert busy.loop.router.quick(busy.next_put(blind=True), 0) in others
    _spread(busy, others, 1, 0, 0)
    assert busy.loop.router.quick(busy.next_put(blind=True), 0) is busy.connection


def test_late_answers_do_not_make_a_node_seem_idler_than_idle(busy: Busy) -> None:
    busy.submit(5)
    busy.connection.under_way = 0  # as after a sweep, had all five been given up
    busy.finish()
    assert busy.connection.under_way == 0


def test_a_node_that_answers_nobody_is_no_example(busy: Busy, others: list[Connection]) -> None:
    others[1].silent = True
    busy.loop.router.forget_health()
    _spread(busy, others, CROWDED_FROM + 1, CROWDED_FROM, 0)
    assert busy.loop.router.quick(busy.next_put(blind=True), 0) is busy.connection


def test_an_overwrite_stays(busy: Busy, others: list[Connection]) -> None:
    _spread(busy, others, 10 * CROWDED_FROM, 0, 0)
    assert busy.loop.router.quick(busy.next_put(), 0) is busy.connection


def test_gets_go_by_a_crowd_whosever_turn_it_is(busy: Busy, others: list[Connection]) -> None:
    _spread(busy, others, 10 * CROWDED_FROM, 5, 6)
    chosen = {busy.loop.router.quick(busy.next_get(), rotation) for rotation in range(9)}
    assert chosen == set(others)


def test_a_node_that_answers_nothing_does_not_hold_up_the_rest(busy: Busy) -> None:
    done: list[Pending] = []

    def on_done(pending: Pending) -> None:
        done.append(pending)
        if len(done) == 2000:
            busy.free()

    with busy.client.batch(256, on_done=on_done) as batch:
        batch.put_all(((f"k{number}", b"v") for number in range(3000)), blind=True)
    assert len(done) == 3000
    assert not any(pending.uncertain for pending in done), "somebody had to wait for n1"
