"""What was recorded is seen again, at any moment of it."""

from __future__ import annotations

import asyncio
import os
import stat
from pathlib import Path

import pytest

from kvctl.errors import NewerFormatError
from kvctl.view.feed import FeedError, FeedKind
from kvctl.view.observation import EventsMissed, Observation
from kvctl.view.recorder import EVENTS_PER_S_MAX, Recorder
from kvctl.view.recording import CHECKPOINT_EVERY, Recording, ReplayFeed, read_recording
from kvctl.view.reduce import reduce
from kvctl.view.scripted_feed import ScriptedFeed
from kvctl.view.state import ClusterView
from tests.unit.view.cluster_story import (
    BEGAN_MS,
    NAMES,
    all_up,
    answered,
    event,
    put_seen,
    silent,
    view_after,
)


class Watcher:
    """A sink that reduces."""

    def __init__(self) -> None:
        self.view = ClusterView()
        self.observed: list[Observation] = []
        self.jumps = 0

    def observe(self, observation: Observation) -> None:
        self.observed.append(observation)
        self.view = reduce(self.view, observation)

    def replace(self, view: ClusterView) -> None:
        self.jumps += 1
        self.view = view


def story() -> list[Observation]:
    told = all_up()
    for second in range(2, 200):
        at_ms = BEGAN_MS + second * 1000
        told += [answered(name, at_ms, keys=second) for name in NAMES[1:]]
        told.append(silent("n1", at_ms))
        told.append(event("n2", second, "hint_stored", at_ms=at_ms, target="n1", queued=second))
    return [*told, put_seen("k", BEGAN_MS + 200_000, n4="n1")]


def recorded(path: Path, observations: list[Observation]) -> Recording:
    with Recorder(path, cluster="demo", began_ms=BEGAN_MS) as recorder:
        for observation in observations:
            recorder.record(observation)
    return read_recording(path)


def test_a_recording_holds_every_observation_as_it_was(tmp_path: Path) -> None:
    told = story()
    recording = recorded(tmp_path / "r", told)
    assert recording.between(0, recording.ended_ms) == told
    assert recording.cluster == "demo"
    assert stat.S_IMODE((tmp_path / "r").stat().st_mode) == 0o600


def test_any_moment_of_a_recording_is_the_view_of_that_moment(tmp_path: Path) -> None:
    told = story()
    recording = recorded(tmp_path / "r", told)
    assert len(told) > 3 * CHECKPOINT_EVERY, "or checkpoints would not be used"
    for second in (0, 1, 5, 64, 128, 150, 199, 300):
        moment_ms = BEGAN_MS + second * 1000
        expected = view_after(*(one for one in told if one.at_ms <= moment_ms))
        assert recording.view_at(moment_ms) == expected


def test_the_rate_of_events_is_bounded_and_what_is_left_out_is_counted(tmp_path: Path) -> None:
    burst = [event("n1", seq, "x") for seq in range(1, EVENTS_PER_S_MAX + 31)]
    recording = recorded(tmp_path / "r", [*all_up(), *burst, answered("n1", BEGAN_MS + 5000)])
    told = recording.between(0, recording.ended_ms)
    assert EventsMissed(BEGAN_MS + 5000, 30) in told
    assert recording.view_at(recording.ended_ms).events_missed == 30
    assert len(recording.view_at(recording.ended_ms).events) == EVENTS_PER_S_MAX


def test_a_recording_that_was_cut_off_ends_at_its_last_whole_line(tmp_path: Path) -> None:
    told = all_up()
    recorded(tmp_path / "r", told)
    content = (tmp_path / "r").read_bytes()
    (tmp_path / "r").write_bytes(content[:-20])
    cut_off = read_recording(tmp_path / "r")
    assert cut_off.between(0, cut_off.ended_ms) == told[:-1]


def test_a_damaged_line_is_named(tmp_path: Path) -> None:
    recorded(tmp_path / "r", all_up())
    lines = (tmp_path / "r").read_bytes().splitlines(keepends=True)
    lines[2] = b'{"type": "answer"}\n'
    (tmp_path / "r").write_bytes(b"".join(lines))
    with pytest.raises(FeedError, match="line 3 of"):
        read_recording(tmp_path / "r")


@pytest.mark.parametrize("content", [b"", b"hello\n", b'{"format":"x","version":1}\n', b"\xff\n"])
def test_a_file_that_is_no_recording_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "r").write_bytes(content)
    with pytest.raises(FeedError):
        read_recording(tmp_path / "r")


def test_a_recording_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(
        b'{"format":"kvctl-recording","version":2,"cluster":"demo","began_ms":1}\n'
    )
    with pytest.raises(NewerFormatError, match="version 2"):
        read_recording(tmp_path / "r")


def test_an_existing_file_is_never_recorded_over(tmp_path: Path) -> None:
    (tmp_path / "r").write_bytes(b"mine")
    with pytest.raises(FeedError, match="cannot record"):
        Recorder(tmp_path / "r", cluster="demo", began_ms=BEGAN_MS)
    assert (tmp_path / "r").read_bytes() == b"mine"


def test_a_full_disk_ends_the_recording_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int, data: bytes) -> int:
        raise OSError(28, "No space left on device")

    with Recorder(tmp_path / "r", cluster="demo", began_ms=BEGAN_MS) as recorder:
        monkeypatch.setattr(os, "write", full)
        recorder.record(answered("n1", BEGAN_MS))
        recorder.record(answered("n2", BEGAN_MS))
    assert recorder.problem == "the recording stopped: No space left on device"


# ------------------------------------------------------------------ feeds


def playing(recording: Recording) -> tuple[ReplayFeed, Watcher]:
    """A feed that was started and stands at the beginning."""
    feed, watcher = ReplayFeed(recording, clock=lambda: 0), Watcher()

    async def start() -> None:
        task = asyncio.create_task(feed.run(watcher))
        await asyncio.sleep(0)
        feed.advance(3000)
        feed.seek(BEGAN_MS + 100_000)
        feed.advance(1000)
        task.cancel()

    asyncio.run(start())
    return feed, watcher


def test_a_replay_runs_and_jumps(tmp_path: Path) -> None:
    recording = recorded(tmp_path / "r", story())
    feed, watcher = playing(recording)
    assert feed.kind is FeedKind.REPLAY
    assert feed.position_ms == BEGAN_MS + 101_000
    assert watcher.jumps == 2, "to the beginning, and where it was sent"
    assert watcher.view == recording.view_at(BEGAN_MS + 101_000)


def test_a_replay_stays_within_the_recording(tmp_path: Path) -> None:
    feed = ReplayFeed(recorded(tmp_path / "r", all_up()), clock=lambda: 0)
    feed.seek(0)
    assert feed.position_ms == BEGAN_MS
    feed.advance(10**9)
    assert feed.ended


def test_a_scripted_feed_tells_what_it_is_told_and_can_fail() -> None:
    feed, watcher = ScriptedFeed(*all_up()), Watcher()

    async def run() -> None:
        task = asyncio.create_task(feed.run(watcher))
        await asyncio.sleep(0)
        feed.tell(silent("n1", BEGAN_MS + 5000))
        feed.fail("the cluster is gone.")
        with pytest.raises(FeedError, match="the cluster is gone"):
            await task

    asyncio.run(run())
    assert len(watcher.observed) == len(all_up()) + 1
