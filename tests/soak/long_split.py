"""Split five nodes for two minutes under load, and heal: does it all come together by itself?

`python -m tests.soak.long_split --seconds 120` cuts {n1, n2} from {n3, n4, n5} while writers go on
on both sides, lifts the cut, and waits for convergence. No process may have been restarted, and
nothing that either side acknowledged may be lost. Exits 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import threading
import time

import kvctl
from tests.soak.writers import Writer, account_of, lost_writes

SIDES = ("n1", "n2"), ("n3", "n4", "n5")


def main() -> int:
    """Run it once; 0 if all went as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=120.0, help="length of the split")
    parser.add_argument("--writers", type=int, default=2, help="on each side")
    options = parser.parse_args()
    stop = threading.Event()
    with kvctl.Cluster(nodes=5) as cluster:
        processes = {node.id: node.pid for node in cluster.status().nodes}
        writers = [
            Writer(cluster, 10 * side + index, stop, via=nodes)
            for side, nodes in enumerate(SIDES)
            for index in range(options.writers)
        ]
        for writer in writers:
            writer.start()
        stop.wait(3)
        cluster.partition(*SIDES)
        stop.wait(options.seconds)
        cluster.heal()
        healed_s = time.monotonic()
        stop.wait(3)
        stop.set()
        for writer in writers:
            writer.join()
        with cluster.client() as client:
            hints = sum(client.status(name)["hints"] for name in cluster.nodes)
        cluster.wait("converged", timeout_s=180)
        took_s = time.monotonic() - healed_s
        restarted = {node.id for node in cluster.status().nodes if processes[node.id] != node.pid}
        lost = lost_writes(cluster, writers)
    print(
        f"split for {options.seconds:.0f} s, converged {took_s:.1f} s after the cut was lifted "
        f"({hints} hints were left 3 s after it): {account_of(writers)}, {len(lost)} lost, "
        f"restarted: {', '.join(sorted(restarted)) or 'none'}"
    )
    return 1 if lost or restarted else 0


if __name__ == "__main__":
    sys.exit(main())
