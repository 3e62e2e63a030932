"""Every command that is shown exists, and pasted into a shell it does what was said."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest

from kvctl.cli.app import COMMANDS
from kvctl.cluster import locking
from kvctl.errors import ConflictError
from kvctl.text.shown_commands import CLUSTERLESS, for_cluster, kvctl_command
from tests.cli.cli_run import Command
from tests.cli.fake_client import FakeClient, stored
from tests.cli.hostile_keys import HOSTILE_KEYS, OTHER_COMMAND
from tests.cli.shown_lines import command_words, problem_of, shown_commands

BASH = shutil.which("bash")
PROSE = {
    *("as", "can", "command", "did", "explains", "follows", "gives", "had", "has", "itself"),
    *("keeps", "knows", "leaves", "made", "makes", "needs", "never", "reads", "that", "wrote"),
}
"""Words that follow `kvctl` where it is only spoken of."""


def test_every_shown_command_exists_with_its_options_and_arguments() -> None:
    shown = [
        one for one in shown_commands("kvctl", "node") if not PROSE.intersection(one.words[:1])
    ]
    names = {one.words[0] for one in shown if one.words}
    assert names >= set(COMMANDS) - CLUSTERLESS, "the search finds nothing any more"
    problems = [(one, problem_of(one.words)) for one in shown]
    assert [f"{one.source}: {why}: {one.text!r}" for one, why in problems if why] == []


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("kvctl nodes add and rm change it.", "there is no command 'nodes'"),
        ("kvctl config sets r=1", "there is no command 'config sets'"),
        ("kvctl get KEY --explian shows why", "get: No such option: --explian"),
        ("kvctl resolve makes it.", "resolve lacks key"),
        ("kvctl restart lets the nodes use it.", "restart names no node"),
        ("kvctl -c shop stauts", "there is no command 'stauts'"),
        ("kvctl put KEY -w", "put: Option '-w' requires an argument."),
    ],
)
def test_a_command_that_does_not_exist_is_noticed(text: str, problem: str) -> None:
    (words,) = command_words(text)
    assert problem in problem_of(words)


def pasted(line: str) -> list[str]:
    """What a shell calls kvctl with."""
    assert BASH is not None
    script = f'kvctl() {{ printf "%s\\0" "$@"; }}\n{line}'
    done = subprocess.run([BASH, "-c", script], capture_output=True, check=True)
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@pytest.mark.skipif(BASH is None, reason="no bash here to paste into")
@pytest.mark.parametrize("cluster", [(), ("-c", "shop")], ids=["one", "named"])
@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=ascii)
def test_a_hint_about_any_key_pasted_does_what_it_says(
    key: str, cluster: tuple[str, ...], kvctl_command: Command, fake_client: FakeClient
) -> None:
    for command in (("put", "--blind", *cluster, "--", key, "b"), ("get", *cluster, "--", key)):
        fake_client.objects = {key: stored(b"a", b"c")}
        hint = re.search(
            r"^hint: (kvctl .*) (shows them|keeps)", kvctl_command(*command).stderr, re.M
        )
        assert hint is not None
        words = pasted(hint[1])
        fake_client.connected = {}
        again = kvctl_command(*words)
        assert fake_client.connected["cluster"] == (cluster[1] if cluster else None)
        assert fake_client.of("get")[-1][0] == key
        if command[0] == "put":
            assert again.code == 6, "it shows the versions, and chooses none"
        else:
            assert again.code == 0
            assert fake_client.get(key).value == b"a"


@pytest.mark.parametrize("key", HOSTILE_KEYS, ids=ascii)
def test_the_error_of_a_value_in_conflict_shows_a_command_that_can_be_pasted(
    key: str, fake_client: FakeClient
) -> None:
    fake_client.objects = {key: stored(b"a", b"b")}
    with pytest.raises(ConflictError) as raised:
        fake_client.get(key).value  # noqa: B018
    assert pasted(raised.value.hint.partition(" shows them")[0]) == [
        "resolve",
        *(["--"] if key.startswith("-") else []),
        key,
    ]


def test_a_named_cluster_is_named_in_every_command() -> None:
    known = list(COMMANDS)
    text = (
        "kvctl status shows why; `kvctl up` starts it. this kvctl keeps kvctl -c a down, kvctl ls."
    )
    assert for_cluster(text, None, known) == text
    assert for_cluster(text, "shop", known) == (
        "kvctl -c shop status shows why; `kvctl -c shop up` starts it. "
        "this kvctl keeps kvctl -c a down, kvctl ls."
    )
    assert set(known) > CLUSTERLESS


def test_a_key_that_reads_like_a_command_is_left_alone() -> None:
    for key in (OTHER_COMMAND, f"it's {OTHER_COMMAND}", f"\n{OTHER_COMMAND}"):
        line = kvctl_command("resolve", key, options=("--pick", "n1:1"))
        named = for_cluster(f"{line} keeps it.", "shop", list(COMMANDS))
        assert pasted(named.removesuffix(" keeps it."))[2:] == pasted(line)


def test_the_command_that_holds_a_lock_is_written_as_it_can_be_typed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(locking.sys, "argv", ["/usr/bin/kvctl", "kill", "it's", "\udcff\x1b"])
    assert locking.command_line() == "kvctl kill 'it'\"'\"'s' $'\\377\\033'"
