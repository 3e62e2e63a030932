"""Pause a node for 20 s under load: does it come back in peace?

`python -m tests.soak.paused_node --seconds 20` starts five nodes under writers, stops one of them
(SIGSTOP) and lets it go on (SIGCONT). When it comes back it must accuse nobody, act on nothing that
nobody waits for any more, and get what it missed; and nothing acknowledged may be lost. Exits 1
otherwise.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from typing import Any

import kvctl
from tests.soak.writers import Writer, account_of, lost_writes

PAUSED = "n3"
ACCUSATIONS = ("member_suspected", "member_down")


def events_of(cluster: kvctl.Cluster, node: str, since_ms: int) -> list[dict[str, Any]]:
    """What a node told from then on."""
    lines = (cluster.directory.node(node) / "events.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    return [event for event in events if event["at"] >= since_ms]


def main() -> int:
    """Run it once; 0 if all went as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="length of the pause")
    parser.add_argument("--writers", type=int, default=4)
    options = parser.parse_args()
    stop = threading.Event()
    with kvctl.Cluster(nodes=5) as cluster:
        writers = [Writer(cluster, index, stop) for index in range(options.writers)]
        for writer in writers:
            writer.start()
        stop.wait(3)
        cluster.pause(PAUSED)
        stop.wait(options.seconds)
        resumed_ms = int(time.time() * 1000)
        cluster.resume(PAUSED)
        stop.wait(10)
        stop.set()
        for writer in writers:
            writer.join()
        cluster.wait("converged", timeout_s=120)
        back_s = time.time() - resumed_ms / 1000
        accused = {
            name: [
                (event["kind"], event["member"], event["at"] - resumed_ms)
                for event in events_of(cluster, name, resumed_ms)
                if event["kind"] in ACCUSATIONS
            ]
            for name in cluster.nodes
        }
        with cluster.client() as client:
            stale = client.status(PAUSED)["stale_requests"]
        lost = lost_writes(cluster, writers)
    print(
        f"paused {options.seconds:.0f} s, converged {back_s:.1f} s after the resume: "
        f"{account_of(writers)}, {len(lost)} lost; {PAUSED} refused {stale} stale requests"
    )
    for name, told in accused.items():
        print(f"accusations by {name} after the resume: {told or 'none'}")
    return 1 if lost or any(accused.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
