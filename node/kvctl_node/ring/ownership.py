"""What each server holds of the ring, beside what it should: the table of `kvctl ring`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from kvctl_node.errors import ConfigError
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.quota import entitlements
from kvctl_node.ring.server import Server


class OwnerShare(NamedTuple):
    """One member's part of a partition map."""

    node: str
    replicas: int
    """Partitions it owns a replica of: its virtual nodes."""
    primaries: int
    """Partitions it is the first owner of."""
    share: float
    """Fraction of all N·Q replicas, 0 to 1; the shares of all members sum to 1."""
    target: float
    """The fraction its capacity entitles it to, as far as distinct servers and zones allow."""


def ownership(partition_map: PartitionMap, servers: Sequence[Server]) -> list[OwnerShare]:
    """One row per member of the map, by name.

    `servers` gives capacities and zones; those that are not members are left out. Raises
    `ConfigError` if a member is missing from `servers`.
    """
    member_names = frozenset(partition_map.members)
    members = [server for server in servers if server.name in member_names]
    missing = member_names.difference(server.name for server in members)
    if missing:
        raise ConfigError(
            f"The ring has members of unknown capacity: {', '.join(sorted(missing))}."
        )
    n, partitions = partition_map.n, partition_map.partitions
    due = entitlements(members, partitions=partitions, n=n)
    replicas = Counter(name for row in partition_map.owners for name in row)
    primaries = Counter(row[0] for row in partition_map.owners)
    return [
        OwnerShare(
            node=name,
            replicas=replicas[name],
            primaries=primaries[name],
            share=replicas[name] / (n * partitions),
            target=float(fraction / n),
        )
        for name, fraction in zip(due.names, due.dues, strict=True)
    ]
