"""Readers that go away: no work is given up for one of stderr, and none hides how a work ended."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from kvctl.cli.progress import Progress
from kvctl.cli.streams import ReaderGoneError, print_error
from kvctl_node.errors import UnavailableError
from tests.cli.cli_run import Command, without_reader
from tests.cli.fake_client import FakeClient, stored

HALF_WRONG = b"".join(b'{"key":"k%d","value":"v"}\nnonsense\n' % number for number in range(50))
SCENARIO = 'title = "t"\nquestion = "q"\nconclusion = "c"\n[[step]]\nrun = "kvctl status"\n'


def test_a_load_goes_on_when_nobody_reads_stderr_and_its_exit_code_says_the_truth(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    outcome = kvctl_command("load", stdin=HALF_WRONG, closed=["stderr"])
    assert outcome.code == 1
    assert len(fake_client.objects) == 50


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_behind_stderr_gives_no_work_up_either(
    kvctl_command: Command, fake_client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr("tests.cli.cli_run.without_reader", lambda: full)
        outcome = kvctl_command("load", stdin=HALF_WRONG, closed=["stderr"])
    assert outcome.code == 1
    assert len(fake_client.objects) == 50


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ((), 2),
        (("frobnicate",), 2),
        (("put",), 2),
        (("stop",), 2),
        (("get", "nope"), 1),
        (("get", "nope", "--debug"), 1),
        (("get", "down", "--debug"), 3),
        (("get", "twice"), 6),
        (("get", "defect"), 1),
        (("scan",), 6),
        (("resolve", "twice"), 6),
        (("resolve", "twice", "--merge", "echo oops >&2; exit 3"), 1),
        (("resolve", "twice", "--pick", "n1:1"), 0),
        (("put", "twice", "x", "--blind"), 0),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else str(value),
)
@pytest.mark.parametrize("options", [(), ("-o", "json")], ids=["text", "json"])
def test_a_closed_stderr_changes_no_exit_code(
    arguments: tuple[str, ...],
    options: tuple[str, ...],
    code: int,
    kvctl_command: Command,
    fake_client: FakeClient,
) -> None:
    def prepare() -> None:
        fake_client.objects = {"twice": stored(b"a", b"b"), "once": stored(b"c")}
        fake_client.failures = {"down": UnavailableError("too few replicas.")}
        fake_client.failures["defect"] = RuntimeError("boom")  # type: ignore[assignment]

    prepare()
    heard = kvctl_command(*arguments, *options)
    if arguments:
        assert heard.code == code
    prepare()
    unheard = kvctl_command(*arguments, *options, closed=["stderr"])
    assert (unheard.code, unheard.stdout) == (heard.code, heard.stdout)


@pytest.mark.parametrize("arguments", [("dump",), ("scan",), ("get", "a", "b"), ("conflicts",)])
def test_a_command_that_reads_ends_quietly_when_nobody_reads_it(
    arguments: Sequence[str], kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects = {"a": stored(b"1", b"2"), "b": stored(b"3")}
    outcome = kvctl_command(*arguments, closed=["stdout"])
    if arguments[0] != "get":  # the conflict is found before anything is written
        assert (outcome.code, outcome.stderr) == (0, "")


def test_no_closed_stdout_hides_what_a_change_came_to(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    outcome = kvctl_command("load", "-o", "json", stdin=HALF_WRONG, closed=["stdout", "stderr"])
    assert outcome.code == 1
    assert len(fake_client.objects) == 50
    fake_client.objects["twice"] = stored(b"a", b"b")
    assert kvctl_command("resolve", "twice", "-o", "json", closed=["stdout"]).code == 6
    assert kvctl_command("put", "k", "v", "-o", "json", closed=["stdout"]).code == 0


def test_a_demo_that_lost_its_audience_before_the_verdict_is_undecided(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def perform(*_: object, **__: object) -> None:
        raise ReaderGoneError

    monkeypatch.setattr("kvctl.demos.performance.perform", perform)
    scenario = tmp_path / "short.toml"
    scenario.write_text(SCENARIO)
    assert kvctl_command("run", str(scenario))[::2] == (7, "")


def test_a_broken_pipe_that_is_no_standard_stream_is_no_quiet_end(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.failures["k"] = BrokenPipeError(32, "Broken pipe")  # type: ignore[assignment]
    outcome = kvctl_command("put", "k", "v")
    assert outcome.code == 1
    assert outcome.stderr == "error: the system refused: Broken pipe.\n"


class Terminal(io.StringIO):
    """A terminal that keeps what is drawn."""

    def isatty(self) -> bool:
        return True


def test_sentences_are_said_beside_a_progress_bar(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with Progress("load", bytes_total=10, wanted=True) as progress:
        print_error("line 1: no record \x1b[2J.")
        progress.advance(5)
    print_error("1 refused.")
    said = terminal.getvalue()
    assert "line 1: no record \\x1b[2J.\n" in said
    assert said.endswith("1 refused.\n")


def test_a_progress_bar_whose_terminal_is_gone_ends_no_work(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with without_reader() as stderr:
        monkeypatch.setattr(stderr, "isatty", lambda: True, raising=False)
        monkeypatch.setattr(sys, "stderr", stderr)
        with Progress("load", bytes_total=10, wanted=True) as progress:
            print_error("line 1: no record.")
            progress.advance(5)
        assert progress.records == 1


def test_a_shell_sees_the_exit_code_of_a_command_whose_stderr_it_cut_off() -> None:
    """As `kvctl ... 2>&1 | head -0` does it: the reader is gone before a word is said."""
    with without_reader() as stderr:
        done = subprocess.run(
            [sys.executable, "-m", "kvctl", "frobnicate"], stderr=stderr, check=False
        )
    assert done.returncode == 2
