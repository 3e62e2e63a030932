"""Scrubbing through a replay: jumps, speed, and how far it is."""

from __future__ import annotations

from kvctl.view.recording import ReplayFeed

SEEK_MS = 5000
SPEEDS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0)


def jump(feed: ReplayFeed, steps: int) -> None:
    """So many steps of five seconds forward, or back."""
    feed.seek(feed.position_ms + steps * SEEK_MS)


def change_speed(feed: ReplayFeed, steps: int) -> None:
    """Twice as fast for each step up, half for each step down, within limits."""
    place = min(range(len(SPEEDS)), key=lambda one: abs(SPEEDS[one] - feed.speed))
    feed.speed = SPEEDS[min(max(0, place + steps), len(SPEEDS) - 1)]


def progress_text(feed: ReplayFeed) -> str:
    """`0:35/2:10 x2`, and whether it stands still."""
    recording = feed.recording
    shown = _minutes(feed.position_ms - recording.began_ms)
    text = f"{shown}/{_minutes(recording.ended_ms - recording.began_ms)} x{feed.speed:g}"
    if feed.paused:
        return f"{text} paused"
    return f"{text} end" if feed.ended else text


def _minutes(duration_ms: int) -> str:
    seconds = max(0, duration_ms) // 1000
    return f"{seconds // 60}:{seconds % 60:02d}"
