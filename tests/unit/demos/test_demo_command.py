"""`kvctl demo` and `kvctl run` on the command line, and how a play is told."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from kvctl.cli.app import main
from kvctl.cli.output import Output, OutputFormat
from kvctl.demos import performance
from kvctl.demos.check import Finding, Verdict
from kvctl.demos.command import InProcessExecutor, Outcome
from kvctl.demos.narrator import Narrator
from kvctl.demos.rendering import command_line, output_lines
from kvctl.demos.runner import Result
from kvctl.demos.scenario import Scenario, parse_scenario
from kvctl.demos.stage import Stage, home_set_to, standing_stage
from kvctl.demos.variables import Variables
from kvctl.errors import ClusterNotFoundError, ContradictionError
from kvctl.text.escaping import printable


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("KVCTL_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("KVCTL_CLUSTER", raising=False)
    return tmp_path / "home"


def run(capfdbinary: pytest.CaptureFixture[bytes], *arguments: str) -> tuple[int, str, str]:
    code = main(arguments)
    out, err = capfdbinary.readouterr()
    return code, out.decode(), err.decode()


def test_without_a_name_the_demos_are_listed(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    code, out, _ = run(capfdbinary, "demo")
    assert code == 0
    assert "partition\tConflicting writes" in out
    code, out, _ = run(capfdbinary, "demo", "-o", "json")
    assert {"name", "summary"} == set(json.loads(out)["demos"][0])


def test_show_prints_the_file_as_it_is(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    code, out, _ = run(capfdbinary, "demo", "clocks", "--show")
    assert code == 0
    assert parse_scenario(out, source="shown").title


@pytest.mark.parametrize(
    "arguments",
    [("demo", "nothing"), ("demo", "--show"), ("demo", "--step"), ("run", "nothing.toml")],
    ids=" ".join,
)
def test_a_mistake_on_the_command_line_ends_with_two(
    capfdbinary: pytest.CaptureFixture[bytes], arguments: tuple[str, ...]
) -> None:
    code, out, err = run(capfdbinary, *arguments)
    assert (code, out) == (2, "")
    assert err.startswith("error: ")


def test_a_command_that_kvctl_does_not_have_is_found_before_anything_starts(
    capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    file = tmp_path / "mine.toml"
    file.write_text("title = 't'\n[[step]]\nrun = 'kvctl gett a'\n")
    code, _, err = run(capfdbinary, "run", str(file), "-c", "nowhere")
    assert code == 2
    assert "kvctl has no command 'gett'" in err
    assert "did you mean get" in err


def test_a_scenario_on_a_cluster_that_is_not_there_ends_with_five(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    code, _, err = run(capfdbinary, "demo", "partition", "-c", "nowhere")
    assert code == 5
    assert "nowhere" in err


def test_a_scenario_that_destroys_something_is_not_played_on_a_standing_cluster(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = "title='t'\n{}\n[cluster]\nnodes={}\nmode='{}'\n[[step]]\nsay='x'"

    class Directory:
        name = "mine"

    config = parse_scenario(text.format("", 3, "sloppy"), source="s").cluster.to_config()
    monkeypatch.setattr("kvctl.demos.stage.open_cluster", lambda name: (Directory, config))
    fits = parse_scenario(text.format("keys=['k']", 3, "sloppy"), source="s")
    stage = standing_stage(fits, "mine")
    assert stage.lives_on
    assert stage.keys["k"].startswith("k-")
    for head, nodes, mode in (
        ("own_cluster_only=true", 3, "sloppy"),
        ("", 4, "sloppy"),
        ("", 3, "strict"),
    ):
        with pytest.raises(ContradictionError):
            standing_stage(parse_scenario(text.format(head, nodes, mode), source="s"), "mine")


# ------------------------------------------------------------------ commands inside this process


def test_a_command_inside_this_process_leaves_the_streams_as_they_were() -> None:
    before = (sys.stdin, sys.stdout, sys.stderr)
    outcome = InProcessExecutor("nowhere").run(["get", "k", "-o", "json"], b"")
    assert (sys.stdin, sys.stdout, sys.stderr) == before
    assert outcome.code == 5
    assert outcome.document(["get", "k", "-o", "json"])["error"]["kind"] == "no_such_cluster"


def test_an_interrupted_command_interrupts_the_play(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("kvctl.demos.command.main", lambda arguments: 130)
    with pytest.raises(KeyboardInterrupt):
        InProcessExecutor("c").run(["ls"], b"")


class BrokenExecutor:
    """Interrupted at its first command; says so."""

    lines: ClassVar[list[str]] = []

    def __init__(self, cluster: str) -> None:
        assert cluster

    def run(self, arguments: Sequence[str], stdin: bytes) -> Outcome:
        self.lines.append(" ".join(arguments))
        if arguments[0] == "put":
            raise KeyboardInterrupt
        return Outcome(0, b"", "")


def test_an_interrupted_play_tidies_up_a_cluster_that_lives_on(
    monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes], tmp_path: Path
) -> None:
    monkeypatch.setattr(performance, "InProcessExecutor", BrokenExecutor)
    monkeypatch.setattr(
        performance, "standing_stage", lambda scenario, name: Stage(name, {}, [], lives_on=True)
    )
    file = tmp_path / "mine.toml"
    file.write_text("title='t'\n[[step]]\nrun='kvctl put a b'\n[[finally]]\nrun='kvctl heal'\n")
    code, _, _ = run(capfdbinary, "run", str(file), "-c", "mine")
    assert code == 130
    assert BrokenExecutor.lines == ["put a b", "heal"]


@pytest.mark.parametrize("before", [None, "/somewhere"])
def test_the_home_of_a_play_is_set_back_even_after_a_failure(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    monkeypatch.delenv("KVCTL_HOME")
    if before is not None:
        monkeypatch.setenv("KVCTL_HOME", before)
    with pytest.raises(ClusterNotFoundError), home_set_to("/nowhere"):
        assert os.environ["KVCTL_HOME"] == "/nowhere"
        raise ClusterNotFoundError("gone.")
    assert os.environ.get("KVCTL_HOME") == before


# ------------------------------------------------------------------ rendering


def test_a_long_value_from_a_variable_keeps_its_name() -> None:
    variables = Variables({"seen": "A" * 60, "node": "n1"})
    line = command_line(
        ["put", "a", "two words", "--context", "$seen", "--via", "$node"], variables
    )
    assert line == "kvctl put a 'two words' --context \"$seen\" --via n1"


def test_json_is_laid_out_one_field_a_line() -> None:
    document = {"version": [["n1", 2], ["n2", 1]], "context": "x" * 99, "degraded": True}
    outcome = Outcome(0, json.dumps(document).encode(), "")
    arguments = ["put", "a", "b", "-o", "json"]
    assert output_lines(outcome, arguments, None) == [
        "version   n1:2, n2:1",
        f"context   {'x' * 29}...",
        "degraded  yes",
    ]
    assert output_lines(outcome, arguments, ["version[0][0]"]) == ["version[0][0]  n1"]
    assert output_lines(outcome, arguments, ["hits"]) == ["hits  (there is no hits)"]
    assert output_lines(outcome, arguments, []) == []


def test_a_long_output_is_shown_in_part_and_an_error_as_a_sentence() -> None:
    long = Outcome(0, b"line\n" * 40, "a note.\n")
    lines = output_lines(long, ["scan"], None)
    assert lines[-2:] == ["... and 24 more lines", "a note."]
    refused = Outcome(3, b"", '{"error":{"code":3,"kind":"u","message":"no.","hint":""}}\n')
    assert output_lines(refused, ["put", "a", "b", "-o", "json"], None) == ["error: no."]


# ------------------------------------------------------------------ telling


def test_by_step_the_narrator_waits_for_enter_until_the_input_ends(
    capfdbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n"))
    narrator = Narrator(Output(OutputFormat.PLAIN), by_step=True)
    for number in range(1, 6):
        narrator.on_step(number, 5, f"words {number}")
    out, err = capfdbinary.readouterr()
    assert err.decode().count("Enter goes on") == 2, "once answered, once at the end of the input"
    assert [line for line in out.decode().splitlines() if line] == [
        f"{number}/5    words {number}" for number in range(1, 6)
    ]


def test_a_refuted_claim_is_told_with_what_was_found(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    narrator = Narrator(Output(OutputFormat.PLAIN), by_step=False)
    narrator.on_finding(Finding(1, "it is so", Verdict.NO, ["a"], "it should equal 1"))
    out, _ = capfdbinary.readouterr()
    assert [line.strip() for line in out.decode().splitlines()] == [
        "NO        it is so",
        "found a, it should equal 1",
    ]


def test_nothing_that_a_play_tells_drives_the_terminal(
    capfdbinary: pytest.CaptureFixture[bytes],
) -> None:
    told = []

    def evil() -> str:
        told.append(f"\x1b[2J\u202e\x9b<{len(told)}>")
        return told[-1]

    narrator = Narrator(Output(OutputFormat.PLAIN), by_step=False)
    narrator.opening(Scenario(title=evil(), question=evil(), steps=[]), [evil()])
    narrator.on_step(1, 1, evil())
    narrator.on_output(output_lines(Outcome(0, evil().encode(), evil()), ["get"], None))
    narrator.on_names({"a": evil()})
    narrator.on_finding(Finding(1, evil(), Verdict.NO, [evil()], evil()))
    narrator.closing(Result("", Verdict.HOLDS, evil(), 1, [], 0.1), evil())
    narrator.on_command(command_line(["put", "\x1b[2J"], Variables({})), 0.0)
    out, _ = capfdbinary.readouterr()
    assert out.decode().replace("\n", "").isprintable()
    for words in told:
        assert printable(words).encode() in out
    assert rb"$ kvctl put $'\033[2J" in out
