"""The header: how true the picture is, what the quorum is, and what the cluster can do now."""

from __future__ import annotations

from rich.text import Text

from kvctl.text.cells import steady
from kvctl.tui.glyphs import BAD, DIM, OK, WARN
from kvctl.tui.scene import Scene
from kvctl.tui.text_pane import TextPane
from kvctl.view.feed import FeedKind


def header_text(scene: Scene, width: int) -> Text:
    """One line; the parts a narrow screen has no room for are shortened."""
    wide = width >= 110
    view, quorum = scene.view, scene.view.quorum
    numbers = (("N", quorum.n), ("R", quorum.r), ("W", quorum.w))
    sign = "=" if wide else ""
    parts = [
        _freshness(scene),
        *([Text(steady(scene.problem), BAD)] if scene.problem else []),
        Text(steady(view.cluster) or "?", "bold"),
        Text(" ".join([*(f"{letter}{sign}{value}" for letter, value in numbers), quorum.mode])),
        _ranges(scene, wide),
        *([Text(f"faults {len(view.faults)}", f"bold {BAD}")] if view.faults else []),
        _count("conflicts" if wide else "confl", view.conflicts, WARN),
        _count("hints", view.hints_total, WARN),
    ]
    if scene.recording:
        parts.append(Text("REC", f"bold {BAD}"))
    if scene.filter:
        parts.append(Text(f"/{steady(scene.filter)}", "bold"))
    separator = f" {scene.glyphs.separator} " if wide else "  "
    line = Text(separator, style=DIM if wide else "").join(parts)
    line.truncate(width, overflow="crop" if scene.glyphs.ascii else "ellipsis")
    return line


def _freshness(scene: Scene) -> Text:
    if scene.frozen:
        return Text(f"FROZEN +{scene.waiting}", f"bold reverse {WARN}")
    if scene.stale:
        seconds = max(0, scene.now_ms - scene.view.at_ms) // 1000
        age = f" {seconds}s" if scene.view.at_ms else ""
        return Text(f"STALE{age}", f"bold reverse {BAD}")
    if scene.kind is FeedKind.REPLAY:
        return Text(f"REPLAY {scene.replay}".rstrip(), "bold reverse")
    return Text("LIVE", f"bold {OK}")


def _ranges(scene: Scene, wide: bool) -> Text:
    if scene.outlook is None:
        return Text("no ring yet", DIM)
    outlook = scene.outlook
    words = ("full", "degraded", "no write quorum") if wide else ("full", "degr", "no-W")
    line = Text("ranges " if wide else "")
    line.append(f"{outlook.full} {words[0]}", OK if outlook.full else DIM)
    line.append(f" {outlook.degraded} {words[1]}", WARN if outlook.degraded else DIM)
    line.append(f" {outlook.no_write} {words[2]}", f"bold {BAD}" if outlook.no_write else DIM)
    return line


def _count(word: str, count: int, style: str) -> Text:
    return Text(f"{word} {count}", style if count else DIM)


class HeaderLine(TextPane):
    """Shows the header."""

    DEFAULT_CSS = "HeaderLine { height: 1; dock: top; background: $panel; }"

    def __init__(self) -> None:
        super().__init__(id="header")

    def paint(self, scene: Scene) -> None:
        """Show what is true now."""
        self.show_lines([header_text(scene, max(20, self.app.size.width))])
