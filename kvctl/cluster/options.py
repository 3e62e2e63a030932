"""Merging what `up` was asked for with what the cluster was made with.

`up` is idempotent: an option that is left out keeps what the cluster has, one that repeats it is
fine, and one that contradicts it is refused by name, before anything is touched. Changing a cluster
has its own commands, and the hint names them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from kvctl.cluster.config_changes import FIXED_FOR_LIFE, SET_LIVE, fixed_changes, refuse_identity
from kvctl.errors import ContradictionError
from kvctl_node.config import ClusterConfig, LimitsConfig, NodeSpec, QuorumConfig, StorageConfig
from kvctl_node.errors import ConfigError

PORTS_PER_NODE = 3
"""Client, peer and event port, in this order from the base port."""
DEFAULT_NODES = 5
DEFAULT_REPLICAS = 3

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class UpOptions:
    """The options of `up`; None (or an empty mapping) means: not given."""

    nodes: int | None = None
    replicas: int | None = None
    r: int | None = None
    w: int | None = None
    mode: str | None = None
    durability: str | None = None
    partitions: int | None = None
    base_port: int | None = None
    capacity: Mapping[str, float] = field(default_factory=dict)
    zone: Mapping[str, str] = field(default_factory=dict)
    config: ClusterConfig | None = None
    """A configuration file, read and validated; the other options take precedence over it."""
    ephemeral: bool | None = None
    """The cluster's directory is removed when it is stopped."""
    ttl_s: float | None = None
    """The cluster stops itself this many seconds after it was started."""


def new_config(name: str, options: UpOptions) -> tuple[ClusterConfig, tuple[str, ...]]:
    """The configuration of a cluster that does not exist yet, without identity and ports.

    Returns it with the announcements a person should see. Raises `ContradictionError` if the
    options contradict the file they came with, `ConfigError` if the result is impossible.
    """
    base = options.config
    announcements: tuple[str, ...] = ()
    if base is None:
        count = DEFAULT_NODES if options.nodes is None else options.nodes
        if count < 1:
            raise ConfigError(f"a cluster needs at least one node, not {count}.")
        n = min(DEFAULT_REPLICAS, count) if options.replicas is None else options.replicas
        majority = n // 2 + 1
        base = ClusterConfig(
            nodes=tuple(NodeSpec(name=f"n{number}") for number in range(1, count + 1)),
            quorum=QuorumConfig(n=n, r=majority, w=majority),
            limits=LimitsConfig(clock_entries=max(LimitsConfig().clock_entries, 2 * n + 4)),
        )
        if count < DEFAULT_REPLICAS:
            announcements = (_small_cluster_sentence(count, overlay(base, options).quorum),)
    else:
        refuse_identity(name, base)
        if options.nodes is not None and options.nodes != len(base.nodes):
            raise ContradictionError(
                f"-n {options.nodes} contradicts the configuration file, which names "
                f"{len(base.nodes)} nodes.",
                hint="leave -n out, or change the file.",
            )
    config = msgspec.structs.replace(overlay(base, options), name=name)
    config.validate()
    return config, announcements


def _small_cluster_sentence(count: int, quorum: QuorumConfig) -> str:
    nodes = "one node" if count == 1 else f"{count} nodes"
    return (
        f"{nodes}: N={quorum.n}, R={quorum.r}, W={quorum.w}; "
        "a cluster survives the loss of a node from three nodes on."
    )


def overlay(base: ClusterConfig, options: UpOptions) -> ClusterConfig:
    """`base` with every option that was given in its place. Raises `ConfigError`."""
    quorum = QuorumConfig(
        n=_given(options.replicas, base.quorum.n),
        r=_given(options.r, base.quorum.r),
        w=_given(options.w, base.quorum.w),
        mode=_given(options.mode, base.quorum.mode),
    )
    storage: StorageConfig = msgspec.structs.replace(
        base.storage, durability=_given(options.durability, base.storage.durability)
    )
    for named in (*options.capacity, *options.zone):
        base.node(named)
    nodes = tuple(
        msgspec.structs.replace(
            spec,
            capacity=options.capacity.get(spec.name, spec.capacity),
            zone=options.zone.get(spec.name, spec.zone),
        )
        for spec in base.nodes
    )
    if options.base_port is not None:
        nodes = number_ports(nodes, options.base_port)
    return msgspec.structs.replace(
        base,
        nodes=nodes,
        quorum=quorum,
        storage=storage,
        partitions=_given(options.partitions, base.partitions),
    )


def _given(wanted: Value | None, kept: Value) -> Value:
    return kept if wanted is None else wanted


def number_ports(nodes: tuple[NodeSpec, ...], base_port: int) -> tuple[NodeSpec, ...]:
    """Consecutive ports from `base_port`, three a node. Raises `ConfigError` past 65535."""
    last = base_port + PORTS_PER_NODE * len(nodes) - 1
    if base_port < 1 or last > 65535:
        raise ConfigError(
            f"{len(nodes)} nodes need the ports {base_port} to {last}, which are not all ports.",
            hint="choose a lower --base-port.",
        )
    return tuple(
        msgspec.structs.replace(
            spec,
            client_port=base_port + PORTS_PER_NODE * index,
            peer_port=base_port + PORTS_PER_NODE * index + 1,
            event_port=base_port + PORTS_PER_NODE * index + 2,
        )
        for index, spec in enumerate(nodes)
    )


@dataclass(frozen=True, slots=True)
class _Claim:
    """One thing `up` was told about the cluster, beside what is the case."""

    option: str
    wanted: object
    actual: object
    hint: str


def check_contradictions(config: ClusterConfig, options: UpOptions, *, ephemeral: bool) -> None:
    """Raises `ContradictionError`, naming the first option that contradicts an existing cluster."""
    for claim in _claims(config, options, ephemeral):
        if claim.wanted is not None and claim.wanted != claim.actual:
            raise ContradictionError(
                f"{claim.option} {claim.wanted} contradicts the cluster {config.name}, which has "
                f"{claim.actual}.",
                hint=f"leave the option out to keep that; {claim.hint}",
            )
    if options.config is not None:
        for change in fixed_changes(config, overlay(options.config, options)):
            raise change.refusal(config.name)


def _claims(config: ClusterConfig, options: UpOptions, ephemeral: bool) -> list[_Claim]:
    claims = [
        _Claim("-n", options.nodes, len(config.nodes), FIXED_FOR_LIFE),
        _Claim("--replicas", options.replicas, config.quorum.n, FIXED_FOR_LIFE),
        _Claim("-r", options.r, config.quorum.r, SET_LIVE),
        _Claim("-w", options.w, config.quorum.w, SET_LIVE),
        _Claim("--mode", options.mode, config.quorum.mode, SET_LIVE),
        _Claim("--durability", options.durability, config.storage.durability, FIXED_FOR_LIFE),
        _Claim("--partitions", options.partitions, config.partitions, FIXED_FOR_LIFE),
        _Claim("--ephemeral", options.ephemeral, ephemeral, FIXED_FOR_LIFE),
    ]
    for name, capacity in options.capacity.items():
        claims.append(
            _Claim(f"--capacity {name}", capacity, config.node(name).capacity, FIXED_FOR_LIFE)
        )
    for name, zone in options.zone.items():
        claims.append(_Claim(f"--zone {name}", zone, config.node(name).zone, FIXED_FOR_LIFE))
    if options.base_port is not None:
        numbered = number_ports(config.nodes, options.base_port) == config.nodes
        actual = options.base_port if numbered else config.nodes[0].client_port
        claims.append(_Claim("--base-port", options.base_port, actual, FIXED_FOR_LIFE))
    return claims
