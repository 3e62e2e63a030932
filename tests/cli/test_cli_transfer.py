"""load and dump: every byte round trips, bad records are named, siblings stay siblings."""

from __future__ import annotations

import io
import json
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.cli import record_lines
from kvctl.cli.record_lines import parse_record, read_lines, record_document
from kvctl.cli.transfer import REFUSALS_NAMED_MAX
from kvctl.client import GetResult
from kvctl.errors import ClusterUnreachableError
from kvctl.text.escaping import quoted
from kvctl_node.causality.siblings import encode_object
from kvctl_node.errors import IndeterminateError, InvalidRequestError, UnavailableError
from tests.cli.cli_run import Command
from tests.cli.fake_client import VALUE_BYTES_MAX, FakeClient, stored

VERSIONS = st.lists(st.one_of(st.none(), st.binary(max_size=50)), min_size=1, max_size=4).filter(
    lambda versions: any(version is not None for version in versions)
)


@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), VERSIONS)
def test_a_dumped_line_parses_to_the_same_key_and_versions(
    key: str, versions: list[bytes | None]
) -> None:
    result = GetResult(key.encode(), encode_object(stored(*versions)), cluster_id="c")
    line = msgspec.json.encode(record_document(result))
    assert parse_record(line) == (key, tuple(versions))


