"""The lines of `load` and `dump`: one record each, every byte of a value preserved.

    {"key":"user:1","value":"alice","enc":"utf-8"}
    {"key":"photo","value":"/9j/4AAQ...","enc":"base64"}
    {"key":"cart:7","siblings":[{"value":"a","enc":"utf-8","deleted":false,...},{...}]}

What `get`, `scan` and `conflicts` print with `-o jsonl` is read as well, since it has the same
fields. Fields this module does not know are left alone. A byte order mark is left out, wherever a
file that begins with one was appended to another.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple

import msgspec

from kvctl.text.escaping import command
from kvctl_node.documents import BYTE_ORDER_MARK, UNREADABLE, foreign_encoding, why_unreadable
from kvctl_node.errors import InvalidRequestError

if TYPE_CHECKING:
    from kvctl.client import GetResult

LINE_BYTES_MAX = 128 * 1024 * 1024
"""A longer line is refused: what is read at once has to fit into memory."""


_UNPACKERS = {
    "compressed with gzip": "gzip -dc",
    "compressed with zstd": "zstd -dc",
    "compressed with bzip2": "bzip2 -dc",
    "compressed with xz": "xz -dc",
    "a zip archive": "unzip -p",
}


class _SiblingLine(msgspec.Struct):
    value: str | None = None
    enc: Literal["utf-8", "base64"] = "utf-8"
    deleted: bool = False


class _RecordLine(msgspec.Struct):
    key: str
    value: str | None = None
    enc: Literal["utf-8", "base64"] = "utf-8"
    siblings: list[_SiblingLine] | None = None


class Record(NamedTuple):
    """A key with its versions: one, or several siblings."""

    key: str
    versions: tuple[bytes | None, ...]
    """At least one; None is a version that deletes the key."""


_decoder = msgspec.json.Decoder(_RecordLine)


def parse_record(line: bytes) -> Record:
    """The record in a line. Raises `InvalidRequestError`."""
    try:
        record = _decoder.decode(line)
    except UNREADABLE as error:
        raise InvalidRequestError(
            f"this is not a record: {why_unreadable(error, line)}."
        ) from error
    if record.siblings is None:
        if record.value is None:
            raise RefusedRecordError(record.key, "the record has no value.")
        return Record(record.key, (_decode(record.key, record.value, record.enc),))
    if not record.siblings:
        raise RefusedRecordError(record.key, "the record has no versions.")
    return Record(record.key, tuple(_version(record.key, each) for each in record.siblings))


class RefusedRecordError(InvalidRequestError):
    """A record whose key is known and whose content cannot be stored."""

    def __init__(self, key: str, message: str) -> None:
        super().__init__(message)
        self.key = key


def _version(key: str, sibling: _SiblingLine) -> bytes | None:
    if sibling.deleted:
        return None
    if sibling.value is None:
        raise RefusedRecordError(key, "a version has no value and is not marked deleted.")
    return _decode(key, sibling.value, sibling.enc)


def _decode(key: str, value: str, encoding: str) -> bytes:
    if encoding == "utf-8":
        return value.encode("utf-8")
    try:
        return base64.b64decode(value, validate=True)
    except (binascii.Error, ValueError) as error:
        raise RefusedRecordError(key, "the value is not base64.") from error


def record_document(result: GetResult) -> dict[str, Any]:
    """The line of a key that was found."""
    siblings = [version.to_json() for version in result.siblings]
    if len(siblings) == 1:
        return {"key": result.text, "value": siblings[0]["value"], "enc": siblings[0]["enc"]}
    return {"key": result.text, "siblings": siblings}


def read_lines(stream: IO[bytes], file: str = "-") -> Iterator[tuple[int, bytes | None]]:
    """(line number, line) of every line that is not blank; None for one that is too long.

    Raises `InvalidRequestError` at once if it is not UTF-8 text at all; `file`, as it was given, is
    for the hint.
    """
    number = 0
    while line := stream.readline(LINE_BYTES_MAX + 1):
        number += 1
        if number == 1:
            _refuse_foreign(line, file)
        line = line.removeprefix(BYTE_ORDER_MARK)
        if len(line) > LINE_BYTES_MAX and not line.endswith(b"\n"):
            while line and not line.endswith(b"\n"):
                line = stream.readline(LINE_BYTES_MAX)
            yield number, None
        elif line.strip():
            yield number, line


def _refuse_foreign(line: bytes, file: str) -> None:
    """One sentence about the whole, in place of one about every line."""
    encoding = foreign_encoding(line[:8])
    if encoding:
        tool = _UNPACKERS.get(encoding, f"iconv -f {encoding} -t UTF-8").split()
        way = command(*tool) if file == "-" else command(*tool, file)
        raise InvalidRequestError(
            f"the records are {encoding}, not UTF-8 text.",
            hint=f"{way} | kvctl load reads them.",
        )
