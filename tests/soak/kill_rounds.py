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
from node.errors import IndeterminateError, StoreError

KEYS_PER_WRITER = 2000


class Writer(threading.Thread):
    """Overwrites its own keys with rising numbers and remembers what was acknowledged."""

    def __init__(self, cluster: kvctl.Cluster, index: int, stop: threading.Event) -> None:
        super().__init__(name=f"writer-{index}")
        self._cluster = cluster
        self._index = index
        self._stop_writing = stop
        self.acknowledged: dict[str, int] = {}
        self.attempted: dict[str, int] = {}
        self.refused = 0
        self.indeterminate = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        rng = random.Random(self._index)
        number = 0
        with self._cluster.client() as client:
            while not self._stop_writing.is_set():
                number += 1
                key = f"w{self._index}/k{rng.randrange(KEYS_PER_WRITER)}"
                self.attempted[key] = number
                try:
                    client.put(key, str(number))
                    self.acknowledged[key] = number
                except IndeterminateError:
                    self.indeterminate += 1
                except StoreError:
                    self.refused += 1


def lost_writes(cluster: kvctl.Cluster, writers: list[Writer]) -> list[str]:
    """What the store holds less of than it acknowledged."""
    lost = []
    with cluster.client() as client:
        for writer in writers:
            for key, number in writer.acknowledged.items():
                result = client.get(key)
                values = [int(one.value) for one in result.siblings if one.value is not None]
                newest = max(values, default=0)
                if not number <= newest <= writer.attempted[key]:
                    lost.append(f"{key}: acknowledged {number}, read {values}")
    return lost


def main() -> int:
    """Run the rounds; 0 if nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=50)
    parser.add_argument("--nodes", type=int, default=5)
    parser.add_argument("--writers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    stop = threading.Event()
    with kvctl.Cluster(nodes=options.nodes) as cluster:
        writers = [Writer(cluster, index, stop) for index in range(options.writers)]
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
    acknowledged = sum(len(writer.acknowledged) for writer in writers)
    indeterminate = sum(writer.indeterminate for writer in writers)
    refused = sum(writer.refused for writer in writers)
    print(
        f"{options.rounds} rounds in {time.monotonic() - started_s:.0f}s: {acknowledged} keys "
        f"acknowledged, {refused} puts refused, {indeterminate} indeterminate, {len(lost)} lost"
    )
    for line in lost[:20]:
        print(line)
    return 1 if lost or not acknowledged else 0


if __name__ == "__main__":
    sys.exit(main())
