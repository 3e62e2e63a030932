"""A recording from anybody, played in a real terminal: what is in it is shown, and nothing more."""

from __future__ import annotations

from pathlib import Path

from kvctl.view.observation import ConflictsSeen, KeyConflict, VersionSeen
from kvctl.view.recorder import Recorder
from tests.tui.dashboard_pilot import NOW_MS, busy_cluster
from tests.tui.evil_text import CLEARS, FAMILY, KEYS
from tests.tui.terminal import Terminal
from tests.unit.view.cluster_story import BEGAN_MS


def evil_recording(directory: Path) -> Path:
    path = directory / "evil.kvrec"
    versions = (VersionSeen(("n1", 4), CLEARS), VersionSeen(("n2", 2), FAMILY))
    keys = tuple(KeyConflict(key, (("n1", 4), ("n2", 2)), versions) for key in KEYS)
    with Recorder(path, cluster=CLEARS, began_ms=BEGAN_MS) as recorder:
        for observation in (*busy_cluster(), ConflictsSeen(NOW_MS, keys)):
            recorder.record(observation)
    return path


def test_keys_of_a_recording_neither_clear_the_screen_nor_name_the_window(tmp_path: Path) -> None:
    recording = evil_recording(tmp_path)
    with Terminal(["dashboard", "--replay", str(recording)], columns=80, rows=24) as terminal:
        terminal.until(lambda text: "REPLAY" in text)
        terminal.press("....3")
        terminal.until(lambda text: r"line1\nline2" in text and "3 conflicts" in text)
        shown = terminal.text.split("\n")
        assert shown[0].startswith("REPLAY"), "nothing has scrolled"
        assert shown[1].startswith("KEY")
        assert shown[2].startswith(r"a\x1b[2J\x1b]0;pwned\x07")
        assert "3 conflicts" in shown[-1]
        terminal.press("q")
        assert terminal.until_ended() == 0
    assert CLEARS[1:].encode() not in terminal.output
    assert b"pwned\a" not in terminal.output
    assert b"\x1b[2J\x1b]" not in terminal.output
