"""One node in full: process, ring, memory, disk, Bloom filters, links."""

from __future__ import annotations

from functools import lru_cache

from rich.text import Text

from kvctl.tui.glyphs import BAD, DIM, WARN, style_of
from kvctl.tui.node_rows import age_text, bytes_text, count_text
from kvctl.tui.scene import Scene
from kvctl.tui.text_pane import TextPane
from kvctl.view.state import NodeView

_LABEL_WIDTH = 12


def node_detail_lines(scene: Scene, name: str) -> list[Text]:
    """A dozen lines about a node."""
    node = scene.view.nodes.get(name)
    if node is None:
        return [Text("no node is selected", DIM)]
    condition = scene.conditions[name]
    head = Text(name, "bold")
    head.append(f"  {scene.glyphs.of(condition)} {condition.value}", style_of(condition))
    if node.process is not None:
        head.append(f"  process {node.process.value}", DIM)
    if node.figures.state != "ok":
        head.append(f"  {node.figures.state}", f"bold {BAD}")
    if not node.answered_ms:
        return [head, Text("it has not answered yet", DIM)]
    lines = [head]
    if not node.answers:
        age = age_text(max(0, scene.now_ms - node.answered_ms))
        lines.append(Text(f"last answer {age} ago; figures are of then", WARN))
    lines.extend(_labelled(label, value) for label, value in _lines(scene, node))
    return lines


@lru_cache(maxsize=256)
def _labelled(label: str, value: str) -> Text:
    """A line of the detail; most of them are, second after second, the same."""
    return Text.assemble((f"{label:<{_LABEL_WIDTH}}", DIM), value)


def _lines(scene: Scene, node: NodeView) -> list[tuple[str, str]]:
    figures, storage = node.figures, node.figures.storage
    declared = node.declared

    def stored(field: str) -> int:
        return int(storage.get(field, 0))

    trouble = str(storage.get("background_error", ""))
    return [
        ("endpoint", declared.endpoint.removeprefix("tcp://")),
        ("pid", f"{figures.pid}, generation {figures.generation}, up {_uptime(figures.uptime_s)}"),
        (
            "ring",
            f"{node.share:.2%} of all replicas, capacity {declared.capacity:g}, "
            f"zone {declared.zone or '-'}",
        ),
        ("cpu", f"{figures.cpu_share:.1%} of a core, {figures.turns_per_s:.0f} turns/s"),
        ("memory", f"{bytes_text(figures.rss_bytes)} resident"),
        (
            "traffic",
            f"{count_text(round(figures.messages_per_s))} messages/s, "
            f"{figures.in_flight} requests in flight",
        ),
        ("keys", f"{count_text(figures.keys)}, {figures.conflicts} in conflict"),
        ("hints", f"{count_text(figures.hints)} kept for others"),
        (
            "memtable",
            f"{count_text(stored('memtable_keys'))} keys, "
            f"{bytes_text(stored('memtable_bytes'))}, "
            f"{stored('frozen_memtables')} frozen",
        ),
        ("commit log", bytes_text(stored("log_bytes"))),
        (
            "SSTables",
            f"{stored('sstables')} with {count_text(stored('sstable_keys'))} keys, "
            f"{bytes_text(stored('sstable_bytes'))}",
        ),
        (
            "Bloom",
            _bloom(
                stored("bloom_negatives"), stored("bloom_hits"), stored("bloom_false_positives")
            ),
        ),
        (
            "background",
            f"{stored('flushes')} flushes, {stored('compactions')} compactions"
            + (", one due" if stored("compaction_due") else "")
            + (f"; failing: {trouble}" if trouble else ""),
        ),
        ("reaches", ", ".join(figures.peers_reachable) or "nobody"),
    ]


def _bloom(negatives: int, hits: int, false_positives: int) -> str:
    """How many tables were spared, and how often the filter was wrong when it said maybe."""
    absent = negatives + false_positives
    rate = false_positives / absent if absent else 0.0
    return f"{count_text(negatives)} spared, {count_text(hits)} hit, {rate:.1%} false"


def _uptime(seconds: float) -> str:
    return age_text(round(seconds * 1000))


class NodeDetail(TextPane):
    """Shows one node."""

    DEFAULT_CSS = "NodeDetail { padding: 0 1; }"

    def paint(self, scene: Scene, name: str) -> None:
        """Show the node as it is now."""
        self.show_lines(node_detail_lines(scene, name))
