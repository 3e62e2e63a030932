"""config check, show, set and explain, and the sample configurations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.cli.guarantees import explain
from kvctl.cluster.facts import QuorumChange
from kvctl.cluster.supervisor import Supervisor
from kvctl_node.config import QuorumConfig, load_config
from tests.cli.cli_run import Command
from tests.cli.stopped_cluster import make_cluster

SAMPLES = Path(__file__).parents[2] / "sample_configs"
EXPECTED = {
    "single": (1, QuorumConfig(1, 1, 1)),
    "three": (3, QuorumConfig(3, 2, 2)),
    "five-zones": (5, QuorumConfig(3, 2, 2)),
    "tiny-memtable": (3, QuorumConfig(3, 2, 2)),
    "strict": (5, QuorumConfig(3, 2, 2, "strict")),
}


@st.composite
def quorums(draw: st.DrawFn) -> QuorumConfig:
    n = draw(st.integers(1, 7))
    sizes = st.integers(1, n)
    return QuorumConfig(n, draw(sizes), draw(sizes), draw(st.sampled_from(["strict", "sloppy"])))


def test_there_is_a_sample_for_every_expectation_and_no_other() -> None:
    assert {path.stem for path in SAMPLES.glob("*.toml")} == set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_every_sample_configuration_is_valid_and_says_what_it_is(
    name: str, kvctl_command: Command
) -> None:
    path = SAMPLES / f"{name}.toml"
    nodes, quorum = EXPECTED[name]
    config = load_config(path)
    assert (len(config.nodes), config.quorum) == (nodes, quorum)
    assert path.read_text().startswith("# "), "a sample begins by saying what it is for"
    assert f"kvctl up --config sample_configs/{name}.toml" in path.read_text()
    document = kvctl_command("config", "check", str(path), "-o", "json").document
    assert document["valid"] is True
    assert len(document["nodes"]) == nodes


def test_check_exits_with_1_and_names_the_file_if_it_is_wrong(
    kvctl_command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "wrong.toml"
    file.write_text('[quorum]\nr = 9\n[[nodes]]\nname = "n1"\n')
    outcome = kvctl_command("config", "check", str(file))
    assert outcome.code == 1
    assert str(file) in outcome.stderr
    assert "R must be between 1 and N=3, not 9" in outcome.stderr
    assert kvctl_command("config", "check", str(tmp_path / "absent.toml")).code == 2


def test_explain_needs_no_cluster_and_names_what_holds(kvctl_command: Command) -> None:
    outcome = kvctl_command("config", "explain", "n=3", "r=1", "w=1", "mode=strict", "-o", "json")
    assert outcome.code == 0
    document = outcome.document
    assert (document["n"], document["r"], document["w"], document["mode"]) == (3, 1, 1, "strict")
    assert (document["read_failures_tolerated"], document["write_failures_tolerated"]) == (2, 2)
    holds = {each["name"]: each["holds"] for each in document["guarantees"]}
    assert holds["read_your_writes"] is False
    assert holds["one_side_writes"] is False
    assert holds["acknowledged_writes_survive_a_lost_disk"] is False
    assert "R+W = 2 is not more than N = 3" in kvctl_command("config", "explain", "r=1", "w=1").text


def test_explain_takes_what_is_not_said_from_the_cluster(kvctl_command: Command) -> None:
    make_cluster("shop", QuorumConfig(5, 4, 2, "strict"))
    document = kvctl_command("config", "explain", "w=3", "-o", "json").document
    assert (document["n"], document["r"], document["w"], document["mode"]) == (5, 4, 3, "strict")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("explain", "r=4"), "R must be between 1 and N=3, not 4."),
        (("explain", "x=1"), "there is no setting 'x'."),
        (("explain", "r"), "r has no value."),
        (("explain", "r=two"), "r must be a whole number, not 'two'."),
        (("explain", "r=1", "r=2"), "r is given two values."),
        (("explain", "n=0"), "n must be at least 1, not 0."),
        (("explain", "mode=lax"), "mode must be strict or sloppy, not 'lax'."),
        (("explain", "durability=ram"), "durability must be os or fsync, not 'ram'."),
        (("set", "durability=os"), "there is no setting 'durability'."),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    arguments: tuple[str, ...], message: str, kvctl_command: Command
) -> None:
    outcome = kvctl_command("config", *arguments)
    assert outcome.code == 2
    assert outcome.stderr.startswith(f"error: {message}\n")


@given(quorums())
def test_reads_see_writes_exactly_when_strict_quorums_overlap(quorum: QuorumConfig) -> None:
    holds = {each.name: each.holds for each in explain(quorum).guarantees}
    overlap = quorum.r + quorum.w > quorum.n
    assert holds["read_your_writes"] == (overlap and (quorum.mode == "strict" or quorum.n == 1))
    assert holds["one_side_writes"] == (quorum.mode == "strict" and 2 * quorum.w > quorum.n)
    assert holds["acknowledged_writes_survive_a_lost_disk"] == (quorum.w > 1)


@given(quorums(), st.sampled_from(["os", "fsync"]))
def test_failures_tolerated_are_what_a_quorum_leaves_over(
    quorum: QuorumConfig, durability: str
) -> None:
    explanation = explain(quorum, durability)
    assert explanation.read_failures_tolerated == quorum.n - quorum.r
    assert explanation.write_failures_tolerated == quorum.n - quorum.w
    holds = {each.name: each.holds for each in explanation.guarantees}
    assert holds["acknowledged_writes_survive_power_loss"] == (durability == "fsync")


def test_show_prints_the_configuration_the_cluster_uses(kvctl_command: Command) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    document = kvctl_command("config", "show", "-o", "json").document
    assert document["quorum"] == {"n": 3, "r": 2, "w": 2, "mode": "sloppy"}
    assert "nodes.n1.client_port\t7001" in kvctl_command("config", "show").text.splitlines()


def test_set_passes_r_w_and_mode_on_and_reports_who_confirmed(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    asked: dict[str, Any] = {}

    def set_quorum(self: Supervisor, name: str, **wanted: Any) -> QuorumChange:
        asked.update(wanted, name=name)
        return QuorumChange(
            quorum=QuorumConfig(3, 1, 3, "strict"), confirmed=("n1", "n2"), unconfirmed=("n3",)
        )

    monkeypatch.setattr(Supervisor, "set_quorum", set_quorum)
    outcome = kvctl_command("config", "set", "r=1", "w=3", "mode=strict", "-o", "json")
    assert asked == {"name": "shop", "n": None, "r": 1, "w": 3, "mode": "strict"}
    assert outcome.code == 1, "one node did not confirm"
    assert outcome.document["quorum"] == {"n": 3, "r": 1, "w": 3, "mode": "strict"}
    assert "n3 did not confirm" in outcome.stderr


def test_n_cannot_be_changed_live(kvctl_command: Command) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    outcome = kvctl_command("config", "set", "n=5")
    assert outcome.code == 2
    assert "N of the cluster shop is 3" in outcome.stderr
