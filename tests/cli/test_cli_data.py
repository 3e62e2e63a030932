"""put, get, del, scan, conflicts and resolve: streams, formats and exit codes."""

from __future__ import annotations

import json
import sys

import pytest

from kvctl.cli.explain_read import explain_read
from kvctl.client import GetResult
from tests.cli.cli_run import Command
from tests.cli.fake_client import FakeClient, stored


def test_get_writes_the_bytes_of_the_value_and_nothing_else(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    value = bytes(range(256))
    fake_client.objects["k"] = stored(value)
    outcome = kvctl_command("get", "k")
    assert (outcome.code, outcome.stdout, outcome.stderr) == (0, value, "")


def test_several_keys_take_one_line_each_and_the_exit_code_is_of_the_worst(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects.update(a=stored(b"1"), b=stored(b"x\ny"), c=stored(b"2", b"3"))
    assert kvctl_command("get", "a", "b").stdout == b"a\t1\nb\tx\\ny\n"
    missing = kvctl_command("get", "a", "nope", "b")
    assert (missing.code, missing.text) == (1, "a\t1\nb\tx\\ny\n")
    assert missing.stderr == "error: nope is not found.\n"
    assert kvctl_command("get", "c", "nope").code == 6
    assert kvctl_command("get", "nope", "c").code == 6


def test_a_key_that_is_not_found_is_exit_code_1_and_in_json_the_same_object(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    outcome = kvctl_command("get", "nope")
    assert (outcome.code, outcome.stdout) == (1, b"")
    as_json = kvctl_command("get", "nope", "-o", "json")
    assert as_json.code == 1
    assert as_json.document["found"] is False
    assert as_json.document["siblings"] == []
    assert as_json.error["kind"] == "not_found"


def test_a_get_in_json_has_the_promised_fields(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"\xff")
    document = kvctl_command("get", "k", "-o", "json").document
    assert set(document) >= {"key", "found", "siblings", "context", "coordinator", "replied"}
    assert document["siblings"] == [
        {
            "value": "/w==",
            "enc": "base64",
            "version": [["n1", 1]],
            "dot": ["n1", 1],
            "deleted": False,
        }
    ]


def test_siblings_in_a_pipe_write_no_value_and_say_how_to_resolve(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"a", b"b")
    outcome = kvctl_command("get", "k")
    assert (outcome.code, outcome.stdout) == (6, b"")
    assert "error: k has 2 conflicting versions." in outcome.stderr
    assert "kvctl resolve k --pick" in outcome.stderr


def test_siblings_on_a_terminal_and_in_json_are_all_listed(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"alpha", b"beta", None)
    shown = kvctl_command("get", "k", terminal=True)
    assert shown.code == 6
    for text in ("n1:1", "alpha", "n1:2", "beta", "n1:3", "(deleted)"):
        assert text in shown.text
    as_json = kvctl_command("get", "k", "-o", "json")
    assert as_json.code == 6
    assert [each["value"] for each in as_json.document["siblings"]] == ["alpha", "beta", None]
    assert as_json.document["siblings"][2]["deleted"] is True
    assert as_json.error["code"] == 6


def test_options_of_a_get_reach_the_client(kvctl_command: Command, fake_client: FakeClient) -> None:
    kvctl_command(
        "get",
        "k",
        "-r",
        "3",
        "--mode",
        "strict",
        "--via",
        "n2",
        "--repair",
        "blocking",
        "--explain",
    )
    assert fake_client.of("get") == [
        ("k", {"r": 3, "mode": "strict", "repair": "blocking", "via": "n2", "explain": True})
    ]


def test_put_takes_its_value_from_the_argument_or_from_standard_input(
    kvctl_command: Command, fake_client: FakeClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "kvctl.cli.invocation.Invocation.open_cluster", lambda self: (None, _config())
    )
    assert kvctl_command("put", "k", "v").code == 0
    assert kvctl_command("put", "k", "-", stdin=b"\x00\xff\n").code == 0
    assert kvctl_command("put", "k", stdin=b"piped").code == 0
    assert kvctl_command("put", "k", "", stdin=b"not read").code == 0
    values = [options["value"] for _, options in fake_client.of("put")]
    assert values == [b"v", b"\x00\xff\n", b"piped", b""]


def _config() -> object:
    from kvctl_node.config import ClusterConfig, NodeSpec

    return ClusterConfig(nodes=(NodeSpec("n1"),))


def test_put_without_a_value_on_a_terminal_is_refused(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    outcome = kvctl_command("put", "k")
    assert outcome.code == 2
    assert "there is no value" in outcome.stderr
    assert fake_client.calls == []


def test_put_prints_nothing_in_a_pipe_a_note_at_a_terminal_and_json_on_demand(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    assert kvctl_command("put", "k", "v")[1:] == (b"", "")
    shown = kvctl_command("put", "k", "v", terminal=True)
    assert shown.stdout == b""
    assert "stored k as n1:2 on n1, n2 (coordinator n1)." in shown.stderr
    assert "n4 stands in for n3" in shown.stderr
    assert kvctl_command("put", "k", "v", "-q", terminal=True).stderr == ""
    document = kvctl_command("put", "k", "v", "-o", "json").document
    assert document["version"] == [["n1", 4]]
    assert document["siblings"] == 1
    assert document["acked"] == ["n1", "n2"]
    assert document["hinted"] == {"n4": "n3"}
    assert {"key", "context", "coordinator", "degraded"} <= set(document)


def test_a_put_that_leaves_siblings_warns(kvctl_command: Command, fake_client: FakeClient) -> None:
    kvctl_command("put", "k", "a")
    outcome = kvctl_command("put", "k", "b", "--blind")
    assert outcome.code == 0
    assert outcome.stderr.startswith("warning: k now has 2 versions.\n")


def test_del_prints_nothing_in_a_pipe(kvctl_command: Command, fake_client: FakeClient) -> None:
    fake_client.objects["k"] = stored(b"v")
    assert kvctl_command("del", "k") == (0, b"", "")
    assert kvctl_command("get", "k").code == 1


def test_scan_lists_lines_and_leaves_values_in_conflict_out(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects.update(
        {"a:1": stored(b"x"), "a:2": stored(b"y", b"z"), "b:1": stored(b"w"), "a:3": stored(None)}
    )
    outcome = kvctl_command("scan", "a:")
    assert (outcome.code, outcome.text) == (6, "a:1\tx\na:2\n")
    assert "a:2 has 2 conflicting versions" in outcome.stderr
    keys = kvctl_command("scan", "a:", "--keys-only")
    assert (keys.code, keys.text) == (0, "a:1\na:2\n")
    lines = kvctl_command("scan", "-o", "json").lines
    assert [line["key"] for line in lines] == ["a:1", "a:2", "b:1"]


def test_conflicts_lists_only_keys_with_siblings(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects.update(a=stored(b"x"), b=stored(b"y", None))
    assert kvctl_command("conflicts").text == "b\tn1:1=y\tn1:2=(deleted)\n"
    (line,) = kvctl_command("conflicts", "-o", "jsonl").lines
    assert line["key"] == "b"
    assert [each["dot"] for each in line["siblings"]] == [["n1", 1], ["n1", 2]]


@pytest.mark.parametrize(
    ("rule", "value"),
    [
        (("--pick", "n1:2"), b"b"),
        (("--value", "both"), b"both"),
        (("--merge", "cat > /dev/null; printf 'a+b'"), b"a+b"),
    ],
)
def test_resolve_puts_with_the_context_of_what_it_read(
    rule: tuple[str, str], value: bytes, kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"a", b"b")
    context = fake_client.get("k").context
    outcome = kvctl_command("resolve", "k", *rule)
    assert outcome.code == 0
    assert outcome.stderr.startswith("replacing n1:1=a\nreplacing n1:2=b\n")
    ((key, options),) = fake_client.of("put")
    assert (key, options["value"], options["context"]) == ("k", value, context)


def test_resolve_by_picking_a_delete_deletes(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"a", None)
    assert kvctl_command("resolve", "k", "--pick", "n1:2").code == 0
    ((_, options),) = fake_client.of("delete")
    assert options["value"] is None
    assert options["context"]


def test_the_merge_command_gets_the_versions_as_json_lines(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"a", b"\xff", None)
    program = (
        "import sys,json; v=[json.loads(l) for l in sys.stdin]; "
        "print(json.dumps([[x['value'], x['enc'], x['deleted']] for x in v]), end='')"
    )
    assert kvctl_command("resolve", "k", "--merge", f'{sys.executable} -c "{program}"').code == 0
    ((_, options),) = fake_client.of("put")
    assert json.loads(options["value"]) == [
        ["a", "utf-8", False],
        ["/w==", "base64", False],
        [None, "utf-8", True],
    ]


def test_a_merge_command_that_fails_writes_nothing(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"a", b"b")
    outcome = kvctl_command("resolve", "k", "--merge", "echo oops >&2; exit 3")
    assert outcome.code == 1
    assert "oops" in outcome.stderr
    assert "ended with 3; nothing was written" in outcome.stderr
    assert fake_client.of("put") == []


def test_resolve_without_a_rule_shows_the_versions_and_exits_with_6(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"a", b"b")
    outcome = kvctl_command("resolve", "k")
    assert outcome.code == 6
    assert outcome.text.splitlines() == ["n1:1\tn1:2\ta", "n1:2\tn1:2\tb"]
    assert fake_client.of("put") == []


def test_resolve_refuses_a_version_the_key_does_not_have_and_two_rules_at_once(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"a", b"b")
    unknown = kvctl_command("resolve", "k", "--pick", "n9:1")
    assert unknown.code == 2
    assert "hint: it has n1:1, n1:2." in unknown.stderr
    assert kvctl_command("resolve", "k", "--pick", "n1:1", "--value", "x").code == 2
    assert fake_client.of("put") == []


def test_resolving_what_is_no_conflict_changes_nothing(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"a")
    assert kvctl_command("resolve", "k", "--value", "x").code == 0
    assert kvctl_command("resolve", "nope", "--value", "x").code == 1
    assert fake_client.of("put") == []


def test_explain_tells_who_answered_with_what() -> None:
    result = GetResult(
        b"k",
        b"",
        cluster_id="c",
        coordinator="n1",
        explanation={
            "partition": 7,
            "primaries": ["n1", "n2", "n3"],
            "unreachable": ["n3"],
            "r": 2,
            "answers": {
                "n1": {"version": [["n1", 2]], "current": True},
                "n2": {"version": None, "current": False},
            },
            "silent": ["n3"],
        },
    )
    assert list(explain_read(result)) == [
        "partition 7, owned by n1, n2, n3.",
        "n1 asked them and waited for R=2 answers.",
        "n3 could not be reached.",
        "n1 answered with n1:2, the current state.",
        "n2 answered with no copy.",
        "so the key is not found: no copy, or all versions are deletes.",
    ]
