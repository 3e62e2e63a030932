"""Completion in the shell: commands, options, nodes and clusters."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from kvctl_node.config import QuorumConfig
from tests.cli.cli_run import Command
from tests.cli.stopped_cluster import make_cluster


def completed(line: str) -> list[str]:
    """What bash would offer at the end of a line, asked as bash asks."""
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "kvctl"],
        env={
            **os.environ,
            "_KVCTL_COMPLETE": "complete_bash",
            "COMP_WORDS": line,
            "COMP_CWORD": str(len(words) - 1),
        },
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.split()


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
