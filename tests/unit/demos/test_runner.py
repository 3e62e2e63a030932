"""How a play comes to its verdict, with scripted commands and a scripted clock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from kvctl.demos.check import Verdict
from kvctl.demos.command import Outcome
from kvctl.demos.narrator import SilentAudience
from kvctl.demos.runner import Result, Runner
from kvctl.demos.scenario import parse_scenario
from kvctl.errors import ExitCode

READ = """
title = "t"
[[step]]
run = "kvctl faults -o json"
require = [{ claim = "the fault hit", value = "sum(faults[*].hits)", at_least = 1 }]
[[step]]
run = "kvctl get cart -o json"
check = [{ claim = "both are there", value = "siblings[*].value", any_order = ["a", "b"] }]
"""
HIT: dict[str, Any] = {"faults": [{"hits": 0}, {"hits": 2}]}
UNHIT: dict[str, Any] = {"faults": [{"hits": 0}]}
BOTH: dict[str, Any] = {"siblings": [{"value": "b"}, {"value": "a"}]}
ONE: dict[str, Any] = {"siblings": [{"value": "a"}]}


class ScriptedExecutor:
    """Answers each command with what is next in its script; the last answer is repeated."""

    def __init__(self, **scripts: list[Outcome]) -> None:
        self._scripts = scripts
        self.lines: list[str] = []
        self.stdin: list[bytes] = []

    def run(self, arguments: Sequence[str], stdin: bytes) -> Outcome:
        self.lines.append(" ".join(arguments))
        self.stdin.append(stdin)
        script = self._scripts[arguments[0]]
        return script.pop(0) if len(script) > 1 else script[0]


class FakeClock:
    """Time passes only in pauses."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s

    def pause(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


def said(document: Any, code: int = 0) -> Outcome:
    return Outcome(code, json.dumps(document).encode() + b"\n", "")


def refused(code: int, kind: str) -> Outcome:
    error = {"error": {"code": code, "kind": kind, "message": "no.", "hint": ""}}
    return Outcome(code, b"", json.dumps(error) + "\n")


def runner_of(text: str, executor: ScriptedExecutor, clock: FakeClock | None = None) -> Runner:
    clock = clock or FakeClock()
    return Runner(
        parse_scenario(text, source="s", name="s"),
        executor,
        SilentAudience(),
        keys={"cart": "cart-1"},
        clock=clock,
        pause=clock.pause,
    )


def play(text: str, **scripts: list[Outcome]) -> Result:
    return runner_of(text, ScriptedExecutor(**scripts)).play()


def test_a_scenario_holds_when_every_check_does() -> None:
    result = play(READ, faults=[said(HIT)], get=[said(BOTH)])
    assert (result.verdict, result.verdict.exit_code) == (Verdict.HOLDS, ExitCode.DONE)
    assert [finding.claim for finding in result.checks] == ["the fault hit", "both are there"]


def test_a_refuted_claim_is_a_no_that_says_what_was_found() -> None:
    result = play(READ, faults=[said(HIT)], get=[said(ONE)])
    assert (result.verdict, result.verdict.exit_code) == (Verdict.NO, ExitCode.NO)
    assert result.reason == (
        'step 2, not so that both are there: found a, it should be, in any order, ["a","b"].'
    )


def test_a_fault_that_hit_nothing_leaves_it_undecided_and_ends_the_play() -> None:
    executor = ScriptedExecutor(faults=[said(UNHIT)], get=[said(ONE)])
    result = runner_of(READ, executor).play()
    assert (result.verdict, result.verdict.exit_code) == (Verdict.UNDECIDED, ExitCode.UNDECIDED)
    assert result.steps == 1
    assert executor.lines == ["faults -o json"]


@pytest.mark.parametrize(
    "answer",
    [
        refused(3, "unavailable"),
        refused(5, "unreachable"),
        refused(124, "timeout"),
        Outcome(0, b"not JSON\n", ""),
        said({"other": 1}),
    ],
    ids=["unavailable", "unreachable", "timeout", "no-json", "no-such-field"],
)
def test_where_nothing_was_read_nothing_is_decided(answer: Outcome) -> None:
    result = play(READ, faults=[said(HIT)], get=[answer])
    assert result.verdict is Verdict.UNDECIDED


def test_a_command_that_fails_without_an_expectation_leaves_it_undecided() -> None:
    text = "title='t'\n[[step]]\nrun='kvctl kill n9'\n[[step]]\nrun='kvctl ls'\nexit=0"
    result = play(text, kill=[Outcome(2, b"", "error: there is no node.\n")], ls=[said({})])
    assert result.verdict is Verdict.UNDECIDED
    assert result.reason == (
        "step 1, not so that kill n9 can be run: it ended with 2 (wrong usage), not 0 (done)."
    )


EXIT = "title='t'\n[[step]]\nrun='kvctl {command} cart -o json'\nexit = 3"


@pytest.mark.parametrize(
    ("command", "code", "verdict"),
    [
        ("put", 3, Verdict.HOLDS),
        ("put", 0, Verdict.NO),
        ("put", 4, Verdict.NO),
        ("put", 2, Verdict.UNDECIDED),
        ("put", 5, Verdict.UNDECIDED),
        ("get", 0, Verdict.NO),
    ],
)
def test_an_exit_code_that_is_claimed_is_a_check(command: str, code: int, verdict: Verdict) -> None:
    result = play(EXIT.format(command=command), **{command: [said({}, code)]})
    assert result.verdict is verdict
    assert len(result.checks) == 1


def test_a_read_that_is_refused_where_an_answer_was_claimed_read_nothing() -> None:
    text = "title='t'\n[[step]]\nrun='kvctl get cart -o json'\nexit = 6"
    assert play(text, get=[refused(3, "unavailable")]).verdict is Verdict.UNDECIDED
    assert play(text, get=[said(ONE)]).verdict is Verdict.NO


def test_the_error_of_a_refused_command_can_be_checked() -> None:
    text = EXIT.format(command="put") + (
        "\ncheck=[{claim='c', value='error.kind', equals='unavailable'}]"
    )
    assert play(text, put=[refused(3, "unavailable")]).verdict is Verdict.HOLDS
    assert play(text, put=[refused(3, "overloaded")]).verdict is Verdict.NO


def test_a_step_is_repeated_until_it_is_as_wanted_and_no_longer() -> None:
    clock = FakeClock()
    executor = ScriptedExecutor(
        faults=[said(UNHIT), refused(5, "unreachable"), said(HIT)], get=[said(BOTH)]
    )
    text = READ.replace("require =", "within = '10s'\nrequire =")
    result = runner_of(text, executor, clock).play()
    assert result.verdict is Verdict.HOLDS
    assert executor.lines.count("faults -o json") == 3
    assert clock.now_s < 101


def test_repeating_ends_when_its_time_is_over() -> None:
    clock = FakeClock()
    text = READ.replace("require =", "within = '2s'\nrequire =")
    executor = ScriptedExecutor(faults=[said(UNHIT)], get=[said(BOTH)])
    assert runner_of(text, executor, clock).play().verdict is Verdict.UNDECIDED
    assert 102 <= clock.now_s < 102.5


def test_values_taken_from_one_output_are_used_in_the_next_command_and_check() -> None:
    text = """
title = "t"
keys = ["cart"]
[[step]]
run = "kvctl where $cart -o json"
let = { a = "primaries[0]", b = "primaries[1]" }
[[step]]
run = "kvctl partition $a $b -o json"
check = [{ claim = "$a is cut from $b", value = "links", equals = [["$a", "$b"]] }]
"""
    executor = ScriptedExecutor(
        where=[said({"primaries": ["n3", "n1"]})], partition=[said({"links": [["n3", "n1"]]})]
    )
    result = runner_of(text, executor).play()
    assert executor.lines == ["where cart-1 -o json", "partition n3 n1 -o json"]
    assert (result.verdict, result.checks[0].claim) == (Verdict.HOLDS, "n3 is cut from n1")


def test_a_value_that_is_not_there_to_be_named_leaves_it_undecided() -> None:
    text = "title='t'\n[[step]]\nrun='kvctl where a -o json'\nlet={a='primaries[0]'}"
    result = play(text, where=[said({"primaries": []})])
    assert result.verdict is Verdict.UNDECIDED
    assert "nothing to call $a" in result.reason


def test_a_scenario_without_claims_tests_nothing() -> None:
    result = play("title='t'\n[[step]]\nrun='kvctl ls'", ls=[said({})])
    assert result.verdict is Verdict.UNDECIDED


def test_text_and_json_lines_can_be_checked() -> None:
    text = """
title = "t"
[[step]]
run = "kvctl conflicts"
check = [{ claim = "listed", value = "stdout", contains = "cart" }]
[[step]]
run = "kvctl events -o jsonl"
check = [{ claim = "one only", value = "[*].kind", equals = ["x"] }]
[[step]]
run = "kvctl events -o jsonl"
check = [{ claim = "none", value = "count([*].kind)", equals = 0 }]
"""
    result = play(
        text,
        conflicts=[Outcome(0, b"cart\tn1:2=a\n", "")],
        events=[said({"kind": "x"}), Outcome(0, b"", "")],
    )
    assert result.verdict is Verdict.HOLDS


TIDY = """
title = "t"
[[step]]
run = "kvctl partition n1 n2 -o json"
let = { fault = "id" }
[[step]]
run = "kvctl put a b"
exit = 0
[[step]]
run = "kvctl heal $fault"
[[finally]]
run = "kvctl heal $fault"
[[finally]]
run = "kvctl start --all"
"""


def test_tidying_up_undoes_what_the_play_left() -> None:
    executor = ScriptedExecutor(
        partition=[said({"id": "f1"})],
        put=[said({}, 3)],
        heal=[said({})],
        start=[Outcome(124, b"", "")],
    )
    runner = runner_of(TIDY, executor)
    assert runner.play().verdict is Verdict.NO
    assert runner.tidy_up() == ["kvctl start --all ended with 124."]
    assert executor.lines[2:] == ["heal f1", "start --all"]


def test_tidying_up_leaves_out_what_never_happened_or_was_undone_already() -> None:
    scripts = {"put": [said({})], "heal": [said({})], "start": [said({})]}
    undone = ScriptedExecutor(partition=[said({"id": "f1"})], **scripts)
    runner = runner_of(TIDY, undone)
    runner.play()
    runner.tidy_up()
    assert undone.lines.count("heal f1") == 1
    never = ScriptedExecutor(partition=[Outcome(2, b"", "")], **scripts)
    runner = runner_of(TIDY, never)
    runner.play()
    runner.tidy_up()
    assert never.lines == ["partition n1 n2 -o json", "start --all"]


def test_input_reaches_the_command() -> None:
    text = "title='t'\n[[step]]\nrun='kvctl load -'\nexit=0\ninput={count=2, line='$n'}"
    executor = ScriptedExecutor(load=[said({})])
    runner_of(text, executor).play()
    assert executor.stdin == [b"1\n2\n"]
