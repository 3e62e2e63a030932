"""The loop on real sockets, and what real signals do to it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvctl_node.errors import StorageError
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import ClientDescribe
from kvctl_node.runtime.event_loop import EventLoop
from kvctl_node.runtime.stop_signal import StopSignal
from kvctl_node.runtime.system_clock import SystemClock
from tests.unit.runtime.runtime_fixtures import (
    EchoNode,
    FakeStorage,
    Journal,
    client_of,
    make_config,
    make_keys,
    open_transport,
    wait_until,
)


@pytest.fixture
def trace() -> Iterator[list[str]]:
    yield []


def test_a_client_hears_nothing_of_a_turn_whose_commit_failed(
    tmp_path: Path, trace: list[str]
) -> None:
    config, keys = make_config(("n1",)), make_keys(tmp_path, ("n1",))
    transport = open_transport(config, keys, "n1")
    storage, node = FakeStorage(trace), EchoNode()
    loop = EventLoop(
        node,
        storage,  # type: ignore[arg-type]
        transport,
        Journal(trace),
        SystemClock(),
    )
    client = client_of(config, keys, "n1")
    answers: list[object] = []
    client.send([ClientDescribe(1)])
    wait_until(
        lambda: bool(answers),
        lambda: loop.turn(5),
        lambda: answers.extend(client.replies() or []),
    )
    storage.fail = True
    client.send([ClientDescribe(2)])
    with pytest.raises(StorageError):
        # The request may take a few turns to arrive; these have nothing to commit but fail too.
        loop.turn(5000)
    transport.close()
    assert transport.client_traffic.messages_out == 1
    assert client.replies() is None
    client.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_the_loop_at_once_and_cleanly(
    tmp_path: Path, trace: list[str], number: signal.Signals
) -> None:
    config, keys = make_config(("n1",)), make_keys(tmp_path, ("n1",))
    transport = open_transport(config, keys, "n1")
    storage, node = FakeStorage(trace), EchoNode()
    node.wakeup_s = 60.0
    before = signal.getsignal(number)

    class SignalledNode(EchoNode):
        def start(self, now: Instant) -> None:
            os.kill(os.getpid(), number)

    node = SignalledNode()
    node.wakeup_s = 60.0
    loop = EventLoop(
        node,
        storage,  # type: ignore[arg-type]
        transport,
        Journal(trace),
        SystemClock(),
    )
    with StopSignal() as stop:
        loop.run(stop)
        assert stop.requested
    transport.close()
    assert storage.meta == {"clean_stop": b"1"}
    assert loop.turns <= 2
    assert signal.getsignal(number) is before


def test_a_signal_makes_a_waiting_poll_return(tmp_path: Path) -> None:
    config, keys = make_config(("n1",)), make_keys(tmp_path, ("n1",))
    transport = open_transport(config, keys, "n1")
    with StopSignal() as stop:
        transport.watch(stop.descriptor)
        assert not transport.poll(0)
        os.kill(os.getpid(), signal.SIGTERM)
        assert transport.poll(10_000)
        assert stop.requested
    transport.close()
