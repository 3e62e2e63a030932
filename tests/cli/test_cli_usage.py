"""The form of the command line itself: options, help, errors, exit codes."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
import typer.main

from kvctl.cli.app import COMMANDS, app
from kvctl.cli.guard import sentence, wants_json
from kvctl.errors import ClusterUnreachableError, ConflictError
from kvctl_node.errors import (
    IndeterminateError,
    OverloadedError,
    StoreError,
    UnavailableError,
    WrongContextError,
)
from tests.cli.cli_run import Command
from tests.cli.fake_client import FakeClient, stored

PATHS = sorted(
    [(name,) for name, entry in COMMANDS.items() if not entry.is_group]
    + [("config", name) for name in ("check", "show", "set", "explain")]
    + [("completion", name) for name in ("show", "install")]
)


@pytest.mark.parametrize("path", PATHS, ids=" ".join)
def test_every_command_explains_itself_and_each_of_its_options(
    path: tuple[str, ...], kvctl_command: Command
) -> None:
    outcome = kvctl_command(*path, "--help")
    assert outcome.code == 0
    assert "Usage: kvctl " + " ".join(path) in outcome.text
    command = typer.main.get_command(app)
    for name in path:
        command = command.get_command(None, name)  # type: ignore[attr-defined]
    for parameter in command.params:
        explanation = parameter.help  # type: ignore[attr-defined]
        assert explanation, f"{parameter.name} of {' '.join(path)} is not explained"


def test_the_summaries_in_the_table_are_the_first_lines_of_the_commands() -> None:
    root = typer.main.get_command(app)
    for name, entry in COMMANDS.items():
        command = root.get_command(None, name)  # type: ignore[attr-defined]
        assert command.help.splitlines()[0] == entry.summary, name


def test_help_lists_every_command_with_its_summary(kvctl_command: Command) -> None:
    outcome = kvctl_command("--help")
    assert outcome.code == 0
    for name, entry in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(entry.summary)}$", outcome.text, re.M), name


def test_kvctl_alone_shows_the_help_and_fails(kvctl_command: Command) -> None:
    outcome = kvctl_command()
    assert (outcome.code, outcome.stdout) == (2, b"")
    assert outcome.stderr.startswith("Usage: kvctl")


def test_version_works_before_and_after_a_command(kvctl_command: Command) -> None:
    assert kvctl_command("--version").text == "kvctl 0.1.0\n"
    assert kvctl_command("get", "--version", "k").text == "kvctl 0.1.0\n"


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("gte", "k"), "there is no command 'gte'.", "did you mean get?"),
        (("frobnicate",), "there is no command 'frobnicate'.", "kvctl --help lists the commands."),
        (("get", "k", "--explian"), "there is no option --explian.", "did you mean --explain?"),
        (("get",), "missing argument 'KEY'.", "kvctl get --help shows how it is used."),
        (
            ("get", "k", "--mode", "stric"),
            "invalid value for '--mode': 'stric' is not one of 'sloppy', 'strict'.",
            "kvctl get --help shows how it is used.",
        ),
        (
            ("get", "k", "--timeout", "soon"),
            "--timeout is not a duration: 'soon'.",
            "write a number and a unit, such as 200ms, 5s, 10m or 1h30m.",
        ),
        (("stop",), "no node was named.", "name nodes, or say --all."),
        (
            ("put", "k", "v", "--blind", "--context", "x"),
            "--blind and --context contradict each other.",
            "",
        ),
        (
            ("up", "--capacity", "n1"),
            "--capacity takes NAME=VALUE, not 'n1'.",
            "for example --capacity n1=2,n2=1.",
        ),
        (("up", "--fg", "--no-wait"), "--fg and --no-wait contradict each other.", ""),
        (("-c", "No", "get", "k"), "'No' is not a cluster name.", None),
    ],
)
def test_a_usage_error_is_one_sentence_a_hint_and_exit_code_2(
    arguments: tuple[str, ...], message: str, hint: str | None, kvctl_command: Command
) -> None:
    outcome = kvctl_command(*arguments)
    assert (outcome.code, outcome.stdout) == (2, b"")
    first, *rest = outcome.stderr.splitlines()
    assert first == f"error: {message}"
    if hint is not None:
        assert rest == ([f"hint: {hint}"] if hint else [])
    as_json = kvctl_command(*arguments, "-o", "json")
    assert as_json.code == 2
    assert as_json.error["code"] == 2
    assert as_json.error["message"] == message
    if hint is not None:
        assert as_json.error["hint"] == hint


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (UnavailableError("too few replicas."), 3, "unavailable"),
        (OverloadedError("too much at once."), 3, "overloaded"),
        (IndeterminateError("nobody knows."), 4, "indeterminate"),
        (ClusterUnreachableError("no node answers."), 5, "unreachable"),
        (ConflictError("siblings."), 6, "conflict"),
        (WrongContextError("of another key."), 2, "wrong_context"),
    ],
)
def test_each_failure_of_a_request_has_its_exit_code_and_kind(
    error: StoreError, code: int, kind: str, kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.failures["k"] = error
    outcome = kvctl_command("put", "k", "v")
    assert (outcome.code, outcome.stdout) == (code, b"")
    assert outcome.stderr == f"error: {error.message}\n"
    as_json = kvctl_command("-o", "jsonl", "put", "k", "v")
    assert as_json.code == code
    assert as_json.error == {"code": code, "kind": kind, "message": error.message, "hint": ""}


def test_no_cluster_is_exit_code_5_with_a_hint(kvctl_command: Command) -> None:
    outcome = kvctl_command("get", "k")
    assert outcome.code == 5
    assert outcome.stderr == "error: there is no cluster yet.\nhint: kvctl up starts one.\n"
    named = kvctl_command("get", "k", "-c", "shop", "-o", "json")
    assert named.code == 5
    assert named.error["kind"] == "no_such_cluster"


def test_global_options_after_the_command_win_over_those_before(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"v")
    assert kvctl_command("-o", "json", "get", "k").document["key"] == "k"
    assert kvctl_command("get", "k", "-o", "json").document["key"] == "k"
    assert kvctl_command("-o", "json", "get", "k", "-o", "plain").stdout == b"v"
    kvctl_command("-c", "a", "--timeout", "2s", "get", "k", "-c", "b")
    assert fake_client.connected == {"cluster": "b", "timeout_s": 2.0}


def test_a_group_of_commands_takes_global_options_too(kvctl_command: Command) -> None:
    for arguments in (
        ("-o", "json", "config", "explain", "r=1"),
        ("config", "-o", "json", "explain", "r=1"),
        ("config", "explain", "r=1", "-o", "json"),
    ):
        assert kvctl_command(*arguments).document["r"] == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_behind_stdout_is_a_sentence() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "kvctl", "config", "explain", "r=1"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr == "error: the output cannot be written: No space left on device.\n"


def test_an_interrupt_while_a_string_is_evaluated_ends_with_130_too(tmp_path: Path) -> None:
    """CPython remembers where ctrl-c came; ended by the signal, a script would not see 130."""
    (tmp_path / "interrupted.py").write_text(
        "from kvctl import __main__\n"
        "from kvctl.cli import app\n"
        "def run():\n"
        "    try:\n"
        "        exec('raise KeyboardInterrupt')\n"
        "    except KeyboardInterrupt:\n"
        "        return 130\n"
        "app.main = run\n"
        "__main__.main()\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "interrupted"], cwd=tmp_path, capture_output=True, check=False
    )
    assert (done.returncode, done.stderr) == (130, b"")


def test_a_traceback_appears_only_with_debug(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.failures["k"] = UnavailableError("too few replicas.")
    assert "Traceback" not in kvctl_command("get", "k").stderr
    assert "Traceback" in kvctl_command("get", "k", "--debug").stderr


def test_a_defect_is_a_sentence_too_unless_debug_is_given(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("Boom")

    monkeypatch.setattr("kvctl.client.connect", broken)
    outcome = kvctl_command("get", "k")
    assert outcome.code == 1
    assert outcome.stderr == (
        "error: kvctl itself failed: RuntimeError: Boom.\n"
        "hint: the same command with --debug shows where.\n"
    )
    assert "Traceback" in kvctl_command("get", "k", "--debug").stderr


def test_ctrl_c_ends_with_130(kvctl_command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("kvctl.client.connect", interrupted)
    outcome = kvctl_command("get", "k")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (130, b"", "")


def test_an_unreadable_configuration_file_is_a_usage_error(
    kvctl_command: Command, tmp_path: Path
) -> None:
    outcome = kvctl_command("up", "--config", str(tmp_path / "absent.toml"))
    assert outcome.code == 2
    assert "cannot read" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "json"),
    [
        (["get", "-o", "json"], True),
        (["-ojsonl", "get"], True),
        (["--output=json", "get"], True),
        (["get", "-o", "table"], False),
        (["get", "-o"], False),
        (["put", "k", "--", "-o", "json"], False),
    ],
)
def test_json_is_recognised_even_on_a_command_line_that_cannot_be_parsed(
    arguments: list[str], json: bool
) -> None:
    assert wants_json(arguments) is json


def test_sentences_start_small_and_end_with_a_stop() -> None:
    assert sentence("Missing  argument\n'KEY'") == "missing argument 'KEY'."
    assert sentence("JSON is wrong.") == "JSON is wrong."
