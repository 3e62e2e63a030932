"""What is known to be readable, though ZeroMQ's descriptors speak of every change but once."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import zmq

from kvctl_node.runtime.readiness import Readiness
from tests.unit.runtime.runtime_fixtures import wait_until


class Pair:
    """A ROUTER that is watched, and a DEALER connected to it."""

    def __init__(self) -> None:
        self.context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.router = self.context.socket(zmq.ROUTER)
        self.dealer = self.context.socket(zmq.DEALER)
        for socket in (self.router, self.dealer):
            socket.linger = 0
        # Within the process a message has arrived when it was sent: nothing comes later.
        self.router.bind("inproc://router")
        self.dealer.connect("inproc://router")
        self.readiness = Readiness()
        self.descriptor = self.readiness.add_socket(self.router)
        self.dealer.send(b"hello")
        wait_until(lambda: self.descriptor in self.readiness.wait(100))
        self.identity, _ = self.router.recv_multipart()
        self.settle()

    def settle(self) -> None:
        """Take in what the socket has been told, until its descriptor is silent."""
        wait_until(lambda: not self.router.get(zmq.EVENTS) & zmq.POLLIN)
        wait_until(lambda: not self.readiness.wait(0), lambda: self.router.get(zmq.EVENTS))

    def send(self, count: int) -> None:
        """So many messages wait at the router, as its descriptor tells."""
        for number in range(count):
            self.dealer.send(b"%d" % number)
        wait_until(lambda: bool(self.readiness.wait(100)))


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.context.destroy(linger=0)


def test_a_message_makes_a_socket_ready_and_taking_all_of_them_ends_it(pair: Pair) -> None:
    pair.send(1)
    assert pair.readiness.wait(1000) == {pair.descriptor}
    assert pair.router.recv_multipart() == [pair.identity, b"0"]
    pair.settle()
    assert pair.readiness.wait(0) == set()


def test_the_descriptor_is_silent_about_messages_that_were_left(pair: Pair) -> None:
    pair.send(3)
    wait_until(lambda: pair.router.get(zmq.EVENTS) & zmq.POLLIN)
    assert pair.router.recv_multipart() == [pair.identity, b"0"]
    pair.router.get(zmq.EVENTS)
    assert pair.readiness.wait(20) == set(), "which is why whoever leaves some has to say so"
    pair.readiness.ask_again(pair.descriptor)
    assert pair.readiness.wait(10_000) == {pair.descriptor}
    assert pair.readiness.wait(20) == set(), "it is asked once, not for ever"


def test_a_socket_that_is_asked_again_in_vain_does_not_keep_from_waiting(pair: Pair) -> None:
    reader, writer = os.pipe()
    pair.readiness.add(reader)
    pair.readiness.ask_again(pair.descriptor)
    assert pair.readiness.wait(0) == set()
    os.write(writer, b"x")
    pair.readiness.ask_again(pair.descriptor)
    assert pair.readiness.wait(10_000) == {reader}
    os.close(reader)
    os.close(writer)


def test_messages_from_before_a_socket_was_added_are_found(pair: Pair) -> None:
    pair.send(1)
    wait_until(lambda: pair.router.get(zmq.EVENTS) & zmq.POLLIN)
    later = Readiness()
    descriptor = later.add_socket(pair.router)
    assert later.wait(10_000) == {descriptor}


def test_what_was_removed_is_not_spoken_of(pair: Pair) -> None:
    pair.readiness.ask_again(pair.descriptor)
    pair.readiness.remove(pair.descriptor)
    pair.dealer.send(b"x")
    wait_until(lambda: pair.router.get(zmq.EVENTS) & zmq.POLLIN)
    pair.readiness.ask_again(pair.descriptor)
    assert pair.readiness.wait(20) == set()
