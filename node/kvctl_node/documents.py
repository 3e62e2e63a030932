"""Documents that people and other programs wrote: JSON and TOML, and what can be wrong with them.

A reader of one decodes `plain_text(...)` and catches `UNREADABLE`, which is everything a decoder
raises on bytes it does not like: broken syntax, the wrong shape, bytes that are no UTF-8, and
nesting that is deeper than it can follow. `why_unreadable` puts each of them into words.

    try:
        document = msgspec.json.decode(plain_text(data), type=Document)
    except UNREADABLE as error:
        raise ConfigError(f"{path} is no document: {why_unreadable(error, data)}.") from error
"""

from __future__ import annotations

import re

import msgspec


class ForeignEncodingError(ValueError):
    """The bytes are text in another encoding than UTF-8, or not text at all."""


UNREADABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ForeignEncodingError)
"""What `plain_text` and the decoders of msgspec raise on bytes they cannot read."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_STARTS = (
    # UTF-32 first: its mark begins with that of UTF-16.
    (b"\xff\xfe\0\0", "UTF-32"),
    (b"\0\0\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
    (b"\x1f\x8b", "compressed with gzip"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstd"),
    (b"BZh", "compressed with bzip2"),
    (b"\xfd7zXZ\0", "compressed with xz"),
    (b"PK\x03\x04", "a zip archive"),
)
_ZEROS = {
    (1, 2, 3): "UTF-32LE",
    (0, 1, 2): "UTF-32BE",
    (1, 3): "UTF-16LE",
    (0, 2): "UTF-16BE",
}
"""Which of the first four bytes are zero, where two characters of ASCII begin the text."""
_ESCAPE = re.compile(rb"\\(?:u([0-9a-fA-F]{4})|.)", re.DOTALL)


def foreign_encoding(start: bytes) -> str:
    """What bytes that begin so are: `UTF-16`, `UTF-16LE`, `compressed with gzip`; "" for UTF-8.

    UTF-16 without a mark, hence named with its order, gives itself away by ASCII's zero bytes.
    """
    for mark, name in _STARTS:
        if start.startswith(mark):
            return name
    zeros = tuple(at for at, byte in enumerate(start[:4]) if byte == 0)
    return _ZEROS.get(zeros, "")


def plain_text(data: bytes) -> bytes:
    """The text without a byte order mark. Raises `ForeignEncodingError`."""
    encoding = foreign_encoding(data[:8])
    if encoding:
        raise ForeignEncodingError(f"it is {encoding}, not UTF-8")
    return data.removeprefix(BYTE_ORDER_MARK)


def why_unreadable(error: BaseException, data: bytes) -> str:
    """A clause for people: what is wrong with the data a decoder raised `error` about."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"it is not UTF-8: byte {error.object[error.start]:#04x}"
    if has_lone_surrogate(data):
        return "a text in it holds half of a surrogate pair, which is no character"
    return str(error)


def has_lone_surrogate(data: bytes) -> bool:
    r"""Whether JSON text escapes half of a surrogate pair: `\ud83d` without the `\ude00` after it.

    The decoder reports one at the end of a text as data that is cut off.
    """
    high_ended_at = -1
    for escape in _ESCAPE.finditer(data):
        code = int(escape[1], 16) if escape[1] else 0
        is_low = 0xDC00 <= code <= 0xDFFF
        is_second = is_low and escape.start() == high_ended_at
        if (is_low or high_ended_at >= 0) and not is_second:
            return True
        high_ended_at = escape.end() if 0xD800 <= code <= 0xDBFF else -1
    return high_ended_at >= 0
