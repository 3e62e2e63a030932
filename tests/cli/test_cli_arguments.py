"""Arguments as a shell may pass them: bytes that are no UTF-8, thousands of digits, nothing."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
import typer
import typer.main

from kvctl.cli.app import COMMANDS, app
from kvctl.cli.invocation import GlobalOptions
from kvctl.cluster.directory import cluster_directory
from kvctl.cluster.locking import hold_lock, read_holder
from kvctl.errors import HomeError, NodeStartError
from kvctl_node.config import QuorumConfig
from tests.cli.cli_run import Command
from tests.cli.stopped_cluster import make_cluster

NOT_UTF_8 = "\udcff"
"""The byte 0xff, as Python hands it over."""
ODD = {
    "not UTF-8": NOT_UTF_8,
    "digits": "9" * 5000,
    "empty": "",
    "escapes": "\x1b[2J\n",
}
GLOBAL = {each.name for each in fields(GlobalOptions)}
"""Options that every command has: tried with one of them."""


def every_place() -> Iterator[tuple[str, ...]]:
    """Every argument and option of every command: the words that come before the odd one."""
    root: Any = typer.main.get_command(app)
    for name in COMMANDS:
        command = root.get_command(None, name)
        inner = getattr(command, "commands", {})
        commands = {(name, one): inner[one] for one in inner} or {(name,): command}
        for path, each in commands.items():
            required = [
                parameter
                for parameter in each.params
                if parameter.param_type_name == "argument" and parameter.required
            ]
            yield path
            for parameter in each.params:
                tried = parameter.name not in GLOBAL or path == ("status",)
                if parameter.param_type_name == "option" and not parameter.is_flag and tried:
                    fitting = ["n1"] * len(required)
                    yield (*path, *fitting, parameter.opts[-1])
            for count in range(1, len(required)):
                yield (*path, *["n1"] * count)


@pytest.fixture
def stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A cluster that does not run and cannot be started, for a user who has nothing."""
    make_cluster("shop", QuorumConfig(3, 2, 2))

    def spawn(*_: object, **__: object) -> None:
        raise NodeStartError("nothing is started here.")

    monkeypatch.setattr("kvctl.cluster.spawn.spawn_detached", spawn)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SHELL", "/bin/bash")
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("before", list(every_place()), ids=" ".join)
@pytest.mark.usefixtures("stopped")
def test_no_argument_is_ever_a_defect(before: tuple[str, ...], kvctl_command: Command) -> None:
    for odd in ODD.values():
        outcome = kvctl_command(*before, odd, "--timeout", "50ms", "-o", "json", stdin=b"")
        assert "itself failed" not in outcome.stderr
        assert outcome.text == "" or outcome.lines


@pytest.mark.parametrize(
    "arguments",
    [
        ("kill", NOT_UTF_8),
        ("start", NOT_UTF_8),
        ("heal", NOT_UTF_8),
        ("partition", NOT_UTF_8, "n1"),
        ("link", NOT_UTF_8, "--drop"),
        ("up", "--zone", f"n1={NOT_UTF_8}"),
        ("config", "set", f"r={NOT_UTF_8}"),
        ("where", NOT_UTF_8),
        ("put", NOT_UTF_8, "v"),
        ("-c", NOT_UTF_8, "status"),
        ("logs", NOT_UTF_8),
        ("load", NOT_UTF_8),
        ("config", "check", NOT_UTF_8),
        ("get", "k", "-r", "9" * 5000),
        ("config", "set", "r=" + "9" * 5000),
    ],
    ids=lambda arguments: ascii(" ".join(arguments))[:40],
)
@pytest.mark.usefixtures("stopped")
def test_what_cannot_be_meant_is_refused_in_one_sentence(
    arguments: tuple[str, ...], kvctl_command: Command
) -> None:
    outcome = kvctl_command(*arguments)
    assert (outcome.code, outcome.stdout) == (2, b"")
    assert outcome.stderr.startswith("error: ")
    assert outcome.stderr.count("error: ") == 1
    as_json = kvctl_command(*arguments, "-o", "json")
    assert as_json.code == 2
    assert as_json.error["message"]


def test_values_are_bytes(kvctl_command: Command, fake_client: Any) -> None:
    assert kvctl_command("put", "k", f"a{NOT_UTF_8}").code == 0
    assert fake_client.get("k").value == b"a\xff"
    assert kvctl_command("put", "k", "b", "--blind").code == 0
    assert kvctl_command("resolve", "k", "--value", f"c{NOT_UTF_8}").code == 0
    assert fake_client.get("k").value == b"c\xff"


def test_a_lock_is_held_by_a_command_of_any_bytes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.argv", ["kvctl", "kill", NOT_UTF_8])
    with hold_lock(tmp_path / "lock", wait_s=1.0):
        holder = read_holder(tmp_path / "lock")
    assert holder is not None
    assert holder.command == r"kvctl kill $'\377'"


def test_a_home_whose_name_is_no_text_is_refused_before_anything_is_made(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    home = tmp_path / f"home{NOT_UTF_8}"
    monkeypatch.setenv("KVCTL_HOME", str(home))
    for command in ("up", "ls", "status"):
        outcome = kvctl_command(command)
        assert "KVCTL_HOME is no UTF-8 text" in outcome.stderr
        assert outcome.code == HomeError.exit_code
    assert not home.exists()


@pytest.mark.usefixtures("stopped")
def test_where_refuses_what_cannot_be_a_key(kvctl_command: Command) -> None:
    for key in ("", NOT_UTF_8, "k" * 2000):
        assert kvctl_command("where", key).code == 2
    assert cluster_directory("shop").exists()
