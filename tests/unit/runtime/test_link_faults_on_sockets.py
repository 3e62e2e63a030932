"""Faults between two real transports: silence without a closed connection, one way at a time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from kvctl_node.outbox import Outbox
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientDescribe,
    QuorumSet,
)
from kvctl_node.protocol.link_fault import parse_fault
from kvctl_node.protocol.messages import (
    Ping,
)
from kvctl_node.runtime import link_delays
from kvctl_node.runtime.event_loop import EventLoop
from kvctl_node.runtime.system_clock import SystemClock
from tests.unit.runtime.runtime_fixtures import (
    EchoNode,
    FakeStorage,
    StandingClock,
    client_of,
    make_config,
    make_keys,
    open_transport,
    wait_until,
)


class Pair:
    """n1 and n2, linked."""

    def __init__(self, directory: Path) -> None:
        self.config = make_config(("n1", "n2"))
        self.keys = make_keys(directory, ("n1", "n2"))
        self.n1 = open_transport(self.config, self.keys, "n1")
        self.n2 = open_transport(self.config, self.keys, "n2")
        self.heard: dict[str, list[int]] = {"n1": [], "n2": []}
        self.links: list[tuple[str, bool]] = []
        wait_until(lambda: len(self.links) == 2, self.turn)

    def turn(self) -> None:
        for transport in (self.n1, self.n2):
            transport.poll(2)
            transport.on_tick(SystemClock().now())
            self.links.extend(transport.receive_link_changes())
            for frame in transport.receive_peer_frames():
                assert frame.messages, "an empty frame would pass for a sign of life"
                for message in frame.messages:
                    assert isinstance(message, Ping)
                    self.heard[transport.name].append(message.sequence)

    def send(self, sender: str, *numbers: int) -> None:
        outbox = Outbox()
        receiver = "n2" if sender == "n1" else "n1"
        for number in numbers:
            outbox.send(receiver, Ping(number, 1, 1, ""))
        (self.n1 if sender == "n1" else self.n2).send(outbox, 1)

    def close(self) -> None:
        self.n1.close()
        self.n2.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    made = Pair(tmp_path)
    yield made
    made.close()


def fault(link: tuple[str, str] = ("n1", "n2"), **options: object) -> dict[str, object]:
    return {"id": "f1", "kind": "link", "links": [link], **options}


def test_a_link_cut_one_way_still_carries_the_other_and_stays_connected(pair: Pair) -> None:
    pair.n1.faults.set(parse_fault(fault(drop=True)))
    pair.send("n1", 1, 2)
    pair.send("n2", 3)
    wait_until(lambda: pair.heard["n1"] == [3], pair.turn)
    pair.n1.faults.lift("f1")
    pair.send("n1", 4)
    wait_until(lambda: bool(pair.heard["n2"]), pair.turn)
    assert pair.heard["n2"] == [4], "what was sent over the cut link is gone, not late"
    assert pair.links.count(("n2", True)) == 1
    assert ("n2", False) not in pair.links
    assert pair.n1.peer_traffic.dropped["link_fault"] == 2


def test_a_cut_that_only_the_receiver_knows_holds_as_well_and_counts_there(pair: Pair) -> None:
    pair.n2.faults.set(parse_fault(fault(drop=True)))
    pair.send("n1", 1, 2)
    wait_until(lambda: pair.n2.faults.reports()[0].hits == 2, pair.turn)
    assert pair.heard["n2"] == []
    pair.send("n2", 3)
    wait_until(lambda: pair.heard["n1"] == [3], pair.turn)


def test_delayed_messages_arrive_in_order_and_not_early(pair: Pair) -> None:
    clock = SystemClock()
    pair.n1.faults.set(parse_fault(fault(delay_ms=80)))
    began_s = clock.now().monotonic_s
    pair.send("n1", 1, 2)
    pair.send("n1", 3)
    wait_s = pair.n1.next_wakeup_s(clock.now())
    assert wait_s is not None
    assert 0 < wait_s <= 0.08
    wait_until(lambda: len(pair.heard["n2"]) == 3, pair.turn)
    assert clock.now().monotonic_s - began_s >= 0.08
    assert pair.heard["n2"] == [1, 2, 3]
    assert pair.n1.next_wakeup_s(clock.now()) is None


def test_a_cut_made_meanwhile_stops_messages_that_are_under_way(pair: Pair) -> None:
    pair.n1.faults.set(parse_fault(fault(delay_ms=20)))
    pair.send("n1", 1)
    pair.n1.faults.set(parse_fault({**fault(drop=True), "id": "f2"}))
    wait_until(lambda: pair.n1.next_wakeup_s(SystemClock().now()) is None, pair.turn)
    assert [(one.id, one.hits) for one in pair.n1.faults.reports()] == [("f1", 1), ("f2", 1)]
    pair.n1.faults.lift("f1")
    pair.n1.faults.lift("f2")
    pair.send("n1", 2)
    wait_until(lambda: bool(pair.heard["n2"]), pair.turn)
    assert pair.heard["n2"] == [2]


def test_doubled_messages_arrive_twice(pair: Pair) -> None:
    pair.n1.faults.set(parse_fault(fault(duplicate=1.0)))
    pair.send("n1", 1, 2)
    wait_until(lambda: len(pair.heard["n2"]) == 4, pair.turn)
    assert pair.heard["n2"] == [1, 1, 2, 2]


def test_delayed_messages_beyond_the_bound_are_dropped_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(link_delays.LinkDelays.__init__, "__defaults__", (400,))
    pair = Pair(tmp_path)
    pair.n1.faults.set(parse_fault(fault(delay_ms=1)))
    pair.send("n1", 1)
    pair.send("n1", 2)
    assert pair.n1.peer_traffic.dropped["delay_queue_full"] == 1
    wait_until(lambda: pair.heard["n2"] == [1], pair.turn)
    pair.close()


def test_clients_are_served_whatever_the_faults(pair: Pair) -> None:
    for link in (("n1", "n2"), ("n2", "n1")):
        pair.n1.faults.set(parse_fault({**fault(link, drop=True), "id": f"{link}"}))
    client = client_of(pair.config, pair.keys, "n1")
    client.send([ClientDescribe(5)])
    answers: list[object] = []

    def turn() -> None:
        pair.n1.poll(2)
        outbox = Outbox()
        for identity, requests in pair.n1.receive_client_requests():
            for request in requests:
                outbox.reply(identity, QuorumSet(request.id))
        pair.n1.send(outbox, 1)
        answers.extend(client.replies() or [])

    wait_until(lambda: bool(answers), turn)
    assert answers == [QuorumSet(5)]
    client.close()


# ------------------------------------------------------------------ the loop's part


class TimedPart:
    """Due at a time of its own."""

    def __init__(self, wait_s: float | None) -> None:
        self.wait_s = wait_s
        self.ticks = 0

    def on_tick(self, now: Instant) -> None:
        self.ticks += 1

    def next_wakeup_s(self, now: Instant) -> float | None:
        return self.wait_s


class NoJournal:
    def write(self, events: list[object], now: Instant) -> None:
        """Nobody looks."""


@pytest.mark.parametrize(("wait_s", "expected_ms"), [(None, 1000), (0.25, 250), (-1.0, 0)])
def test_the_loop_wakes_up_for_the_earliest_part_and_then_lets_all_have_their_turn(
    pair: Pair, wait_s: float | None, expected_ms: int
) -> None:
    parts = (TimedPart(wait_s), TimedPart(None))
    loop = EventLoop(EchoNode(), FakeStorage([]), pair.n1, NoJournal(), StandingClock(), parts)  # type: ignore[arg-type]
    loop.turn(0)
    assert [part.ticks for part in parts] == [1, 1], "nobody has said yet when they are due"
    assert loop.wait_ms() == expected_ms
    loop.turn(0)
    due = 1 if expected_ms == 0 else 0
    assert [part.ticks for part in parts] == [1 + due, 1 + due]
