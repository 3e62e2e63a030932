"""The turn: persist before send, end without a word when that fails, wait no longer than needed."""

from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator

import pytest

from kvctl_node.errors import CorruptRecordError, StorageError
from kvctl_node.outbox import Outbox
from kvctl_node.ports import Clock, Instant
from kvctl_node.protocol.client_messages import (
    ClientDescribe,
    ClientRequest,
    QuorumSet,
)
from kvctl_node.protocol.messages import PeerFrame, ReplicaPutAck
from kvctl_node.runtime import event_loop
from kvctl_node.runtime.event_loop import WAIT_MAX_S, EventLoop
from kvctl_node.runtime.stop_signal import StopSignal
from kvctl_node.runtime.system_clock import SystemClock
from tests.unit.runtime.runtime_fixtures import (
    EchoNode,
    FakeStorage,
    Journal,
    StandingClock,
)

FRAME = PeerFrame("n2", 1, [])


class FakeTransport:
    """Hands out what the test put in; records what is sent."""

    def __init__(self, trace: list[str]) -> None:
        self.trace = trace
        self.links: list[tuple[str, bool]] = []
        self.frames: list[PeerFrame] = []
        self.requests: list[tuple[bytes, list[ClientRequest]]] = []
        self.sent: list[tuple[dict[bytes, list[object]], int]] = []
        self.sent_to_peers: list[list[str]] = []
        self.timeouts_ms: list[int] = []

    def watch(self, descriptor: int) -> None:
        self.trace.append("watch")

    def unwatch(self, descriptor: int) -> None:
        self.trace.append("unwatch")

    def stop_accepting(self) -> None:
        self.trace.append("stop accepting")

    def poll(self, timeout_ms: int) -> bool:
        self.trace.append("poll")
        self.timeouts_ms.append(timeout_ms)
        return bool(self.links or self.frames or self.requests)

    def receive_link_changes(self) -> list[tuple[str, bool]]:
        taken, self.links = self.links, []
        return taken

    def receive_peer_frames(self) -> list[PeerFrame]:
        taken, self.frames = self.frames, []
        return taken

    def receive_client_requests(self) -> list[tuple[bytes, list[ClientRequest]]]:
        taken, self.requests = self.requests, []
        return taken

    def send(self, outbox: Outbox, ring_epoch: int) -> None:
        self.trace.append("send")
        self.sent.append((dict(outbox.to_clients), ring_epoch))
        self.sent_to_peers.append(list(outbox.to_peers))

    def snapshot(self) -> dict[str, object]:
        return {}


class TracingNode(EchoNode):
    def __init__(self, trace: list[str]) -> None:
        super().__init__()
        self.trace = trace

    def on_link(self, peer: str, connected: bool, now: Instant) -> None:
        self.trace.append("link")

    def on_peer_frame(self, frame: PeerFrame, now: Instant) -> None:
        self.trace.append("peer frame")

    def on_client_requests(
        self, client: bytes, requests: list[ClientRequest], now: Instant
    ) -> None:
        self.trace.append("requests")
        super().on_client_requests(client, requests, now)

    def tick(self, now: Instant) -> None:
        self.trace.append("tick")


class SteppingClock:
    def __init__(self, seconds: Iterator[float]) -> None:
        self.seconds = seconds

    def now(self) -> Instant:
        return Instant(next(self.seconds), 0)


class Rig:
    """A loop with every part faked but the loop itself."""

    def __init__(self, clock: Clock | None = None) -> None:
        self.trace: list[str] = []
        self.node = TracingNode(self.trace)
        self.storage = FakeStorage(self.trace)
        self.transport = FakeTransport(self.trace)
        self.journal = Journal(self.trace)
        self.loop = EventLoop(
            self.node,
            self.storage,  # type: ignore[arg-type]
            self.transport,
            self.journal,
            clock or SystemClock(),
        )


@pytest.fixture
def rig() -> Rig:
    return Rig()


def test_a_turn_handles_everything_commits_once_tells_and_then_sends(rig: Rig) -> None:
    rig.transport.links = [("n2", True)]
    rig.transport.frames = [FRAME, FRAME]
    rig.transport.requests = [(b"c", [ClientDescribe(1), ClientDescribe(2)])]
    rig.node.outbox.record("something")
    assert rig.loop.turn(0)
    assert rig.trace == [
        *("poll", "link", "peer frame", "peer frame", "requests", "tick"),
        *("commit", "events", "send", "maintain"),
    ]
    assert rig.transport.sent == [({b"c": [QuorumSet(1), QuorumSet(2)]}, 7)]
    assert rig.journal.kinds == ["something"]


