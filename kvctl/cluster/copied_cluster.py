"""A cluster whose directory was copied: known for a copy, and made a cluster of its own.

A copied home has the keys, ports and ids of the first. If both were used as they are, a client of
one would be served by the nodes of the other, and its acknowledged writes would be stored where
nobody looks for them. So `cluster.json` says where kvctl made the directory (`made_at`), and a
directory that is elsewhere is refused by every command but `up`, which makes it a cluster of its
own: a new id, to which context tokens are bound, new keys, so that neither side can talk to the
other, and new ports if the first cluster is still where it was.

Its nodes take over their disks (`former_clusters`). A copied home lacks nothing that was
acknowledged when it was made, so they need not rebuild, but they take new actor epochs.

How it is told: by the inode of the file `format`, which nothing changes after the directory was
made. A file restored in place may get the same inode again; then its time of change and its path
differ. Renaming or moving the directory within its file system changes neither, and `chmod -R`
over a directory that stays where it is makes no copy of it. `made_at` "" is never compared: so is a
directory that a person puts on a second host, to reach nodes that run elsewhere.
"""

from __future__ import annotations

import random
import uuid
from typing import NamedTuple

import msgspec

from kvctl.cluster.directory import ClusterDirectory, Place
from kvctl.cluster.ports import choose_ports, ports_of
from kvctl.cluster.processes import find_nodes
from kvctl.errors import AlreadyRunningError, HomeError
from kvctl_node.config import ClusterConfig
from kvctl_node.runtime.security import CLIENT_KEY_NAME, create_keys, key_path


class Adopted(NamedTuple):
    """What became of a copy."""

    config: ClusterConfig
    former_id: str
    announcement: str


def adopt_copy(
    directory: ClusterDirectory, config: ClusterConfig, *, reserved: set[int], rng: random.Random
) -> Adopted:
    """Make a copied directory a cluster of its own; the caller holds its lock.

    `reserved`: the ports of other clusters. A crash half-way leaves a copy, and the next `up`
    completes it. Raises `AlreadyRunningError`, `HomeError`, `PortTakenError`.
    """
    running = [node.name for node in find_nodes() if node.directory == directory.path]
    if running:
        raise AlreadyRunningError(
            f"{directory.path} was copied from another place, and {', '.join(running)} of it runs.",
            hint=f"kvctl -c {directory.name} down, then up again.",
        )
    first = Place.parse(config.made_at).path
    first_is_there = first != directory.path and ClusterDirectory(first).exists()
    nodes = config.nodes
    if first_is_there:
        blank = [
            msgspec.structs.replace(spec, client_port=0, peer_port=0, event_port=0)
            for spec in nodes
        ]
        nodes = choose_ports(tuple(blank), reserved=reserved | ports_of(nodes), rng=rng)
    names = [spec.name for spec in nodes]
    try:
        for name in (*names, CLIENT_KEY_NAME):
            key_path(directory.keys, name).unlink(missing_ok=True)
    except OSError as error:
        raise HomeError(f"cannot replace {error.filename}: {error.strerror}.") from error
    create_keys(directory.keys, names)
    own = msgspec.structs.replace(
        config,
        name=directory.name,
        nodes=nodes,
        cluster_id=uuid.uuid4().hex,
        former_clusters=(*config.former_clusters, config.cluster_id),
        made_at=str(directory.place()),
    )
    directory.save(own)
    ports = "new keys and ports" if first_is_there else "new keys"
    return Adopted(
        own,
        config.cluster_id,
        f"this directory was copied from {first}: it is a cluster of its own now, with {ports}; "
        "context tokens of the other are refused.",
    )
