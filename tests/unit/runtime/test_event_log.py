"""Events: one JSON line each, numbered, in a file and on a socket; they never hurt the store."""

from __future__ import annotations

import errno
import json
from pathlib import Path

import pytest

from kvctl_node.outbox import Event
from kvctl_node.ports import Instant
from kvctl_node.runtime.event_log import EVENT_FILE_NAME, EventLog
from kvctl_node.runtime.rotating_file import RotatingFile

NOW = Instant(1.0, 1_700_000_000_123)


class Subscriber:
    def __init__(self) -> None:
        self.heard: list[tuple[bytes, bytes]] = []

    def __call__(self, topic: bytes, line: bytes) -> None:
        self.heard.append((topic, line))


def open_log(directory: Path, subscriber: Subscriber, **options: int) -> EventLog:
    return EventLog(directory, node="n1", generation=4, publish=subscriber, **options)


def lines_of(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_event_is_one_line_with_time_node_generation_number_and_clock(tmp_path: Path) -> None:
    log = open_log(tmp_path, Subscriber())
    log.write([Event("hint_stored", {"key": "k", "target": "n2"}, {"n1": 1, "n2": 9})], NOW)
    log.write([Event("idle", {})], NOW)
    log.write([Event("idle", {})], Instant(2.0, NOW.wall_ms + 5))
    log.close()
    head = {"node": "n1", "generation": 4}
    assert lines_of(tmp_path / EVENT_FILE_NAME) == [
        {
            **head,
            "at": NOW.wall_ms,
            "seq": 1,
            "kind": "hint_stored",
            "clock": {"n1": 1, "n2": 9},
            "key": "k",
            "target": "n2",
        },
        {**head, "at": NOW.wall_ms, "seq": 2, "kind": "idle", "clock": {}},
        {**head, "at": NOW.wall_ms + 5, "seq": 3, "kind": "idle", "clock": {}},
    ]


def test_events_are_published_under_their_kind_as_they_are_written(tmp_path: Path) -> None:
    subscriber = Subscriber()
    log = open_log(tmp_path, subscriber)
    log.write([Event("a", {"x": 1}), Event("b", {})], NOW)
    log.close()
    assert [topic for topic, _ in subscriber.heard] == [b"a", b"b"]
    written = (tmp_path / EVENT_FILE_NAME).read_bytes().splitlines()
    assert [line for _, line in subscriber.heard] == written


def test_a_field_cannot_pose_as_the_envelope(tmp_path: Path) -> None:
    log = open_log(tmp_path, Subscriber())
    log.write([Event("real", {"node": "n9", "seq": 99, "kind": "forged"})], NOW)
    log.close()
    (line,) = lines_of(tmp_path / EVENT_FILE_NAME)
    assert (line["node"], line["seq"], line["kind"]) == ("n1", 1, "real")


def test_the_event_file_is_rotated_without_losing_a_line(tmp_path: Path) -> None:
    log = open_log(tmp_path, Subscriber(), bytes_max=400, files_kept=9)
    for _ in range(20):
        log.write([Event("tick", {})], NOW)
    log.close()
    files = sorted(tmp_path.glob("events.jsonl*"))
    assert len(files) > 3
    numbers = [line["seq"] for path in files for line in lines_of(path)]
    assert sorted(numbers) == list(range(1, 21))
    assert all(path.stat().st_size <= 400 for path in files)


def test_events_that_do_not_fit_on_the_disk_are_counted_and_nothing_else_happens(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    subscriber = Subscriber()
    log = open_log(tmp_path, subscriber)

    def refuse(self: RotatingFile, lines: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(RotatingFile, "append", refuse)
    log.write([Event("a", {}), Event("b", {})], NOW)
    assert log.lost == 2
    assert len(subscriber.heard) == 2
    monkeypatch.undo()
    log.write([Event("c", {})], NOW)
    log.close()
    assert [line["seq"] for line in lines_of(tmp_path / EVENT_FILE_NAME)] == [3]