def test_what_was_sent_is_not_sent_again(rig: Rig) -> None:
    rig.transport.requests = [(b"c", [ClientDescribe(1)])]
    rig.loop.turn(0)
    assert not rig.loop.turn(0)
    assert rig.transport.sent == [({b"c": [QuorumSet(1)]}, 7)]
    rig.transport.requests = [(b"c", [ClientDescribe(2)])]
    rig.loop.turn(0)
    assert rig.transport.sent[1:] == [({b"c": [QuorumSet(2)]}, 7)]


def test_what_goes_to_peers_alone_is_sent_and_where_there_is_nothing_nothing_is(rig: Rig) -> None:
    rig.loop.turn(0)
    assert rig.transport.sent == []
    rig.node.outbox.send("n2", ReplicaPutAck(1))
    rig.loop.turn(0)
    rig.loop.turn(0)
    assert rig.transport.sent_to_peers == [["n2"]]


def test_a_failed_commit_sends_and_tells_nothing(rig: Rig) -> None:
    rig.storage.fail = True
    rig.transport.requests = [(b"c", [ClientDescribe(1)])]
    rig.node.outbox.record("something")
    with pytest.raises(StorageError, match="disk is gone"):
        rig.loop.turn(0)
    assert rig.transport.sent == []
    assert rig.journal.kinds == []
    assert not rig.node.outbox.to_clients
    assert not rig.node.outbox.events


