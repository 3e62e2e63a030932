"""Documents from outside: whatever their bytes are, their reader says so in its own words."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.cli import logs
from kvctl.cli.record_lines import parse_record
from kvctl.cluster.directory import ClusterDirectory
from kvctl.cluster.locking import read_holder
from kvctl.cluster.spawn import exit_note_path, read_exit_note
from kvctl.demos.scenario import load_scenario
from kvctl.view import live_feed
from kvctl.view.recording import read_recording
from kvctl_node.causality.context_token import decode_token, encode_token
from kvctl_node.causality.recent_requests import decode_recent
from kvctl_node.causality.siblings import EMPTY_CONTEXT, decode_context, decode_object
from kvctl_node.causality.siblings import encode_context as encode_causal_context
from kvctl_node.causality.trace_clock import decode_trace_clock
from kvctl_node.config import load_config
from kvctl_node.documents import (
    UNREADABLE,
    ForeignEncodingError,
    foreign_encoding,
    has_lone_surrogate,
    plain_text,
    why_unreadable,
)
from kvctl_node.errors import StoreError
from kvctl_node.protocol.link_fault import decode_faults
from kvctl_node.runtime.security import load_public_key

DEEP = b"[" * 5000 + b"]" * 5000
HEAD = b'{"format":"kvctl-recording","version":1,"cluster":"demo","began_ms":1}\n'
HOSTILE = {
    "deep": DEEP,
    "deep in a field": b'{"unknown":' + DEEP + b"}",
    "deep toml": b"unknown = " + DEEP,
    "UTF-16": '{"key":"k"}'.encode("utf-16"),
    "UTF-16 without a mark": '{"key":"k"}'.encode("utf-16-be"),
    "UTF-32": '{"key":"k"}'.encode("utf-32"),
    "gzip": b"\x1f\x8b\x08\0\0\0",
    "a lone surrogate": rb'{"unknown":"\ud83d"}',
    "not UTF-8": b'{"unknown":"\xff"}',
    "zeros": bytes(16),
    "cut off": b'{"unknown":"',
    "a number without end": b'{"unknown":' + b"9" * 5000 + b"}",
}


Reader = Callable[[Path, bytes], object]


def in_a_file(name: str, read: Callable[[Path], object], before: bytes = b"") -> Reader:
    """Reads bytes as the content of a file of that name."""

    def read_bytes(directory: Path, content: bytes) -> object:
        path = directory / name
        path.write_bytes(before + content)
        return read(path)

    return read_bytes


def read_note(directory: Path, content: bytes) -> object:
    cluster = ClusterDirectory(directory)
    path = exit_note_path(cluster, "n1")
    path.parent.mkdir(parents=True)
    path.write_bytes(content)
    return read_exit_note(cluster, "n1")


READERS: dict[str, Reader] = {
    "TOML configuration": in_a_file("c.toml", load_config),
    "JSON configuration": in_a_file("c.json", load_config),
    "scenario": in_a_file("s.toml", load_scenario),
    "recording": in_a_file("r", read_recording),
    "line of a recording": in_a_file("r", read_recording, HEAD + b"{}\n"),
    "key file": in_a_file("n1.key", load_public_key),
    "lock": in_a_file("lock", read_holder),
    "last words of a node": read_note,
    "faults": lambda _, content: decode_faults(content),
    "record": lambda _, content: parse_record(content),
    "log of events": lambda _, content: logs.decode_event(content),
    "published event": lambda _, content: live_feed.decode_event(content),
    "causal context": lambda _, content: decode_context(content),
    "stored object": lambda _, content: decode_object(content),
    "memory of requests": lambda _, content: decode_recent(content),
    "trace clock": lambda _, content: decode_trace_clock(content),
}


@pytest.mark.parametrize("content", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_whatever_is_read_is_refused_in_the_readers_own_words(
    reader: Reader, content: bytes, tmp_path: Path
) -> None:
    try:
        reader(tmp_path, content)
    except StoreError as error:
        assert error.message


def nested(before: bytes) -> bytes:
    """An array of msgpack with one more element, nested too deeply to be skipped."""
    return bytes([before[0] + 1]) + before[1:] + b"\x91" * 100_000 + b"\x90"


def test_a_context_token_that_nests_too_deeply_is_refused() -> None:
    context = nested(encode_causal_context(EMPTY_CONTEXT))
    token = encode_token(context, cluster_id="c", key=b"k")
    with pytest.raises(StoreError, match="damaged"):
        decode_token(token, cluster_id="c", key=b"k")
    for decode in (decode_context, decode_object, decode_recent):
        with pytest.raises(StoreError):
            decode(context)


@pytest.mark.parametrize("text", ["", "{}", "a = 1", "größe", "[[nodes]]", "\n\n", "0", "\0\0"])
def test_plain_text_is_left_as_it_is_but_for_a_mark(text: str) -> None:
    assert plain_text(text.encode()) == text.encode()
    assert plain_text(text.encode("utf-8-sig")) == text.encode()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["bare", "marked"])
@pytest.mark.parametrize("text", ['{"key":1}', "partitions = 8", "[[nodes]]"])
def test_text_in_another_encoding_is_named(text: str, mark: str, encoding: str) -> None:
    data = (mark + text).encode(encoding)
    assert (
        encoding.upper()
        .replace("-LE", "LE")
        .replace("-BE", "BE")
        .startswith(foreign_encoding(data))
    )
    with pytest.raises(ForeignEncodingError, match=r"it is UTF-(16|32)"):
        plain_text(data)


@given(st.text(st.characters(exclude_categories=[])))
def test_half_of_a_surrogate_pair_is_found_where_there_is_one(text: str) -> None:
    document = json.dumps({"key": text, "\\": "\\ud800"}).encode()
    try:
        json.loads(document)["key"].encode()
    except UnicodeEncodeError:
        assert has_lone_surrogate(document)
    else:
        assert not has_lone_surrogate(document)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (b'{"z":' + DEEP + b',"key":"k"}', "it is nested too deeply"),
        (rb'{"key":"\ud800"}', "holds half of a surrogate pair"),
        (rb'{"key":"\ud800 and more"}', "holds half of a surrogate pair"),
        (rb'{"key":"\udc00"}', "holds half of a surrogate pair"),
        (b'{"key":"\xff"}', "it is not UTF-8: byte 0xff"),
        (b'{"key":"', "truncated"),
    ],
)
def test_each_fault_of_a_document_has_its_words(line: bytes, why: str) -> None:
    with pytest.raises(UNREADABLE) as raised:
        msgspec.json.decode(line, type=_WithKey)
    assert why in why_unreadable(raised.value, line)


class _WithKey(msgspec.Struct):
    key: str
