"""The options of one run, all drawn from its seed ("swarm testing": each run has its own mixture).

A run that had every kind of fault at once would rarely get far enough to meet the subtle ones, so
each draws some kinds, and some rates, and leaves the others out.

The fault budget: an acknowledged write may be lost when W disks are destroyed. So at most W - 1
nodes of a run, chosen beforehand (`expendable`), ever have their disk wiped, put back or damaged.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, fields, replace
from enum import Enum

from kvctl_node.config import (
    ClusterConfig,
    LimitsConfig,
    NodeSpec,
    QuorumConfig,
    RepairConfig,
    TimingConfig,
)
from tests.virtual_network import LinkQuality


class Fault(Enum):
    """What may befall a cluster."""

    CUT = "one direction of one link is cut"
    PARTITION = "two groups are cut from each other"
    BRIDGE = "two groups meet in one node only"
    FLAPPING = "a group is cut off, and back, again and again"
    KILL = "a process dies, at any step of a turn"
    PAUSE = "a process is stopped for a while"
    SLOW_NODE = "turns of a node take long"
    BAD_LINK = "a link loses, repeats and delays"
    DISK_FULL = "a disk takes no writes for a while"
    MASS_RESTART = "all processes die at once"
    REBOOT = "a machine goes down and comes up with another boot id"
    BIT_FLIP = "a record is damaged on an expendable disk"
    WIPE = "an expendable disk is replaced by an empty one"
    RESTORE = "an expendable disk is put back to an older state"
    CLOCK = "a machine's wall clock is set wrong for a while, by up to a day"


DESTRUCTIVE = frozenset({Fault.BIT_FLIP, Fault.WIPE, Fault.RESTORE})


class Action(Enum):
    """What a client may do next."""

    GET = "get"
    BLOCKING_GET = "blocking get"
    OVERWRITE = "overwrite"
    BLIND = "blind put"
    CONTEXT = "put with the last context"
    READ_MODIFY_WRITE = "get, then put with its context"
    DELETE = "delete"


TIMING = TimingConfig(
    gossip_interval_ms=200,
    link_dead_after_ms=500,
    suspect_after_ms=800,
    replica_timeout_ms=400,
    retry_window_ms=6_000,
    handoff_interval_ms=200,
    hint_ttl_ms=60_000,
    clock_skew_ms=100,
)
"""The defaults, five times as fast."""


@dataclass(frozen=True)
class Options:
    """Everything about a run that its seed decides before it begins."""

    seed: int
    nodes: int
    zones: int
    """0: every node is a zone of its own."""
    quorum: QuorumConfig
    keys: int
    clients: int
    actions: dict[Action, int]
    """Weights."""
    actions_max: int
    """Of all clients together."""
    think_s: float
    """Mean pause of a client between two actions."""
    timeout_s: float
    latency_s: tuple[float, float]
    links: LinkQuality
    skewed: bool
    faults: dict[Fault, int]
    """Weights."""
    fault_interval_s: float
    expendable: tuple[str, ...]
    timing: TimingConfig
    repair: RepairConfig
    clock_entries: int
    gather_s: float
    """How long requests to one node are gathered to travel in one frame; 0: each goes alone."""
    doors: tuple[str, ...]
    """The nodes that clients ask first."""

    def config(self) -> ClusterConfig:
        """The cluster's configuration."""
        config = ClusterConfig(
            nodes=tuple(
                NodeSpec(name, zone=f"z{index % self.zones}" if self.zones else "")
                for index, name in enumerate(self.names)
            ),
            quorum=self.quorum,
            partitions=16,
            cluster_id="simulation",
            limits=LimitsConfig(clock_entries=self.clock_entries),
            timing=self.timing,
            repair=self.repair,
        )
        config.validate()
        return config

    @property
    def names(self) -> list[str]:
        """The nodes' names."""
        return [f"n{number}" for number in range(1, self.nodes + 1)]

    @property
    def overlapping(self) -> bool:
        """R + W > N in strict mode: reads meet writes."""
        quorum = self.quorum
        return quorum.mode == "strict" and quorum.r + quorum.w > quorum.n

    def __str__(self) -> str:
        lines = []
        for one in fields(self):
            value = getattr(self, one.name)
            if isinstance(value, dict):
                value = ", ".join(f"{key.name.lower()} {weight}" for key, weight in value.items())
            lines.append(f"  {one.name:<17} {value}")
        return "\n".join(lines)