def test_a_storage_error_while_handling_sends_nothing(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(now: Instant) -> None:
        raise CorruptRecordError("the log is damaged.")

    monkeypatch.setattr(rig.node, "tick", fail)
    rig.transport.requests = [(b"c", [ClientDescribe(1)])]
    with pytest.raises(CorruptRecordError):
        rig.loop.turn(0)
    assert rig.transport.sent == []
    assert "commit" not in rig.trace
    assert not rig.node.outbox.to_clients


def test_a_failed_commit_at_the_start_sends_nothing(rig: Rig) -> None:
    rig.storage.fail = True
    with pytest.raises(StorageError):
        rig.loop.start()
    assert rig.transport.sent == []
    assert rig.journal.kinds == []


def test_the_wait_is_rounded_up_to_the_timer_and_never_negative(rig: Rig) -> None:
    for wakeup_s, wait_ms in ((0.0101, 11), (0.0001, 1), (0.0, 0), (-5.0, 0), (1.0, 1000)):
        rig.node.wakeup_s = wakeup_s
        assert rig.loop.wait_ms() == wait_ms
    rig.node.wakeup_s = float("inf")
    assert rig.loop.wait_ms() == WAIT_MAX_S * 1000


class BusyRig(Rig):
    """A loop in which every turn finds a frame."""

    def __init__(self) -> None:
        self.clock = StandingClock()
        super().__init__(self.clock)
        self.loop._timed = (self,)

    def on_tick(self, now: Instant) -> None:
        self.trace.append("timed part")

    def next_wakeup_s(self, now: Instant) -> None:
        return None

    def turn(self, *, at_ms: int, wakeup_s: float) -> int:
        """A turn at this time; how long the next poll may wait then."""
        self.clock.at_s = at_ms / 1000
        self.node.wakeup_s = wakeup_s
        self.transport.frames = [FRAME]
        self.trace.clear()
        assert self.loop.turn(0)
        return self.loop.wait_ms()

    @property
    def looked_after(self) -> bool:
        """Whether the last turn did all that is left out of most turns."""
        kinds = {"timed part", "maintain"}.intersection(self.trace)
        assert len(kinds) in (0, 2), "all of it or nothing"
        assert {"tick", "commit"} <= set(self.trace), "which are never left out"
        return bool(kinds)


def test_turns_in_close_succession_look_after_what_is_due_once_in_a_while() -> None:
    rig = BusyRig()
    assert rig.turn(at_ms=0, wakeup_s=1.0) == 1000
    assert rig.looked_after
    assert rig.turn(at_ms=2, wakeup_s=0.0) == 3, "what is due since is found out at 5 ms"
    assert not rig.looked_after
    assert rig.turn(at_ms=4, wakeup_s=0.0) == 1
    assert not rig.looked_after
    assert rig.turn(at_ms=6, wakeup_s=0.0) == 0
    assert rig.looked_after
    rig.clock.at_s = 0.007
    rig.node.wakeup_s = 1.0
    assert not rig.loop.turn(0)
    assert rig.loop.wait_ms() == 1000, "with nothing else to do it is asked at once"


def test_what_was_known_to_be_due_is_looked_after_in_time() -> None:
    rig = BusyRig()
    assert rig.turn(at_ms=0, wakeup_s=0.003) == 3
    assert rig.turn(at_ms=2, wakeup_s=0.001) == 1
    assert not rig.looked_after
    assert rig.turn(at_ms=3, wakeup_s=1.0) == 1000
    assert rig.looked_after


def test_housekeeping_that_waits_is_done_in_the_next_turn_however_close() -> None:
    rig = BusyRig()
    rig.storage.housekeeping_waits = True
    assert rig.turn(at_ms=0, wakeup_s=1.0) == 0
    rig.storage.housekeeping_waits = False
    assert rig.turn(at_ms=0, wakeup_s=1.0) == 1000
    assert rig.looked_after
    assert rig.turn(at_ms=1, wakeup_s=1.0) == 4
    assert not rig.looked_after


def test_waiting_housekeeping_makes_the_next_poll_return_at_once(rig: Rig) -> None:
    rig.storage.housekeeping_waits = True
    rig.loop.turn(0)
    assert rig.loop.wait_ms() == 0
    rig.storage.housekeeping_waits = False
    rig.loop.turn(0)
    assert rig.loop.wait_ms() == 1000


def test_the_last_commit_marks_the_clean_stop_and_nothing_follows_it(rig: Rig) -> None:
    rig.loop.finish()
    assert rig.trace[0] == "stop accepting"
    assert rig.trace[-2:] == ["set clean_stop", "commit"]
    assert rig.storage.meta == {"clean_stop": b"1"}


def test_a_stopping_node_goes_on_until_its_peers_fall_silent(rig: Rig) -> None:
    answers = [[FRAME], [FRAME], [FRAME], []]
    receive = rig.transport.poll

    def poll(timeout_ms: int) -> bool:
        rig.transport.frames = answers.pop(0)
        return receive(timeout_ms)

    rig.transport.poll = poll  # type: ignore[method-assign]
    rig.loop.finish()
    assert rig.trace.count("peer frame") == 3
    assert answers == []


def test_a_stopping_node_does_not_wait_for_ever_for_silence(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = itertools.count(0.0, event_loop.DRAIN_MAX_S / 10)
    monkeypatch.setattr(rig.loop, "_clock", SteppingClock(now_s))
    monkeypatch.setattr(rig.transport, "poll", lambda timeout_ms: True)
    rig.loop.finish()
    assert rig.trace.count("tick") < 10
    assert rig.storage.meta == {"clean_stop": b"1"}


def test_the_figures_of_the_process_are_plausible(rig: Rig) -> None:
    rig.loop.turn(0)
    stats = rig.loop.stats()
    assert stats["turns"] == 1
    assert isinstance(stats["rss_bytes"], int)
    assert stats["rss_bytes"] > 1_000_000
    assert isinstance(stats["cpu_s"], float)
    assert stats["cpu_s"] > 0


@pytest.mark.parametrize(("wakeup_s", "looked_after"), [(0.0, 3), (1.0, 0)])
def test_a_running_loop_keeps_the_process_in_order_when_it_looks_after_what_is_due(
    monkeypatch: pytest.MonkeyPatch, wakeup_s: float, looked_after: int
) -> None:
    class Pages:
        bytes = 7

        def after_turn(self) -> None:
            trace.append("pages")

    class Garbage:
        def begin(self) -> None:
            trace.append("begin")

        def after_turn(self, *, idle: bool) -> None:
            assert idle
            trace.append("garbage")

        def end(self) -> None:
            trace.append("end")

    monkeypatch.setattr(event_loop, "HugePages", Pages)
    monkeypatch.setattr(event_loop, "GarbageSchedule", Garbage)
    rig = Rig(StandingClock())
    rig.node.wakeup_s = wakeup_s
    trace = rig.trace
    with StopSignal() as stop:

        def stop_in_the_third(timeout_ms: int) -> bool:
            if next(polls) == 3:
                os.kill(os.getpid(), signal.SIGTERM)
            return False

        polls = itertools.count(1)
        monkeypatch.setattr(rig.transport, "poll", stop_in_the_third)
        rig.loop.run(stop)
    assert trace.count("pages") == trace.count("garbage") == looked_after
    assert (trace.count("begin"), trace.count("end")) == (1, 1)
    assert rig.loop.stats()["huge_page_bytes"] == 7
