"""Damage the tables of a running node, again and again, under readers: is every answer right?

`python -m tests.soak.damaged_tables --rounds 6` loads keys into three nodes and lets readers read
them through the node whose SSTables are damaged meanwhile, by flipped bytes and by truncation, with
the node running. Each round ends when the node has healed itself, without a restart or a wipe; then
the next begins. In the end its two peers are killed, and it must hold everything itself. Exits 1 on
any wrong answer or missing key.
"""

from __future__ import annotations

import argparse
import random
import sys
import threading
import time
from pathlib import Path

import kvctl
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig, RepairConfig, StorageConfig
from kvctl_node.errors import StoreError

DAMAGED = "n2"
HEALS_WITHIN_S = 60.0


def value_of(number: int) -> bytes:
    """What every key holds."""
    return f"{number}-".encode() * 20


def holds(client: kvctl.Client, number: int) -> bool:
    """Whether the damaged node, alone, has the right value of a key."""
    try:
        found = client.get(f"k{number}", via=DAMAGED, r=1)
    except StoreError:
        return False
    return found.found and found.value == value_of(number)


class Reader(threading.Thread):
    """Reads random keys through the damaged node and counts what it is told."""

    def __init__(self, cluster: kvctl.Cluster, keys: int, stop: threading.Event) -> None:
        super().__init__()
        self._cluster = cluster
        self._keys = keys
        self._stop_reading = stop
        self.right = self.refused = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        rng = random.Random(1)
        with self._cluster.client() as client:
            while not self._stop_reading.is_set():
                number = rng.randrange(self._keys)
                try:
                    found = client.get(f"k{number}", via=DAMAGED)
                except StoreError:
                    self.refused += 1
                    continue
                if found.found and found.value == value_of(number):
                    self.right += 1
                else:
                    self.wrong.append(f"k{number}: {found}")


def damage(path: Path, rng: random.Random) -> str:
    """Flip a few hundred bytes, or cut off the second half; what was done."""
    size = path.stat().st_size
    with path.open("r+b") as file:
        if rng.random() < 0.3:
            file.truncate(size // 2)
            return f"{path.name} truncated"
        places = [rng.randrange(size) for _ in range(rng.choice([1, 20, 300]))]
        for place in places:
            file.seek(place)
            byte = file.read(1)
            file.seek(place)
            file.write(bytes([byte[0] ^ rng.randrange(1, 256)]))
    return f"{len(places)} bytes of {path.name} flipped"


def main() -> int:
    """Run the rounds; 0 if every answer was right."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=6)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    rng, stop = random.Random(options.seed), threading.Event()
    config = ClusterConfig(
        nodes=tuple(NodeSpec(f"n{number}") for number in (1, 2, 3)),
        quorum=QuorumConfig(3, 2, 2),
        storage=StorageConfig(memtable_bytes=2 * 1024 * 1024),
        repair=RepairConfig(rebuild_interval_ms=5_000),
    )
    with kvctl.Cluster(config=config) as cluster, cluster.client() as client:
        with client.batch(64) as batch:
            for number in range(options.keys):
                batch.put(f"k{number}", value_of(number), w=3)
        reader = Reader(cluster, options.keys, stop)
        reader.start()
        tables = cluster.directory.node(DAMAGED) / "sstables"
        slowest_s, unhealed = 0.0, 0
        for number in range(1, options.rounds + 1):
            what = damage(rng.choice(sorted(tables.glob("*.sqlite"))), rng)
            began_s = time.monotonic()
            found = False
            while time.monotonic() < began_s + HEALS_WITHIN_S:
                status = client.status(DAMAGED)
                is_well = status["state"] == "ok" and not status["rebuilding"]
                if found and is_well:
                    break
                found |= not is_well
                time.sleep(0.02)
            took_s = time.monotonic() - began_s
            slowest_s = max(slowest_s, took_s)
            unhealed += client.status(DAMAGED)["state"] != "ok"
            fate = f"healed after {took_s:.1f} s" if found else "no record was hit"
            print(f"round {number}: {what}: {fate}", flush=True)
        stop.set()
        reader.join()
        cluster.kill("n1", "n3")
        missing = sum(not holds(client, number) for number in range(options.keys))
    print(
        f"{reader.right} reads right, {len(reader.wrong)} wrong, {reader.refused} refused; "
        f"{missing} of {options.keys} keys missing in the end, {unhealed} rounds not healed"
    )
    for line in reader.wrong[:20]:
        print(line)
    return 1 if reader.wrong or missing or unhealed else 0


if __name__ == "__main__":
    sys.exit(main())
