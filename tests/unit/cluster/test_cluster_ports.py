"""Ports are free when chosen, distinct, kept, and checked with a message that helps."""

from __future__ import annotations

import os
import random
import socket
from collections.abc import Iterator

import pytest

from kvctl.cluster import ports
from kvctl.cluster.ports import check_ports, choose_ports, is_free, ports_of
from kvctl.errors import PortTakenError
from kvctl_node.config import NodeSpec

THREE = tuple(NodeSpec(name=name) for name in ("n1", "n2", "n3"))


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken


def test_chosen_ports_are_free_distinct_and_below_the_ephemeral_range() -> None:
    chosen = choose_ports(THREE, reserved=(), rng=random.Random(1))
    assert len(ports_of(chosen)) == 9
    assert all(is_free("127.0.0.1", port) and port < 32_768 for port in ports_of(chosen))


def test_ports_already_chosen_stay_and_are_not_given_twice() -> None:
    chosen = choose_ports(THREE, reserved=(), rng=random.Random(1))
    grown = choose_ports((*chosen, NodeSpec(name="n4")), reserved=(), rng=random.Random(1))
    assert grown[:3] == chosen
    assert len(ports_of(grown)) == 12


def test_ports_of_clusters_that_are_down_are_left_alone() -> None:
    first = choose_ports(THREE, reserved=(), rng=random.Random(7))
    second = choose_ports(THREE, reserved=ports_of(first), rng=random.Random(7))
    assert ports_of(first).isdisjoint(ports_of(second))


def test_a_port_with_a_listener_is_not_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    clash = random.Random(3).randrange(ports._FIRST_PORT, ports._LAST_PORT - 9 + 1)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", clash + 4))
        taken.listen()
        chosen = choose_ports(THREE, reserved=(), rng=random.Random(3))
        assert clash + 4 not in ports_of(chosen)


def test_a_taken_port_is_named_with_its_node_and_its_holder(listener: socket.socket) -> None:
    port = listener.getsockname()[1]
    spec = NodeSpec(name="n2", client_port=1 << 14, peer_port=port, event_port=1 << 14)
    with pytest.raises(PortTakenError) as caught:
        check_ports([spec])
    assert f"port {port}, the peer port of n2, is taken" in caught.value.message
    assert f"process {os.getpid()}" in caught.value.message


def test_no_free_block_is_an_error_that_offers_a_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "is_free", lambda host, port: False)
    with pytest.raises(PortTakenError) as caught:
        choose_ports(THREE, reserved=(), rng=random.Random(1))
    assert "--base-port" in caught.value.hint


def test_ports_a_person_chose_stay_beside_those_that_are_chosen() -> None:
    [spec] = choose_ports(
        (NodeSpec(name="n1", client_port=7000),), reserved=(), rng=random.Random(5)
    )
    assert spec.client_port == 7000
    assert 0 not in (spec.peer_port, spec.event_port)
    assert len({spec.client_port, spec.peer_port, spec.event_port}) == 3
