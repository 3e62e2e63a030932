"""The claim: from a list of servers to a partition map.

A pure function of the servers' names, capacities and zones, and of the previous map if there is
one. It does not depend on the order of its arguments, on `PYTHONHASHSEED`, on the machine or on the
time, so every node that knows the same servers computes the same map.

    servers ──▶ quota ──┬─▶ spread     (no previous map) ──┬─▶ primaries ──▶ PartitionMap
                        └─▶ rebalance  (a previous map)  ──┘

What holds of every map it returns: N distinct owners per partition; distinct zones as far as there
are zones (see `quota`); every server within one replica of what its capacity entitles it to, and
within one primary of a Nth of its replicas. With a previous map, hardly a replica moves that does
not have to.

Source: DeCandia et al., "Dynamo", SOSP 2007, section 6.2, strategy 3.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvctl_node.config import NODES_MAX, PARTITIONS_MAX
from kvctl_node.errors import ConfigError
from kvctl_node.ring.map_document import NO_PREVIOUS
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.primaries import balance_primaries
from kvctl_node.ring.quota import entitlements
from kvctl_node.ring.rebalance import rebalance
from kvctl_node.ring.server import Server
from kvctl_node.ring.spread import spread

__all__ = ["Server", "claim"]


def claim(
    servers: Sequence[Server],
    *,
    partitions: int,
    n: int,
    previous: PartitionMap | None = None,
) -> PartitionMap:
    """Assign `partitions` partitions (a power of two) to `servers`, `n` replicas each.

    With `previous`, the result is its successor: epoch one higher, naming it by hash, and close to
    it. Raises `ConfigError` if the servers cannot hold `n` replicas or are contradictory, or if
    `partitions` is not a power of two or differs from the previous map's.
    """
    if not 1 <= partitions <= PARTITIONS_MAX or partitions & (partitions - 1):
        raise ConfigError(f"The number of partitions must be a power of two, not {partitions}.")
    if len(servers) > NODES_MAX:
        raise ConfigError(f"{len(servers)} servers are too many; at most {NODES_MAX} can claim.")
    if previous is not None and previous.partitions != partitions:
        raise ConfigError(
            f"The number of partitions is {previous.partitions} and cannot become {partitions}.",
            hint="it is fixed for the life of a cluster.",
        )
    due = entitlements(servers, partitions=partitions, n=n)
    if previous is None:
        rows = spread(due, partitions=partitions, n=n)
    else:
        rows = rebalance(previous.owners, due, n=n)
    balance_primaries(rows, len(due.names), n=n, keep=previous is not None)
    return PartitionMap(
        epoch=1 if previous is None else previous.epoch + 1,
        previous_hash=NO_PREVIOUS if previous is None else previous.hash,
        members=due.names,
        n=n,
        owners=tuple(tuple(due.names[server] for server in row) for row in rows),
    )
