"""Kill the holder of hints and their target in the middle of a drain: does everything come home?

`python -m tests.soak.handoff_kills --keys 10000` kills a node, writes keys, and starts it again;
while hints drain to it, first the node that holds most of them and then the target are killed and
started. In the end no hint may be left and every pair of replicas must be equal by Merkle
comparison, without a single read before. Exits 1 otherwise.
"""

from __future__ import annotations

import argparse
import sys
import time

import kvctl

TARGET = "n3"


def hints_by_holder(cluster: kvctl.Cluster, client: kvctl.Client) -> dict[str, int]:
    """How many hints each node keeps."""
    return {name: client.status(name)["hints"] for name in cluster.nodes if name != TARGET}


def main() -> int:
    """Run it once; 0 if all went as promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=10_000)
    options = parser.parse_args()
    with kvctl.Cluster(nodes=5) as cluster, cluster.client() as client:
        cluster.kill(TARGET)
        with client.batch(64) as batch:
            for number in range(options.keys):
                batch.put(f"k{number}", f"v{number}")
        held = hints_by_holder(cluster, client)
        holder = max(held, key=lambda name: held[name])
        before = sum(held.values())
        began_s = time.monotonic()
        cluster.supervisor.start(cluster.name, [TARGET], wait=False)
        while sum(hints_by_holder(cluster, client).values()) > before * 0.8:
            time.sleep(0.01)
        cluster.kill(holder)
        cluster.start(holder)
        amid = sum(hints_by_holder(cluster, client).values())
        cluster.kill(TARGET)
        cluster.start(TARGET)
        cluster.wait("converged", timeout_s=120)
        took_s = time.monotonic() - began_s
        left = sum(hints_by_holder(cluster, client).values())
        missing = sum(
            client.get(f"k{number}", r=3).value != f"v{number}".encode()
            for number in range(options.keys)
        )
    print(
        f"{options.keys} keys, {before} hints, most of them at {holder}; {amid} left when {TARGET} "
        f"was killed; converged {took_s:.1f} s after its first start: {left} hints left, "
        f"{missing} keys wrong"
    )
    return 1 if left or missing else 0


if __name__ == "__main__":
    sys.exit(main())
