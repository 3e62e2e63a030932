"""Looking things up in a cluster of this machine: by its nodes' answers, and in their files.

The clients and file readers it needs take a while to load; the first page that looks something up
loads them.
"""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path
from typing import Any

from kvctl.cli.rotated_lines import RotatedLines
from kvctl.client import GetResult, connect
from kvctl.cluster.directory import ClusterDirectory, cluster_directory
from kvctl.cluster.node_commands import NodeCommands
from kvctl.tui.cluster_reader import LOG_LINES_MAX, STAMP_LENGTH, LogLine
from kvctl.view.live_feed import decode_event
from kvctl.view.merkle_descent import Level, LevelSeen, Place, children_of, keys_of
from kvctl.view.observation import ConflictsSeen, KeyConflict, NodeEvent, VersionSeen

CONFLICTS_MAX = 200
"""Keys with siblings that are listed."""
VALUE_CHARACTERS_MAX = 4096
"""So much of a value is shown."""
REQUEST_TIMEOUT_S = 3.0
LOG_FILE_NAME = "node.log"
EVENT_FILE_NAME = "events.jsonl"
EVENTS_MAX = 200
"""Past events of each node that are read."""
LISTING_PAGES_MAX = 64
"""Pages of keys that are fetched of one leaf; more keys than that are not looked through."""


class LocalClusterReader:
    """Looks things up in a cluster of this machine's user."""

    def __init__(self, name: str, home: Path | None = None) -> None:
        """Opens nothing before it is asked."""
        self._name = name
        self._home = home
        self._directory: ClusterDirectory = cluster_directory(name, home)
        self._logs: dict[str, RotatedLines] = {}
        self._lines_read: dict[str, int] = {}
        self._stamps: dict[str, str] = {}

    def conflicts(self) -> ConflictsSeen:
        """Scan for keys with siblings, up to a limit."""
        with connect(self._name, home=self._home, timeout_s=REQUEST_TIMEOUT_S) as client:
            found = list(client.scan("", conflicts_only=True, limit=CONFLICTS_MAX + 1))
        keys = [conflict_of(one) for one in found[:CONFLICTS_MAX] if len(one.siblings) > 1]
        return ConflictsSeen(
            time.time_ns() // 1_000_000,
            tuple(sorted(keys, key=lambda one: one.key)),
            len(found) > CONFLICTS_MAX,
        )

    def merkle_level(self, place: Place) -> LevelSeen:
        """Ask both nodes at once."""
        one, other = place.pair
        with NodeCommands(self._directory, self._directory.load()) as nodes:
            if place.level is Level.KEYS:
                listings = [self._keys(nodes, one, other, place.parent)]
                listings.append(self._keys(nodes, other, one, place.parent))
                return LevelSeen(place, keys=keys_of(listings))
            question = {"level": int(place.level), "parents": [place.parent]}
            answers = nodes.ask(
                {one: {"peer": other, **question}, other: {"peer": one, **question}},
                "merkle_hashes",
            )
        for name in place.pair:
            if name not in answers:
                return LevelSeen(place, problem=f"{name} does not answer")
            if not answers[name]["ready"]:
                return LevelSeen(place, problem=f"{name} is still building its tree")
        return LevelSeen(place, children_of([answers[one], answers[other]]))

    def _keys(self, nodes: NodeCommands, name: str, peer: str, leaf: int) -> list[dict[str, Any]]:
        keys: list[dict[str, Any]] = []
        start: bytes | None = b""
        for _ in range(LISTING_PAGES_MAX):
            if start is None:
                break
            answer = nodes.ask_one(
                name, "merkle_keys", {"peer": peer, "leaf": leaf, "start": start}
            )
            keys += answer["keys"]
            start = answer["next"]
        return keys

    def past_events(self) -> list[NodeEvent]:
        """Read the files of events from their beginning."""
        events: list[NodeEvent] = []
        for spec in self._directory.load().nodes:
            lines = RotatedLines(self._directory.node(spec.name) / EVENT_FILE_NAME)
            try:
                last = deque(lines.new_lines(), maxlen=EVENTS_MAX)
            finally:
                lines.close()
            events += [event for line in last if (event := decode_event(line)) is not None]
        return sorted(events, key=lambda event: event.at_ms)

    def new_log_lines(self) -> list[LogLine]:
        """Read on in every node's log, over rotations."""
        lines: list[LogLine] = []
        for spec in self._directory.load().nodes:
            name = spec.name
            if name not in self._logs:
                path = self._directory.node(name) / LOG_FILE_NAME
                self._logs[name] = RotatedLines(path)
            at = self._stamps.get(name, "")
            for content in deque(self._logs[name].new_lines(), maxlen=LOG_LINES_MAX):
                text = content.decode("utf-8", "backslashreplace")
                if text[:1].isdigit():
                    at = text[:STAMP_LENGTH]
                self._lines_read[name] = number = self._lines_read.get(name, 0) + 1
                lines.append(LogLine(name, number, at, text))
            self._stamps[name] = at
        return sorted(lines, key=lambda line: line.at)


def conflict_of(result: GetResult) -> KeyConflict:
    """A key with its versions, as a view holds them: long values only begin."""
    versions = []
    for version in result.siblings:
        said = version.to_json()
        value = said["value"]
        is_cut = value is not None and len(value) > VALUE_CHARACTERS_MAX
        shown = value[:VALUE_CHARACTERS_MAX] if is_cut else value
        size = 0 if version.value is None else len(version.value)
        versions.append(VersionSeen(version.dot, shown, said["enc"], is_cut, size))
    clock = result.siblings[0].version if result.siblings else []
    return KeyConflict(
        result.key.decode("utf-8", "backslashreplace"), tuple(clock), tuple(versions)
    )
