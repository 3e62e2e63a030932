"""What is stored is shown, and drives no terminal; what goes to a pipe goes as it is."""

from __future__ import annotations

import json

import pytest

from kvctl.cli.output import VALUE_SHOWN_CHARS, Output, OutputFormat, Table, one_line
from kvctl.cluster.directory import cluster_directory
from kvctl.errors import ClusterUnreachableError
from kvctl.text.escaping import printable
from kvctl_node.config import QuorumConfig
from kvctl_node.errors import UnavailableError
from tests.cli.cli_run import Command, Outcome
from tests.cli.fake_client import FakeClient, stored
from tests.cli.hostile_keys import (
    CLOSING_MARKUP,
    ESCAPES,
    HOSTILE_KEYS,
    MARKUP,
    NEW_LINE,
    UNPRINTABLE,
)
from tests.cli.stopped_cluster import make_cluster

LARGE = 1_000_000


def assert_harmless(outcome: Outcome) -> None:
    for text in (outcome.text, outcome.stderr):
        driving = {one for one in text if not one.isprintable() and one not in "\n\t"}
        assert not driving, text


@pytest.mark.parametrize(
    "before",
    [
        ("get",),
        ("get", "-o", "table"),
        ("get", "-o", "json"),
        ("get", "--explain"),
        ("get", "--debug"),
        ("get", "other"),
        ("scan",),
        ("scan", "-o", "jsonl"),
        ("scan", "--keys-only"),
        ("conflicts",),
        ("conflicts", "-o", "json"),
        ("resolve",),
        ("resolve", "--value", "x"),
        ("resolve", "--pick", "n9:9"),
        ("del",),
        ("dump",),
        ("put", "--blind"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("key", [UNPRINTABLE, CLOSING_MARKUP], ids=["unprintable", "markup"])
@pytest.mark.parametrize("versions", [1, 2])
def test_no_key_or_value_drives_a_terminal(
    key: str,
    before: tuple[str, ...],
    versions: int,
    kvctl_command: Command,
    fake_client: FakeClient,
) -> None:
    value = key.encode() + b"\xff"
    fake_client.objects = {key: stored(*[value] * versions), "other": stored(value)}
    arguments = (*before, "--no-color", "--", key)
    if before[0] == "put":
        arguments = (*arguments, value.decode("utf-8", "surrogateescape"))
    outcome = kvctl_command(*arguments, terminal=True)
    assert_harmless(outcome)
    assert "itself failed" not in outcome.stderr


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=ascii)
def test_no_failure_that_names_a_key_drives_a_terminal(
    key: str, kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.failures[key] = UnavailableError(f"{key} is away.", hint=f"ask {key}.")
    for options in ((), ("-o", "json"), ("--debug",)):
        outcome = kvctl_command("put", *options, "--", key, "v", terminal=True)
        assert outcome.code == 3
        assert_harmless(outcome)
    assert_harmless(kvctl_command("load", stdin=json.dumps({"key": key, "value": ""}).encode()))
    assert_harmless(kvctl_command("load", "-o", "json", stdin=json.dumps({"key": key}).encode()))
    for arguments in (("get", "k", "-c", key), ("get", "k", "--timeout", key), (f"x{key}",)):
        assert_harmless(kvctl_command(*arguments))


@pytest.mark.parametrize("key", [MARKUP, CLOSING_MARKUP])
def test_a_table_reads_no_markup_in_what_is_stored(
    key: str, kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects = {key: stored(b"[bold]a[/bold]", b"[/]")}
    outcome = kvctl_command("get", key, "-o", "table", "--no-color")
    assert outcome.code == 6
    assert f"{key}: 2 versions" in outcome.text
    assert "[bold]a[/bold]" in outcome.text


def test_titles_columns_and_cells_are_text(capsys: pytest.CaptureFixture[str]) -> None:
    Output(OutputFormat.TABLE).result({}, Table(("[b]", ">[/]"), [("[i]x", "y\n")], "a [/] b"))
    title, header, row = capsys.readouterr().out.splitlines()
    assert title.strip() == "a [/] b"
    assert header.split() == ["[b]", "[/]"]
    assert row.split() == ["[i]x", "y\\n"]


def test_where_shows_a_key_on_one_row_of_its_own(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise ClusterUnreachableError("no node answers.")

    monkeypatch.setattr("kvctl.client.connect", unreachable)
    make_cluster("shop", QuorumConfig(3, 2, 2))
    for terminal in (False, True):
        outcome = kvctl_command("where", NEW_LINE, ESCAPES, "--no-color", terminal=terminal)
        assert outcome.code == 0
        assert_harmless(outcome)
        rows = outcome.text.splitlines()[1 if terminal else 0 :]
        assert [row.split("  ")[0].split("\t")[0] for row in rows] == [
            one_line(NEW_LINE.encode()),
            one_line(ESCAPES.encode()),
        ]
    assert kvctl_command("where", ESCAPES, "-o", "json").document["key"] == ESCAPES


def test_logs_and_events_drive_no_terminal(kvctl_command: Command) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    directory = cluster_directory("shop").node("n1")
    directory.mkdir(parents=True)
    event = {"at": 1, "node": ESCAPES, "seq": 1, "kind": "x\u202e", "\x1b[2J": [ESCAPES]}
    (directory / "events.jsonl").write_text(json.dumps(event, ensure_ascii=False) + "\n")
    (directory / "node.log").write_text(f"2026-01-01T00:00:01.000Z \u202e{ESCAPES}\n")
    for name in ("events", "logs"):
        for options in ((), ("-o", "json"), ("-o", "table")):
            outcome = kvctl_command(name, *options, terminal=True)
            assert outcome.text
            assert_harmless(outcome)
    (line,) = kvctl_command("events", "-o", "json").lines
    assert line == event


def test_a_pipe_gets_every_byte(kvctl_command: Command, fake_client: FakeClient) -> None:
    value = ESCAPES.encode() + b"\xff\xfe\r\n"
    fake_client.objects = {ESCAPES: stored(value)}
    assert kvctl_command("get", ESCAPES).stdout == value
    fake_client.objects = {ESCAPES: stored("\u202e".encode())}
    (line,) = kvctl_command("dump").stdout.splitlines()
    assert "\u202e".encode() in line
    assert json.loads(line)["key"] == ESCAPES


def test_json_on_a_terminal_is_the_same_document(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    for key in HOSTILE_KEYS:
        fake_client.objects = {key: stored(key.encode())}
        piped = kvctl_command("dump")
        shown = kvctl_command("dump", terminal=True)
        assert shown.lines == piped.lines


def test_a_value_on_a_terminal_keeps_its_lines_and_ends_with_one(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects = {"k": stored(b"one\n\ttwo \x1b[2J \xff")}
    assert kvctl_command("get", "k", terminal=True).text == "one\n\ttwo \\x1b[2J \\xff\n"
    fake_client.objects = {"k": stored(b"whole\n")}
    assert kvctl_command("get", "k", terminal=True).text == "whole\n"


@pytest.mark.parametrize(
    "arguments", [("conflicts",), ("scan",), ("get", "one", "k"), ("get", "k"), ("resolve", "k")]
)
def test_a_list_on_a_terminal_shortens_large_values_and_says_how_to_see_them(
    arguments: tuple[str, ...], kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects = {"k": stored(b"a" * LARGE, "\u00fc".encode() * LARGE)}
    fake_client.objects["one"] = stored(b"c" * LARGE)
    shown = kvctl_command(*arguments, terminal=True)
    assert len(shown.text) < 4000
    assert "shortened here; with -o jsonl, or into a pipe, all is written.\n" in shown.stderr
    assert len(kvctl_command(*arguments, "-o", "json", terminal=True).text) > LARGE


def test_a_conflict_goes_whole_into_a_pipe(kvctl_command: Command, fake_client: FakeClient) -> None:
    large = b"a" * LARGE
    fake_client.objects = {"k": stored(large, b"b")}
    outcome = kvctl_command("conflicts")
    assert outcome.text == f"k\tn1:1={large.decode()}\tn1:2=b\n"
    assert outcome.stderr == ""


@pytest.mark.parametrize("letter", ["a", "\u00fc", "\u4e2d", "\U0001f6d2"])
def test_a_shortened_value_holds_whole_characters(
    letter: str, kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects = {"k": stored(letter.encode() * (VALUE_SHOWN_CHARS + 1), b"b")}
    (line,) = kvctl_command("conflicts", terminal=True).text.splitlines()
    assert f"={letter * VALUE_SHOWN_CHARS}... (" in line
    fake_client.objects = {"k": stored(letter.encode() * VALUE_SHOWN_CHARS, b"b")}
    (line,) = kvctl_command("conflicts", terminal=True).text.splitlines()
    assert f"={letter * VALUE_SHOWN_CHARS}\t" in line


def test_every_hostile_key_is_shown_in_full(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    for key in HOSTILE_KEYS:
        assert f"error: {printable(key)} is not found." in kvctl_command("get", "--", key).stderr


@pytest.mark.parametrize("is_terminal", [True, False])
def test_what_resolve_replaces_is_shortened_where_it_is_read(
    is_terminal: bool,
    kvctl_command: Command,
    fake_client: FakeClient,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake_client.objects = {"k": stored(b"a" * LARGE, b"b")}
    monkeypatch.setattr("tests.cli.cli_run._Stream.isatty", lambda _: is_terminal)
    said = kvctl_command("resolve", "k", "--pick", "n1:2").stderr
    assert said.startswith("replacing n1:1=aaaa")
    assert (len(said) > LARGE) is not is_terminal
