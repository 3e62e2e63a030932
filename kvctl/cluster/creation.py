"""Making a cluster's directory: identity, ports, keys, and `cluster.json` last of all.

A cluster exists from the moment `cluster.json` does. A crash before that leaves a directory that is
no cluster; the next `up` of that name completes it, `doctor` reports it meanwhile.
"""

from __future__ import annotations

import random
import uuid
from pathlib import Path

import msgspec

from kvctl.cluster.config_changes import apply_at_start
from kvctl.cluster.copied_cluster import adopt_copy
from kvctl.cluster.directory import (
    ClusterDirectory,
    cluster_directories,
    make_private_directory,
)
from kvctl.cluster.held_cluster import HeldCluster
from kvctl.cluster.lifecycle import GRACE_S, each_node_of, start_nodes, stop_nodes
from kvctl.cluster.options import UpOptions, check_contradictions, new_config, overlay
from kvctl.cluster.ports import check_ports, choose_ports, ports_of
from kvctl.cluster.run_state import Registry
from kvctl.errors import PortTakenError
from kvctl_node.config import ClusterConfig
from kvctl_node.errors import StoreError
from kvctl_node.runtime.open_files import check_hard_limit, node_files
from kvctl_node.runtime.security import create_keys

_PORT_ATTEMPTS = 3


def create_cluster(
    directory: ClusterDirectory, options: UpOptions, *, home: Path, rng: random.Random
) -> tuple[ClusterConfig, tuple[str, ...]]:
    """Make the cluster; the caller holds its lock. Returns its configuration and announcements.

    Raises `ContradictionError`, `ConfigError`, `PortTakenError`, `HomeError`; nothing that counts
    as a cluster is left then.
    """
    config, announcements = new_config(directory.name, options)
    check_hard_limit(node_files(config).total, each_node_of(config))
    config = msgspec.structs.replace(
        config,
        cluster_id=uuid.uuid4().hex,
        nodes=choose_ports(config.nodes, reserved=reserved_ports(home, directory), rng=rng),
    )
    if _ports_by_person(options):
        check_ports(config.nodes)  # before anything is made; no others would be chosen later
    create_keys(directory.keys, [spec.name for spec in config.nodes])
    for spec in config.nodes:
        make_private_directory(directory.node(spec.name))
    directory.write_format()
    config = msgspec.structs.replace(config, made_at=str(directory.place()))
    directory.save(config)
    return config, announcements


def open_existing(
    directory: ClusterDirectory, options: UpOptions, *, home: Path, rng: random.Random
) -> tuple[HeldCluster, tuple[str, ...]]:
    """The cluster of a directory, made one of its own if it is a copy, with what a given file
    changes; and announcements.

    The caller holds its lock. Raises what `ClusterDirectory.load` and `adopt_copy` raise, and
    `ContradictionError` if the options contradict it.
    """
    held, announcements = _open_or_adopt(directory, home=home, rng=rng)
    check_contradictions(held.config, options, ephemeral=held.run.ephemeral)
    if options.config is None:
        return held, announcements
    config, changes = apply_at_start(
        held.config, overlay(options.config, options), running=bool(held.processes())
    )
    if changes:
        held.config = config
        directory.save(config)
    return held, announcements + changes


def _open_or_adopt(
    directory: ClusterDirectory, *, home: Path, rng: random.Random
) -> tuple[HeldCluster, tuple[str, ...]]:
    config = directory.load_copy()
    if not directory.is_copy(config):
        return HeldCluster(directory, config, home), ()
    known = Registry(home).read(directory.name)
    adopted = adopt_copy(directory, config, reserved=reserved_ports(home, directory), rng=rng)
    held = HeldCluster(directory, adopted.config, home)
    held.remember_cluster(known.of_a_copy(adopted.former_id, adopted.config.cluster_id))
    return held, (adopted.announcement,)


def start_fresh(
    held: HeldCluster, options: UpOptions, *, rng: random.Random, wait: bool, timeout_s: float
) -> tuple[str, ...]:
    """Start all nodes of a cluster that was made just now; returns their names.

    Its ports were free a moment ago. If another program was quicker to one of them, others are
    chosen, unless a person chose them. Raises what `lifecycle.start_nodes` raises.
    """
    chosen_by_person = _ports_by_person(options)
    for attempt in range(1, _PORT_ATTEMPTS + 1):
        try:
            return start_nodes(held, (), wait=wait, timeout_s=timeout_s)
        except PortTakenError:
            if chosen_by_person or attempt == _PORT_ATTEMPTS:
                raise
            stop_nodes(held, (), grace_s=GRACE_S)
            _choose_other_ports(held, rng)
    raise AssertionError("the last attempt returns or raises")


def _ports_by_person(options: UpOptions) -> bool:
    return options.base_port is not None or options.config is not None


def _choose_other_ports(held: HeldCluster, rng: random.Random) -> None:
    blank = tuple(
        msgspec.structs.replace(spec, client_port=0, peer_port=0, event_port=0)
        for spec in held.config.nodes
    )
    nodes = choose_ports(blank, reserved=reserved_ports(held.home, held.directory), rng=rng)
    held.config = msgspec.structs.replace(held.config, nodes=nodes)
    held.directory.save(held.config)


def reserved_ports(home: Path, besides: ClusterDirectory) -> set[int]:
    """The ports of the other clusters of this home, which may be down and want theirs back."""
    reserved: set[int] = set()
    for directory in cluster_directories(home):
        if directory.path == besides.path:
            continue
        try:
            reserved |= ports_of(directory.load_copy().nodes)
        except StoreError:
            continue  # no cluster, or an unreadable one: `doctor` reports it
    return reserved
