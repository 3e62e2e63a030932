"""Kill nodes at random under load and look for every acknowledged write afterwards.

`python -m tests.soak.kill_rounds --rounds 50` starts five nodes, lets writers put new keys and
overwrite old ones, and meanwhile kills (-9) and restarts one random node per round. In the end
every key must hold a value at least as new as the last acknowledged one. Exits 1 if one does not.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time

import kvctl
from tests.soak.writers import BatchWriter, Writer, account_of, lost_writes


def main() -> int:
    """Run the rounds; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--in-flight", type=int, default=1, help="puts under way per writer")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    stop = threading.Event()
    with kvctl.Cluster(nodes=options.nodes) as cluster:
        writers = [
            BatchWriter(cluster, index, stop, options.in_flight)
            if options.in_flight > 1
            else Writer(cluster, index, stop)
            for index in range(options.writers)
        ]
        for writer in writers:
            writer.start()
        started_s = time.monotonic()
        for number in range(1, options.rounds + 1):
            victim = f"n{rng.randrange(options.nodes) + 1}"
            cluster.kill(victim)
            # Some rounds leave the others time to notice, some do not.
            stop.wait(rng.choice([0.0, 0.1, 0.5]))
            cluster.start(victim)
            print(f"round {number}: {victim} killed and back", flush=True)
        stop.set()
        for writer in writers:
            writer.join()
        lost = lost_writes(cluster, writers)
    took_s = time.monotonic() - started_s
    print(f"{options.rounds} rounds in {took_s:.0f}s: {account_of(writers)}, {len(lost)} lost")
    for line in lost[:20]:
        print(line)
    return 1 if lost or not any(writer.acknowledged for writer in writers) else 0


if __name__ == "__main__":
    sys.exit(main())
