"""`up` merges options with what a cluster was made with, or names the contradiction."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.cluster.options import (
    UpOptions,
    check_contradictions,
    new_config,
    number_ports,
    overlay,
)
from kvctl.errors import ContradictionError, exit_code_of
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig
from kvctl_node.errors import ConfigError


def made_with(options: UpOptions | None = None) -> ClusterConfig:
    return new_config("shop", options or UpOptions())[0]


def test_without_options_a_cluster_has_five_nodes_and_a_majority_quorum() -> None:
    config, announcements = new_config("shop", UpOptions())
    assert [spec.name for spec in config.nodes] == ["n1", "n2", "n3", "n4", "n5"]
    assert config.quorum == QuorumConfig(n=3, r=2, w=2, mode="sloppy")
    assert announcements == ()


@pytest.mark.parametrize(("nodes", "n", "majority"), [(1, 1, 1), (2, 2, 2), (3, 3, 2), (9, 3, 2)])
def test_small_clusters_get_as_many_replicas_as_nodes_and_a_majority(
    nodes: int, n: int, majority: int
) -> None:
    config, announcements = new_config("shop", UpOptions(nodes=nodes))
    assert config.quorum == QuorumConfig(n=n, r=majority, w=majority)
    assert bool(announcements) == (nodes < 3)


def test_the_announcement_of_a_small_cluster_names_the_quorum_it_was_given() -> None:
    _, announcements = new_config("shop", UpOptions(nodes=2, w=1))
    assert "N=2, R=2, W=1" in announcements[0]


def test_a_larger_replica_count_gets_its_own_majority_and_a_long_enough_clock() -> None:
    config = made_with(UpOptions(nodes=12, replicas=11))
    assert (config.quorum.r, config.quorum.w) == (6, 6)
    assert config.limits.clock_entries >= 2 * 11 + 4


@pytest.mark.parametrize(
    "options",
    [
        UpOptions(nodes=0),
        UpOptions(nodes=2, replicas=3),
        UpOptions(w=4),
        UpOptions(mode="loose"),
        UpOptions(durability="none"),
        UpOptions(capacity={"n9": 2.0}),
        UpOptions(zone={"n9": "a"}),
        UpOptions(nodes=5, base_port=65530),
    ],
)
def test_impossible_options_are_refused_with_a_usage_error(options: UpOptions) -> None:
    with pytest.raises(ConfigError) as caught:
        new_config("shop", options)
    assert exit_code_of(caught.value) == 2


def test_a_node_count_that_contradicts_the_file_is_refused() -> None:
    file = ClusterConfig(nodes=tuple(NodeSpec(name=name) for name in ("a", "b", "c")))
    assert len(made_with(UpOptions(config=file, nodes=3)).nodes) == 3
    with pytest.raises(ContradictionError, match="-n 4"):
        new_config("shop", UpOptions(config=file, nodes=4))


def test_options_take_precedence_over_the_file() -> None:
    file = ClusterConfig(nodes=tuple(NodeSpec(name=name) for name in ("a", "b", "c")))
    config = made_with(UpOptions(config=file, r=1, capacity={"b": 2.0}, durability="fsync"))
    assert config.quorum.r == 1
    assert config.node("b").capacity == 2.0
    assert config.storage.durability == "fsync"


CONTRADICTIONS = [
    (UpOptions(nodes=4), "-n 4"),
    (UpOptions(replicas=2), "--replicas 2"),
    (UpOptions(r=1), "-r 1"),
    (UpOptions(w=3), "-w 3"),
    (UpOptions(mode="strict"), "--mode strict"),
    (UpOptions(durability="fsync"), "--durability fsync"),
    (UpOptions(partitions=64), "--partitions 64"),
    (UpOptions(capacity={"n2": 2.0}), "--capacity n2 2.0"),
    (UpOptions(zone={"n1": "a"}), "--zone n1 a"),
    (UpOptions(base_port=7000), "--base-port 7000"),
    (UpOptions(ephemeral=True), "--ephemeral True"),
]


@pytest.mark.parametrize(("options", "named"), CONTRADICTIONS)
def test_an_option_that_contradicts_the_cluster_is_refused_by_name(
    options: UpOptions, named: str
) -> None:
    with pytest.raises(ContradictionError) as caught:
        check_contradictions(made_with(), options, ephemeral=False)
    assert caught.value.message.startswith(named)
    assert exit_code_of(caught.value) == 2


def test_options_that_repeat_what_the_cluster_has_are_fine() -> None:
    made = UpOptions(
        nodes=4,
        replicas=3,
        r=1,
        w=3,
        mode="strict",
        durability="fsync",
        partitions=64,
        base_port=7000,
        capacity={"n1": 2.0},
        zone={"n1": "a"},
        ephemeral=True,
    )
    check_contradictions(made_with(made), made, ephemeral=True)
    check_contradictions(made_with(made), UpOptions(), ephemeral=True)


def test_the_file_a_cluster_was_made_with_does_not_contradict_it() -> None:
    file = ClusterConfig(nodes=tuple(NodeSpec(name=name) for name in ("a", "b", "c")))
    config = overlay(file, UpOptions(base_port=7000))
    check_contradictions(config, UpOptions(config=file), ephemeral=False)


def test_a_changed_file_is_refused_by_the_field_that_changed() -> None:
    file = ClusterConfig(nodes=tuple(NodeSpec(name=name) for name in ("a", "b", "c")))
    changed = ClusterConfig(nodes=file.nodes, quorum=QuorumConfig(r=3))
    with pytest.raises(ContradictionError, match=r"quorum\.r 3"):
        check_contradictions(file, UpOptions(config=changed), ephemeral=False)
    fewer = ClusterConfig(nodes=file.nodes[:2], quorum=QuorumConfig(n=2))
    with pytest.raises(ContradictionError, match="nodes a,b "):
        check_contradictions(file, UpOptions(config=fewer), ephemeral=False)


@given(nodes=st.integers(1, 12), base=st.integers(1, 65_000))
def test_numbered_ports_are_distinct_and_consecutive(nodes: int, base: int) -> None:
    specs = number_ports(tuple(NodeSpec(name=f"n{i}") for i in range(nodes)), base)
    ports = [p for spec in specs for p in (spec.client_port, spec.peer_port, spec.event_port)]
    assert ports == list(range(base, base + 3 * nodes))


@given(
    nodes=st.integers(1, 9),
    replicas=st.none() | st.integers(1, 9),
    r=st.none() | st.integers(0, 9),
    w=st.none() | st.integers(0, 9),
)
def test_a_configuration_is_either_valid_or_refused(
    nodes: int, replicas: int | None, r: int | None, w: int | None
) -> None:
    options = UpOptions(nodes=nodes, replicas=replicas, r=r, w=w)
    try:
        config, _ = new_config("shop", options)
    except ConfigError:
        return
    config.validate()
    check_contradictions(config, options, ephemeral=False)
