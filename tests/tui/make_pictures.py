"""Make the README's pictures again, from a real cluster: `python -m tests.tui.make_pictures`.

Five nodes, some keys, two siblings, and one node killed: then the dashboard is opened on it without
a terminal, and its screens are written as SVG to `tests/tui/pictures`.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import kvctl
from kvctl.tui.app import KvctlApp, wall_clock_ms
from kvctl.tui.exports import without_outside_fonts
from kvctl.tui.local_cluster_reader import LocalClusterReader
from kvctl.view.live_feed import LiveFeed
from kvctl.view.process_lookup import ProcessLookup
from kvctl.view.state import ClusterView

PICTURES = Path(__file__).parent / "pictures"
SIZE = (120, 35)
PATIENCE_S = 20.0
SETTLING_S = 8.0
"""Long enough for heartbeats to have a history and for the dead node to be down everywhere."""


def prepare(cluster: kvctl.Cluster) -> None:
    """Something to see: keys, a conflict, a dead node with hints waiting for it."""
    with cluster.client() as client:
        for number in range(300):
            client.put(f"user:{number}", f"value {number}")
        for color in ("red", "blue"):
            client.put("color", color, blind=True)
        cluster.kill("n4")
        for number in range(120):
            client.put(f"order:{number}", "pending")


def work(cluster: kvctl.Cluster) -> None:
    """What a client does while the dashboard watches: some of it must do without the dead node."""
    with cluster.client() as client:
        for number in range(5):
            client.put(f"order:{number}", "paid")
            client.get(f"user:{number}")
        client.get("color")
        client.get("nothing")
        client.put("cart:7", "apple")


async def take(app: KvctlApp, cluster: kvctl.Cluster) -> None:
    """Open the dashboard and write its screens."""
    async with app.run_test(size=SIZE) as pilot:
        await wait_for(app, lambda view: len(view.nodes) == 5)
        await asyncio.sleep(SETTLING_S)
        await asyncio.to_thread(work, cluster)
        for key, name in (("1", "overview"), ("3", "conflicts"), ("4", "hints"), ("6", "timeline")):
            await pilot.press(key)
            await asyncio.sleep(2.0)
            svg = without_outside_fonts(app.export_screenshot(title="kvctl dashboard"))
            (PICTURES / f"{name}.svg").write_text(svg, encoding="utf-8")
            print(f"{name}.svg")


async def wait_for(app: KvctlApp, condition: Callable[[ClusterView], bool]) -> None:
    """Until the model is so; raises `TimeoutError`."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition(app.view):
            await asyncio.sleep(0.1)


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with kvctl.Cluster(nodes=5) as cluster:
        prepare(cluster)
        os.environ["KVCTL_HOME"] = str(cluster.home)
        feed = LiveFeed(cluster.name, clock=wall_clock_ms, look_up=ProcessLookup(cluster.name))
        app = KvctlApp(
            feed, clock=wall_clock_ms, open_reader=lambda: LocalClusterReader(cluster.name)
        )
        asyncio.run(take(app, cluster))


if __name__ == "__main__":
    main()
