"""Scenario files: what is read from them, and what is said about mistakes in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvctl.cli.app import COMMANDS
from kvctl.demos.library import scenario_names, scenario_text, shipped_scenario
from kvctl.demos.scenario import (
    SCENARIO_BYTES_MAX,
    STEPS_MAX,
    ScenarioError,
    load_scenario,
    parse_scenario,
)
from kvctl.demos.stage import Timing, faster
from kvctl.demos.variables import Variables, names_in
from kvctl.errors import exit_code_of
from kvctl_node.config import TimingConfig
from kvctl_node.errors import ConfigError, InvalidRequestError

GOOD = """
title = "A title"
keys = ["cart"]

[cluster]
nodes = 4
mode = "strict"

[cluster.timing]
gossip_interval_ms = 500

[[step]]
say = "Who owns $cart?"
run = "kvctl where $cart -o json"
let = { a = "primaries[0]" }

[[step]]
run = "kvctl put $cart 'two words' --via $a"
within = "10s"

[[step.check]]
claim = "$a took part"
value = "acked"
contains = "$a"

[[finally]]
run = "kvctl start $a"
"""


def complaint(text: str) -> ScenarioError:
    with pytest.raises(ScenarioError) as caught:
        parse_scenario(text, source="mine.toml")
    error = caught.value
    assert error.message.startswith("mine.toml")
    assert error.message.endswith(".")
    assert exit_code_of(error) == 2
    return error


def with_step(step: str) -> str:
    return f'title = "t"\nkeys = ["cart"]\n[[step]]\nsay = "first"\n\n[[step]]\n{step}\n'


def test_a_scenario_is_read_with_its_cluster_steps_and_variables() -> None:
    scenario = parse_scenario(GOOD, source="mine.toml", name="mine")
    assert scenario.name == "mine"
    config = scenario.cluster.to_config()
    assert [spec.name for spec in config.nodes] == ["n1", "n2", "n3", "n4"]
    assert config.quorum.mode == "strict"
    assert config.timing.gossip_interval_ms == 500
    assert scenario.steps[1].arguments == ["put", "$cart", "two words", "--via", "$a"]
    assert scenario.steps[1].within_s == 10.0
    assert scenario.finally_[0].arguments == ["start", "$a"]


@pytest.mark.parametrize(
    ("step", "words"),
    [
        ("run = 7", "step 2 (line 6): run: expected `str`, got `int`."),
        ("rnu = 'kvctl ls'", "step 2 (line 6): object contains unknown field `rnu`."),
        ("", "step 2 (line 6): there is neither say nor run in it."),
        ("run = 'ls'", "step 2 (line 6): 'ls' is not a kvctl command."),
        ("run = 'kvctl'", "step 2 (line 6): 'kvctl' is not a kvctl command."),
        ('run = "kvctl get \'a"', "cannot be split into words"),
        ("run = 'kvctl down'", "kvctl down cannot stand in a scenario."),
        ("run = 'kvctl -c other get a'", "kvctl -c cannot stand in a scenario."),
        ("run = 'kvctl get a -c other'", "a scenario is played on one cluster."),
        ("run = 'kvctl events -f'", "-f never ends by itself."),
        ("run = 'kvctl get $nobody'", "nothing has been called $nobody so far."),
        ("run = 'kvctl get a'\nwithin = 'soon'", "within is not a duration: 'soon'."),
        ("run = 'kvctl get $'", "begins no name"),
        ("say = 'x'\nexit = 0", "it looks at an output, but runs no command."),
        ("run = 'kvctl get a'\nlet = { A = 'key' }", "'A' is no name for a variable."),
        ("run = 'kvctl get a'\nlet = { a = 'b c' }", "'b c' cannot be read from ' c' on."),
        ("run = 'kvctl get a'\nshow = ['[']", "cannot be read"),
        ("run = 'kvctl get a'\ncheck = [{ claim = 'c', value = 'v' }]", "exactly one comparison"),
        ("run = 'kvctl load -'\ninput = { count = 0, line = 'x' }", "input.count must be from 1"),
        ("run = 'kvctl load -'\ninput = { count = 1, line = '$x' }", "nothing has been called $x"),
        (
            "run = 'kvctl get a'\n[[step.check]]\nclaim = 'c'\nvalue = 'v'\nat_least = 'many'",
            "step 2 (line 6): check[0].at_least: ",
        ),
    ],
)
def test_a_mistake_in_a_step_is_told_with_its_number_and_line(step: str, words: str) -> None:
    message = complaint(with_step(step)).message
    assert "step 2 (line 6): " in message
    assert words in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("title = 't'\nstep = [}", "(at line 2, column 9)"),
        ("title = 't'", "missing required field `step`"),
        ("title = 't'\nstep = []", "there is no step in it"),
        ("title = 't'\ntitel = 'u'\n[[step]]\nsay = 'x'", "unknown field `titel`"),
        ("title = 't'\n[cluster]\nnodes = 'five'\n[[step]]\nsay = 'x'", "`cluster.nodes`"),
        ("title = 't'\n[cluster]\nnodes = 2\n[[step]]\nsay = 'x'", "N=3 replicas need"),
        ("title = 't'\n[cluster.zone]\nn9 = 'a'\n[[step]]\nsay = 'x'", "no node 'n9'"),
        ("title = 't'\nkeys = ['no-name']\n[[step]]\nsay = 'x'", "no name for a key"),
        ("title = 't'\nconclusion = '$x'\n[[step]]\nsay = 'x'", "nothing has been called $x"),
        (
            "title = 't'\n[[step]]\nsay = 'x'\n[[finally]]\nrun = 'kvctl heal $x'",
            "finally 1 (line 4): nothing has been called $x",
        ),
        ("title = 't'\n" + "[[step]]\nsay = 'x'\n" * (STEPS_MAX + 1), "at most 200"),
    ],
)
def test_a_mistake_elsewhere_is_told_in_a_sentence(text: str, words: str) -> None:
    assert words in complaint(text).message


def test_a_variable_is_known_only_after_it_was_taken() -> None:
    later = "[[step]]\nrun = 'kvctl where a -o json'\nlet = { a = 'primaries[0]' }\n"
    early = "[[step]]\nrun = 'kvctl kill $a'\n"
    assert parse_scenario(f"title = 't'\n{later}{early}", source="s").steps
    assert "step 1 (line 2)" in complaint(f"title = 't'\n{early}{later}").message


def test_a_file_that_cannot_be_read_is_told_by_its_path(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"cannot read .*nothing.toml: No such file"):
        load_scenario(tmp_path / "nothing.toml")
    (tmp_path / "bytes.toml").write_bytes(b"title = '\xff'")
    with pytest.raises(ScenarioError, match="is not UTF-8"):
        load_scenario(tmp_path / "bytes.toml")
    (tmp_path / "large.toml").write_bytes(b"#" * (SCENARIO_BYTES_MAX + 1))
    with pytest.raises(ScenarioError, match="is larger than"):
        load_scenario(tmp_path / "large.toml")


def test_lines_of_input_count_from_one() -> None:
    text = with_step("run = 'kvctl load -'\ninput = { count = 2, line = '$cart-$n costs $$1' }")
    source = parse_scenario(text, source="s").steps[1].input
    assert source is not None
    assert source.render(Variables({"cart": "c"})) == b"c-1 costs $1\nc-2 costs $1\n"


def test_variables_keep_their_kind_where_they_stand_alone() -> None:
    variables = Variables({"a": ["n1", "n2"], "b": 3})
    assert variables.fill_all(["$a", "$b", "x$b"]) == [["n1", "n2"], 3, "x3"]
    assert variables.fill("$a $$b") == "n1,n2 $b"
    assert names_in("$a and $$b and $c") == ["a", "c"]
    with pytest.raises(ConfigError):
        names_in("costs $5")


def test_fast_timing_keeps_what_the_intervals_owe_each_other() -> None:
    quick = faster(TimingConfig())
    quick.validate()
    assert quick.suspect_after_ms * 4 == TimingConfig().suspect_after_ms
    assert quick.replica_timeout_ms == TimingConfig().replica_timeout_ms
    assert Timing("fast") is Timing.FAST


@pytest.mark.parametrize("name", scenario_names())
def test_a_shipped_scenario_is_complete(name: str) -> None:
    scenario = shipped_scenario(name)
    assert scenario.name == name
    assert scenario.summary and scenario.question and scenario.conclusion
    assert len(scenario.summary) < 100
    assert any(step.check or step.exit is not None for step in scenario.steps)
    for step in (*scenario.steps, *scenario.finally_):
        if step.run:
            assert step.arguments[0] in COMMANDS


@pytest.mark.parametrize("name", scenario_names())
def test_a_shipped_scenario_that_injects_faults_demands_that_they_hit(name: str) -> None:
    scenario = shipped_scenario(name)
    commands = {step.arguments[0] for step in scenario.steps if step.run}
    if commands & {"partition", "isolate", "link"}:
        required = [one.value for step in scenario.steps for one in step.require]
        assert "sum(faults[*].hits)" in required


def test_the_demos_that_are_promised_are_there() -> None:
    assert {
        "partition",
        "handoff",
        "merkle",
        "strict-vs-sloppy",
        "two-observers",
        "clocks",
    } <= set(scenario_names())


def test_an_unknown_demo_is_refused_with_the_nearest_name() -> None:
    with pytest.raises(InvalidRequestError) as caught:
        scenario_text("partitoin")
    assert "did you mean partition?" in caught.value.hint
