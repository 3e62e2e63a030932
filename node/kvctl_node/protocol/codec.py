"""Frames: lists of messages as bytes, and back.

A frame is one ZeroMQ message:

    +---------+------------------------------------------------------------+
    | version | msgpack: [sender, ring_epoch, [message, ...], clock] (peers)|
    | 1 byte  |          [message, ...]                             (clients)|
    +---------+------------------------------------------------------------+

and a message is a msgpack array headed by its integer tag (see `messages`). One call of a typed
msgspec decoder decodes and validates a whole frame; nothing past it handles unchecked types.

Bytes from outside can do exactly one thing wrong: raise `MalformedFrameError`, whose `reason` is a
word to count by. Hostile input costs no more than its own size: msgspec compares every announced
length with the bytes that are left before it allocates, nesting ends at the interpreter's
recursion limit (in C, as a `RecursionError`), and the number of messages has a limit of its own,
as three bytes are enough for the smallest.

Encoders and decoders are made once: building one costs more than a frame.
"""

from __future__ import annotations

from typing import Annotated, TypeVar

import msgspec

from kvctl_node.errors import ProtocolError
from kvctl_node.protocol.client_messages import (
    ClientReply,
    ClientRequest,
    PutsDone,
    ReplyMessage,
)
from kvctl_node.protocol.messages import (
    PeerFrame,
)

PROTOCOL_VERSION = 5
FRAME_BYTES_MAX = 64 * 1024 * 1024
"""No frame is larger, whatever a cluster's `limits.frame_bytes_max` says."""
MESSAGES_PER_FRAME_MAX = 1 << 16
"""Senders split longer lists; receivers refuse them."""

REASONS = ("empty", "version", "oversized", "truncated", "unknown_message", "malformed")
"""Every `MalformedFrameError.reason`."""

_VERSION_BYTE = bytes([PROTOCOL_VERSION])
_COPY_BELOW_BYTES = 4096
"""Dropping the version byte by copying beats making a memoryview up to about this size."""

_Frame = TypeVar("_Frame")
_Requests = Annotated[list[ClientRequest], msgspec.Meta(max_length=MESSAGES_PER_FRAME_MAX)]
_Replies = Annotated[list[ReplyMessage], msgspec.Meta(max_length=MESSAGES_PER_FRAME_MAX)]

_encode = msgspec.msgpack.Encoder().encode
_peer_frame_decoder = msgspec.msgpack.Decoder(PeerFrame)
_requests_decoder: msgspec.msgpack.Decoder[list[ClientRequest]] = msgspec.msgpack.Decoder(_Requests)
_replies_decoder: msgspec.msgpack.Decoder[list[ReplyMessage]] = msgspec.msgpack.Decoder(_Replies)


class MalformedFrameError(ProtocolError):
    """Bytes that are not a frame; `reason` is one of `REASONS`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def encode_peer_frame(frame: PeerFrame) -> bytes:
    """A frame from one node to another."""
    return _VERSION_BYTE + _encode(frame)


def encode_requests(requests: list[ClientRequest]) -> bytes:
    """A frame from a client to a node; at most `MESSAGES_PER_FRAME_MAX` requests."""
    return _VERSION_BYTE + _encode(requests)


def encode_replies(replies: list[ReplyMessage]) -> bytes:
    """A frame from a node to a client; at most `MESSAGES_PER_FRAME_MAX` replies."""
    return _VERSION_BYTE + _encode(replies)


def decode_peer_frame(data: bytes, bytes_max: int = FRAME_BYTES_MAX) -> PeerFrame:
    """The reverse of `encode_peer_frame`. Raises `MalformedFrameError`."""
    frame = _decode(_peer_frame_decoder, data, bytes_max)
    if len(frame.messages) > MESSAGES_PER_FRAME_MAX:
        raise MalformedFrameError(
            "oversized", f"{len(frame.messages)} messages in one frame are too many."
        )
    return frame


def decode_requests(data: bytes, bytes_max: int = FRAME_BYTES_MAX) -> list[ClientRequest]:
    """The reverse of `encode_requests`. Raises `MalformedFrameError`."""
    return _decode(_requests_decoder, data, bytes_max)


def decode_replies(data: bytes, bytes_max: int = FRAME_BYTES_MAX) -> list[ReplyMessage]:
    """The reverse of `encode_replies`. Raises `MalformedFrameError`."""
    return _decode(_replies_decoder, data, bytes_max)


def decode_each_reply(data: bytes) -> list[ClientReply]:
    """As `decode_replies`, but with a reply of its own for each request."""
    each: list[ClientReply] = []
    for message in decode_replies(data):
        if isinstance(message, PutsDone):
            each += [msgspec.structs.replace(message.done, id=number) for number in message.ids]
        else:
            each.append(message)
    return each


def _decode(decoder: msgspec.msgpack.Decoder[_Frame], data: bytes, bytes_max: int) -> _Frame:
    """Check size and version, then decode and validate everything after the version byte."""
    size = len(data)
    if size > bytes_max:
        raise MalformedFrameError("oversized", f"a frame of {size} bytes is over {bytes_max}.")
    if not size or data[0] != PROTOCOL_VERSION:
        raise _wrong_version(data)
    try:
        return decoder.decode(data[1:] if size < _COPY_BELOW_BYTES else memoryview(data)[1:])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise _malformed(error) from error


def _wrong_version(data: bytes) -> MalformedFrameError:
    """The error for a frame whose first byte is not ours."""
    if not data:
        return MalformedFrameError("empty", "a frame without a single byte.")
    return MalformedFrameError(
        "version",
        f"a frame of protocol version {data[0]}, this node speaks {PROTOCOL_VERSION}.",
    )


def _malformed(error: Exception) -> MalformedFrameError:
    """Sort msgspec's complaints into reasons. Only the wording tells some of them apart."""
    text = str(error)
    if isinstance(error, msgspec.ValidationError):
        if text.startswith("Invalid value") and text.endswith("[0]`"):
            return MalformedFrameError("unknown_message", f"unknown message: {text}.")
        if "of length <=" in text:
            return MalformedFrameError("oversized", f"too many messages: {text}.")
        return MalformedFrameError("malformed", f"not a frame: {text}.")
    if text == "Input data was truncated":
        return MalformedFrameError("truncated", "a frame that ends too early.")
    return MalformedFrameError("malformed", f"not a frame: {text}.")