def test_the_lines_of_a_dump_have_the_promised_fields(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects.update(
        a=stored(b"text"), b=stored(b"\xff"), c=stored(b"1", None), gone=stored(None)
    )
    outcome = kvctl_command("dump")
    a, b, c = outcome.lines
    assert a == {"key": "a", "value": "text", "enc": "utf-8"}
    assert b == {"key": "b", "value": "/w==", "enc": "base64"}
    assert c["key"] == "c"
    assert [each["deleted"] for each in c["siblings"]] == [False, True]
    assert outcome.stderr == "3 records written.\n"


def test_what_was_dumped_loads_into_an_empty_cluster_siblings_included(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects.update(
        a=stored(b"text"), b=stored(bytes(range(256))), c=stored(b"1", b"2", None)
    )
    before = {key: fake_client.get(key).to_json() for key in "abc"}
    dumped = kvctl_command("dump").stdout
    fake_client.objects.clear()
    outcome = kvctl_command("load", "-", stdin=dumped)
    assert outcome.code == 0
    assert outcome.stderr.startswith("3 records loaded in ")
    after = {key: fake_client.get(key).to_json() for key in "abc"}
    assert after == before


def test_siblings_are_restored_by_one_overwrite_and_blind_writes(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    line = b'{"key":"k","siblings":[{"value":"a"},{"value":"b"},{"deleted":true,"value":null}]}\n'
    assert kvctl_command("load", stdin=line).code == 0
    writes = [(name, options["blind"]) for name, _, options in fake_client.calls[1:]]
    assert writes == [("put", False), ("put", True), ("delete", True)]


def test_siblings_of_which_one_is_too_large_are_refused_as_a_whole(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    large = "x" * (VALUE_BYTES_MAX + 1)
    line = json.dumps({"key": "k", "siblings": [{"value": "a"}, {"value": large}]}).encode()
    outcome = kvctl_command("load", stdin=line + b"\n")
    assert outcome.code == 1
    assert "line 1 (k): " in outcome.stderr
    assert fake_client.objects == {}


def test_load_asks_for_order_per_key_and_keeps_many_in_flight(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    kvctl_command("load", "-w", "3", stdin=b'{"key":"k","value":"v"}\n')
    assert fake_client.of("batch") == [("", {"in_flight": 256, "ordered": True})]
    ((_, options),) = fake_client.of("put")
    assert options["w"] == 3


def test_load_names_refused_records_goes_on_and_exits_with_1(
    kvctl_command: Command, fake_client: FakeClient, tmp_path: Path
) -> None:
    fake_client.failures["down"] = UnavailableError("too few replicas.")
    fake_client.failures["big"] = InvalidRequestError("the value is too large.")
    file = tmp_path / "records.jsonl"
    file.write_text(
        '{"key":"a","value":"1"}\n'
        "\n"
        "nonsense\n"
        '{"key":"down","value":"1"}\n'
        '{"key":"big","value":"1"}\n'
        '{"key":"none"}\n'
        '{"key":"bad","value":"!","enc":"base64"}\n'
        '{"key":"z","value":"1"}'
    )
    outcome = kvctl_command("load", str(file))
    assert outcome.code == 1
    lines = outcome.stderr.splitlines()
    assert lines[0].startswith("line 3: this is not a record")
    assert lines[1:5] == [
        "line 4 (down): too few replicas.",
        "line 5 (big): the value is too large.",
        "line 6 (none): the record has no value.",
        "line 7 (bad): the value is not base64.",
    ]
    assert lines[5].startswith("2 records loaded in")
    assert lines[5].endswith("5 refused.")
    assert fake_client.objects.keys() == {"a", "z"}


def test_a_load_in_json_reports_errors_and_counts_as_json(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.failures["b"] = UnavailableError("too few replicas.", hint="wait.")
    outcome = kvctl_command(
        "load", "-o", "json", stdin=b'{"key":"a","value":"1"}\n{"key":"b","value":"1"}\n'
    )
    assert outcome.code == 1
    assert outcome.error == {
        "code": 3,
        "kind": "unavailable",
        "message": "too few replicas.",
        "hint": "wait.",
        "line": 2,
        "key": "b",
    }
    assert outcome.document["loaded"] == 1
    assert outcome.document["refused"] == 1


def test_a_write_of_unknown_fate_is_reported_and_alone_gives_exit_code_4(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.failures["k"] = IndeterminateError("nobody knows.")
    outcome = kvctl_command("load", stdin=b'{"key":"k","value":"v"}\n')
    assert outcome.code == 4
    assert "line 1 (k): nobody knows." in outcome.stderr
    assert "1 may or may not have been stored" in outcome.stderr


def test_load_stops_when_no_node_answers_any_more(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.failures["b"] = ClusterUnreachableError("no node answers.")
    lines = b"".join(b'{"key":"%c","value":"1"}\n' % key for key in b"abcd")
    outcome = kvctl_command("load", stdin=lines)
    assert outcome.code == 5
    assert "error: no node answers." in outcome.stderr
    assert [key for key, _ in fake_client.of("put")] == ["a", "b"]


def test_a_file_that_cannot_be_read_is_a_usage_error(kvctl_command: Command) -> None:
    outcome = kvctl_command("load", "absent.jsonl")
    assert outcome.code == 2


def test_lines_are_numbered_as_in_the_file_and_too_long_ones_are_not_read_into_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(record_lines, "LINE_BYTES_MAX", 10)
    text = b"1234567890\n\n" + b"x" * 35 + b"\nlast"
    assert list(read_lines(io.BytesIO(text))) == [(1, b"1234567890\n"), (3, None), (4, b"last")]


def test_what_get_prints_in_json_can_be_loaded(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.objects["k"] = stored(b"v")
    printed = kvctl_command("get", "k", "-o", "json").stdout
    assert parse_record(printed) == ("k", (b"v",))
    assert json.loads(printed)["found"] is True


def test_one_record_that_cannot_be_read_is_one_refusal(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    deep = b"[" * 5000 + b"]" * 5000
    lines = (
        b'{"key":"a","value":"1"}\n'
        b'{"key":"deep","value":"1","more":' + deep + b"}\n" + deep + b"\n"
        rb'{"key":"half","value":"\ud83d"}' + b"\n"
        b'{"key":"b","value":"\xff"}\n'
        rb'{"key":"pair","value":"\ud83d\ude00"}' + b"\n"
        b'{"key":"z","value":"1"}\n'
    )
    outcome = kvctl_command("load", stdin=lines)
    assert outcome.code == 1
    *refusals, summary = outcome.stderr.splitlines()
    assert refusals == [
        "line 2: this is not a record: it is nested too deeply.",
        "line 3: this is not a record: Expected `object`, got `array`.",
        "line 4: this is not a record: a text in it holds half of a surrogate pair, which is no "
        "character.",
        "line 5: this is not a record: it is not UTF-8: byte 0xff.",
    ]
    assert "4 refused" in summary
    assert fake_client.objects.keys() == {"a", "pair", "z"}


def test_a_byte_order_mark_is_no_part_of_a_record(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    file = '{"key":"%s","value":"1"}\n'.encode("utf-8-sig")
    mark = "\ufeff".encode()
    outcome = kvctl_command("load", stdin=file % b"a" + file % b"b" + mark + b"\n")
    assert outcome.code == 0, outcome.stderr
    assert fake_client.objects.keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "what", "way"),
    [
        ("utf-16", "UTF-16", "iconv -f UTF-16 -t UTF-8"),
        ("utf-16-le", "UTF-16LE", "iconv -f UTF-16LE -t UTF-8"),
        ("utf-32", "UTF-32", "iconv -f UTF-32 -t UTF-8"),
        (b"\x1f\x8b\x08\0", "compressed with gzip", "gzip -dc"),
        (b"PK\x03\x04", "a zip archive", "unzip -p"),
    ],
)
def test_a_file_that_is_no_utf_8_at_all_is_one_sentence_and_the_way_to_load_it(
    content: str | bytes,
    what: str,
    way: str,
    kvctl_command: Command,
    fake_client: FakeClient,
    tmp_path: Path,
) -> None:
    lines = '{"key":"a","value":"1"}\n' * 100
    data = lines.encode(content) if isinstance(content, str) else content + b"\n" * 100
    file = tmp_path / "it's.jsonl"
    file.write_bytes(data)
    outcome = kvctl_command("load", str(file))
    assert outcome.code == 2
    assert outcome.stderr == (
        f"error: the records are {what}, not UTF-8 text.\n"
        f"hint: {way} {quoted(str(file))} | kvctl load reads them.\n"
    )
    assert (
        kvctl_command("load", stdin=data).stderr.splitlines()[0] == outcome.stderr.splitlines()[0]
    )
    assert fake_client.objects == {}


@pytest.mark.parametrize("options", [(), ("-o", "json")])
def test_refusals_beyond_twenty_are_counted_and_not_printed(
    options: tuple[str, ...], kvctl_command: Command, fake_client: FakeClient
) -> None:
    fake_client.failures["k"] = IndeterminateError("nobody knows.")
    lines = b"nonsense\n" * 100 + b'{"key":"k","value":"v"}\n' * 100
    outcome = kvctl_command("load", *options, stdin=lines)
    assert outcome.code == 1
    *named, summary = outcome.stderr.splitlines()
    assert len(named) == REFUSALS_NAMED_MAX
    assert "100 refused" in summary
    assert summary.endswith("of which 180 are not named.")
    few = kvctl_command("load", *options, stdin=b"nonsense\n" * REFUSALS_NAMED_MAX)
    assert len(few.stderr.splitlines()) == REFUSALS_NAMED_MAX + 1
    assert "not named" not in few.stderr


def test_a_record_of_too_many_siblings_is_refused_as_a_whole(
    kvctl_command: Command, fake_client: FakeClient
) -> None:
    versions = ",".join(f'{{"value":"{number}"}}' for number in range(5))
    done = kvctl_command("load", stdin=f'{{"key":"k","siblings":[{versions}]}}\n'.encode())
    assert done.code == 1
    assert "line 1 (k): the key would have 5 siblings." in done.stderr
    assert not [name for name, _, _ in fake_client.calls if name == "put"]
