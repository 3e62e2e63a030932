"""The cluster a scenario is played on: one made for it, or one that is there.

Its own cluster lives in a temporary home and is removed at the end, after a failure and after
Ctrl-C, too, and by its guard even if this process is killed. While it is played, `KVCTL_HOME` of
this process points there, so that every command finds that cluster and no other.

On a cluster that is there, the scenario's keys get names nobody else uses, nothing is stopped at
the end, and its `[[finally]]` steps undo what it did to the nodes and links.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum

import msgspec

from kvctl.cluster.directory import open_cluster
from kvctl.cluster.local_cluster import Cluster
from kvctl.demos.scenario import Scenario
from kvctl.errors import ContradictionError
from kvctl.text.escaping import quoted
from kvctl_node.config import ClusterConfig, TimingConfig

FAST = 4
"""By what `fast` divides the intervals of gossip, failure detection and handoff."""
HOME_VARIABLE = "KVCTL_HOME"


class Timing(StrEnum):
    """How quick a scenario's own cluster notices things."""

    REAL = "real"
    FAST = "fast"


@dataclass(frozen=True, slots=True)
class Stage:
    """A running cluster, ready for a scenario."""

    cluster: str
    keys: dict[str, str]
    """Key name of the scenario → the key itself."""
    sentences: list[str]
    """About the cluster, for people."""
    lives_on: bool
    """True if it is there after the play, so that what was done to it has to be undone."""


@contextmanager
def own_stage(scenario: Scenario, timing: Timing, *, timeout_s: float) -> Iterator[Stage]:
    """Make a cluster for the scenario, and remove it afterwards. Raises what `up` raises."""
    config = scenario.cluster.to_config()
    if timing is Timing.FAST:
        config = msgspec.structs.replace(config, timing=faster(config.timing))
    with Cluster(config=config, timeout_s=timeout_s) as cluster, home_set_to(str(cluster.home)):
        sentences = [
            f"On a cluster of its own, removed at the end: {_words(cluster.config)}.",
            "To watch it from another terminal: "
            f"{HOME_VARIABLE}={quoted(str(cluster.home))} kvctl dashboard",
        ]
        yield Stage(cluster.name, {key: key for key in scenario.keys}, sentences, lives_on=False)


def standing_stage(scenario: Scenario, name: str) -> Stage:
    """A cluster that is there. Raises `ClusterNotFoundError`, and `ContradictionError` if the
    scenario is about another sort of cluster.
    """
    directory, config = open_cluster(name)
    _check_fits(scenario, config)
    mark = secrets.token_hex(3)
    return Stage(
        directory.name,
        {key: f"{key}-{mark}" for key in scenario.keys},
        [f"On the cluster {directory.name}: {_words(config)}."],
        lives_on=True,
    )


def faster(timing: TimingConfig) -> TimingConfig:
    """The same intervals, all of them shorter; how long a request may take stays as it is."""
    return msgspec.structs.replace(
        timing,
        gossip_interval_ms=max(1, timing.gossip_interval_ms // FAST),
        suspect_after_ms=timing.suspect_after_ms // FAST,
        link_dead_after_ms=timing.link_dead_after_ms // FAST,
        handoff_interval_ms=max(1, timing.handoff_interval_ms // FAST),
    )


def _check_fits(scenario: Scenario, config: ClusterConfig) -> None:
    wanted, quorum = scenario.cluster, config.quorum
    if scenario.own_cluster_only:
        raise ContradictionError(
            f"{scenario.name} is only played on a cluster of its own.",
            hint="leave -c out; it destroys data, or needs a cluster without a past.",
        )
    if len(config.nodes) < wanted.nodes:
        raise ContradictionError(
            f"{scenario.name} needs {wanted.nodes} nodes, and {config.name} has "
            f"{len(config.nodes)}.",
            hint="without -c it is played on a cluster of its own.",
        )
    for letter, asked, there in (
        ("n", wanted.replicas, quorum.n),
        ("r", wanted.r, quorum.r),
        ("w", wanted.w, quorum.w),
        ("mode", wanted.mode, quorum.mode),
    ):
        if asked != there:
            raise ContradictionError(
                f"{scenario.name} is about {letter}={asked}, and {config.name} has {there}.",
                hint="without -c it is played on a cluster of its own"
                + ("." if letter == "n" else f"; kvctl config set {letter}={asked} changes it."),
            )


def _words(config: ClusterConfig) -> str:
    quorum = config.quorum
    names = [spec.name for spec in config.nodes]
    return (
        f"{len(names)} nodes, {names[0]} to {names[-1]}, N={quorum.n} R={quorum.r} W={quorum.w}, "
        f"{quorum.mode}"
    )


@contextmanager
def home_set_to(path: str) -> Iterator[None]:
    """`KVCTL_HOME` of this process points to `path` for the length of a `with` block."""
    before = os.environ.get(HOME_VARIABLE)
    os.environ[HOME_VARIABLE] = path
    try:
        yield
    finally:
        if before is None:
            del os.environ[HOME_VARIABLE]
        else:
            os.environ[HOME_VARIABLE] = before
