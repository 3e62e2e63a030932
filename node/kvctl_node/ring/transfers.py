"""What has to be copied, and what may go, to get from one partition map to the next.

Only a change of the *set* of owners of a partition moves data; a change of their order does not.
Each gaining owner is paired with a losing one, in the order of the maps: the loser holds the data
and is the natural source, but it is safe to drop its copy only once the gainer has been compared
with a read quorum of the old owners.
"""

from __future__ import annotations

from typing import NamedTuple

from kvctl_node.errors import ConfigError
from kvctl_node.ring.partition_map import PartitionMap


class Transfer(NamedTuple):
    """One replica of one partition that changes hands."""

    partition: int
    gaining: str | None
    """Who needs a copy; None when N shrinks and a replica only goes."""
    losing: str | None
    """Whose copy goes in the end; None when N grows and a replica is only added."""


def transfers(old: PartitionMap, new: PartitionMap) -> list[Transfer]:
    """All transfers from `old` to `new`, by partition; empty if every replica stays.

    Raises `ConfigError` if the maps cut the circle differently.
    """
    if old.partitions != new.partitions:
        raise ConfigError(
            f"Maps of {old.partitions} and {new.partitions} partitions cannot be compared.",
            hint="the number of partitions is fixed for the life of a cluster.",
        )
    moves: list[Transfer] = []
    for partition, (before, after) in enumerate(zip(old.owners, new.owners, strict=True)):
        if before == after:
            continue
        gaining: list[str | None] = [name for name in after if name not in before]
        losing: list[str | None] = [name for name in before if name not in after]
        pairs = max(len(gaining), len(losing))
        gaining += [None] * (pairs - len(gaining))
        losing += [None] * (pairs - len(losing))
        moves += [
            Transfer(partition, gainer, loser)
            for gainer, loser in zip(gaining, losing, strict=True)
        ]
    return moves
