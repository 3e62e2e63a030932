"""Completion in the shell: commands, options, nodes and clusters."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvctl.cluster import directory
from kvctl_node.config import QuorumConfig
from tests.cli.cli_run import Command
from tests.cli.stopped_cluster import make_cluster


def asked(line: str) -> subprocess.CompletedProcess[str]:
    """kvctl, asked as bash asks at the end of a line."""
    words = line.split(" ")
    return subprocess.run(
        [sys.executable, "-m", "kvctl"],
        env={
            **os.environ,
            "_KVCTL_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        check=False,
    )


def completed(line: str) -> list[str]:
    """What bash would offer at the end of a line."""
    done = asked(line)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


def file_for_a_home(home: Path, patch: pytest.MonkeyPatch) -> None:
    home.rmdir()
    home.touch()


def nobodys_home(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.setenv("KVCTL_HOME", "~nobody-of-this-name")


def relative_state_home(home: Path, patch: pytest.MonkeyPatch) -> None:
    patch.delenv("KVCTL_HOME")
    patch.setenv("XDG_STATE_HOME", "relative")


def damaged_cluster(home: Path, patch: pytest.MonkeyPatch) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    (home / "clusters" / "shop" / "cluster.json").write_bytes(b"\xff\xfe")


@pytest.mark.parametrize(
    "damage", [file_for_a_home, nobodys_home, relative_state_home, damaged_cluster]
)
@pytest.mark.parametrize("line", ["kvctl kill n", "kvctl status -c s"])
def test_whatever_is_wrong_the_prompt_is_left_alone(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    damage: Callable[[Path, pytest.MonkeyPatch], None],
    line: str,
) -> None:
    damage(home, monkeypatch)
    done = asked(line)
    assert (done.stdout.strip(), done.stderr) in (("", ""), ("shop", ""))


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("kvctl re", ["restart", "resume", "resolve", "repair"]),
        ("kvctl config s", ["show", "set"]),
        ("kvctl get --expl", ["--explain"]),
        ("kvctl get -o js", ["json", "jsonl"]),
        ("kvctl kill n", ["n1", "n2", "n3", "n4", "n5"]),
        ("kvctl where k --without n1,n5", ["n1,n5"]),
        ("kvctl status -c sh", ["shop"]),
        ("kvctl kill -c absent n", []),
    ],
)
def test_the_shell_is_offered_what_fits(line: str, offered: list[str]) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    assert completed(line) == offered


def test_what_nobody_foresaw_leaves_the_prompt_alone(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(home: Path | None = None) -> list[str]:
        raise RuntimeError("nobody foresaw this")

    monkeypatch.setattr(directory, "cluster_names", fail)
    monkeypatch.setenv("_KVCTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "kvctl status -c s")
    monkeypatch.setenv("COMP_CWORD", "3")
    outcome = kvctl_command()
    assert (outcome.text, outcome.stderr) == ("", "")


def test_a_user_without_a_home_is_told_how_to_have_completion(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_entry(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    outcome = kvctl_command("completion", "install", "bash")
    assert outcome.code == 2
    assert "kvctl completion show bash" in outcome.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_there_is_a_script_for_each_shell(shell: str, kvctl_command: Command) -> None:
    outcome = kvctl_command("completion", "show", shell)
    assert outcome.code == 0
    assert "_KVCTL_COMPLETE" in outcome.text
    assert f"complete_{shell}" in outcome.text


def test_the_shell_is_taken_from_the_environment_or_asked_for(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SHELL", "/usr/bin/fish")
    assert "complete_fish" in kvctl_command("completion", "show").text
    monkeypatch.setenv("SHELL", "/bin/false")
    outcome = kvctl_command("completion", "show")
    assert outcome.code == 2
    assert "name it: bash, zsh or fish" in outcome.stderr