def draw_options(seed: int) -> Options:
    """The options of the run with this seed."""
    rng = random.Random(seed)
    nodes = rng.choice([2, 3, 3, 3, 4, 5, 5, 6, 7])
    quorum = _draw_quorum(rng, nodes)
    faults = _draw_faults(rng)
    destroys = bool(DESTRUCTIVE & faults.keys())
    names = [f"n{number}" for number in range(1, nodes + 1)]
    expendable = tuple(sorted(rng.sample(names, quorum.w - 1))) if destroys else ()
    if not expendable:
        faults = {fault: weight for fault, weight in faults.items() if fault not in DESTRUCTIVE}
    reaps = rng.random() < 0.3
    hint_ttl_ms = rng.choice([1_000, 60_000])
    timing = TimingConfig(
        **{one: getattr(TIMING, one) for one in TIMING.__struct_fields__ if one != "hint_ttl_ms"},
        hint_ttl_ms=1_000 if reaps else hint_ttl_ms,
    )
    drawn = Options(
        seed=seed,
        nodes=nodes,
        zones=rng.choice([0, 0, 0, 2, 3]),
        quorum=quorum,
        keys=rng.randint(1, 4),
        clients=rng.randint(1, 5),
        actions=_draw_actions(rng),
        actions_max=rng.randint(30, 120),
        think_s=rng.choice([0.005, 0.05, 0.2]),
        timeout_s=rng.choice([0.6, 1.5, 4.0]),
        latency_s=rng.choice([(0.0005, 0.002), (0.001, 0.02), (0.0001, 0.1)]),
        links=_draw_links(rng),
        skewed=rng.random() < 0.5,
        faults=faults,
        fault_interval_s=rng.choice([0.1, 0.3, 1.0]),
        expendable=expendable,
        timing=timing,
        repair=RepairConfig(
            compare_interval_ms=rng.choice([1_000, 3_000]),
            recheck_pause_ms=500,
            rebuild_interval_ms=rng.choice([2_000, 60_000]),
            reap_grace_ms=7_500 if reaps else 3_600_000,
            reap_interval_ms=500 if reaps else 0,
        ),
        clock_entries=2 * quorum.n + 4 if rng.random() < 0.2 else 100,
        gather_s=0.0,
        doors=tuple(names),
    )
    if random.Random(f"{seed} clocks").random() < 0.3:
        drawn.faults[Fault.CLOCK] = 1
    return _gather(rng, drawn) if rng.random() < 0.5 else drawn


def _gather(rng: random.Random, options: Options) -> Options:
    """Many clients, whose requests reach few nodes, several in one frame."""
    doors = rng.sample(options.names, rng.choice([1, 1, 2]))
    return replace(
        options,
        clients=rng.randint(6, 16),
        think_s=rng.choice([0.02, 0.1]),
        actions_max=3 * options.actions_max,
        timeout_s=rng.choice([1.5, 4.0]),
        gather_s=rng.choice([0.01, 0.1]),
        doors=tuple(doors),
    )


def _draw_quorum(rng: random.Random, nodes: int) -> QuorumConfig:
    n = rng.choice([one for one in (2, 3, 3, 3, 4, 5) if one <= nodes])
    if rng.random() < 0.6:
        r = w = n // 2 + 1
    else:
        r, w = rng.randint(1, n), rng.randint(1, n)
    return QuorumConfig(n, r, w, rng.choice(["strict", "sloppy"]))


def _draw_faults(rng: random.Random) -> dict[Fault, int]:
    share = rng.choice([0.0, 0.2, 0.4, 0.7])
    return {
        fault: rng.choice([1, 3])
        for fault in Fault
        if fault is not Fault.CLOCK and rng.random() < share
    }


def _draw_actions(rng: random.Random) -> dict[Action, int]:
    chosen = {action: rng.choice([1, 3]) for action in Action if rng.random() < 0.6}
    return chosen or {Action.READ_MODIFY_WRITE: 1}


def _draw_links(rng: random.Random) -> LinkQuality:
    if rng.random() < 0.4:
        return LinkQuality()
    return LinkQuality(
        loss=rng.choice([0.0, 0.01, 0.1]),
        duplicates=rng.choice([0.0, 0.05, 0.2]),
        stragglers=rng.choice([0.0, 0.05, 0.2]),
        straggle_s=rng.choice([0.02, 0.2, 1.0]),
    )
