"""The codec: every message survives the round trip, and no bytes do worse than a counted error."""

from __future__ import annotations

import types
import typing

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kvctl_node.protocol import client_messages, codec, messages
from kvctl_node.protocol.client_messages import (
    ClientDescribe,
    ClientGet,
    Description,
    PutsDone,
    StatusDone,
)
from kvctl_node.protocol.codec import (
    MESSAGES_PER_FRAME_MAX,
    PROTOCOL_VERSION,
    REASONS,
    MalformedFrameError,
    decode_each_reply,
    decode_peer_frame,
    decode_replies,
    decode_requests,
    encode_peer_frame,
    encode_replies,
    encode_requests,
)
from kvctl_node.protocol.messages import (
    PeerFrame,
    Ping,
    ReplicaPutAck,
)

INTEGERS = st.integers(min_value=-(2**63), max_value=2**64 - 1)
TEXTS = st.text(max_size=12)
BLOBS = st.binary(max_size=40)
JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | TEXTS | BLOBS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


def members_of(union: object) -> tuple[type[msgspec.Struct], ...]:
    return typing.get_args(union)


def values_of(annotation: object) -> st.SearchStrategy[object]:
    """A strategy for the value of a message field, from its annotation."""
    simple: dict[object, st.SearchStrategy[object]] = {
        int: INTEGERS,
        bytes: BLOBS,
        str: TEXTS,
        bool: st.booleans(),
        float: st.floats(allow_nan=False),
        type(None): st.none(),
        typing.Any: JSON_LIKE,
    }
    if annotation in simple:
        return simple[annotation]
    origin, parameters = typing.get_origin(annotation), typing.get_args(annotation)
    if origin in (typing.Union, types.UnionType):
        return st.one_of([values_of(one) for one in parameters])
    if origin is dict:
        return st.dictionaries(values_of(parameters[0]), values_of(parameters[1]), max_size=3)
    if origin is list:
        return st.lists(values_of(parameters[0]), max_size=4)
    if origin is tuple and parameters[-1] is Ellipsis:
        return st.lists(values_of(parameters[0]), max_size=4).map(tuple)
    if origin is tuple:
        return st.tuples(*[values_of(one) for one in parameters])
    assert isinstance(annotation, type) and issubclass(annotation, msgspec.Struct), annotation
    return messages_of(annotation)


def messages_of(kind: type[msgspec.Struct]) -> st.SearchStrategy[msgspec.Struct]:
    """A strategy for messages of one type."""
    hints = typing.get_type_hints(kind)
    fields = {name: values_of(hints[name]) for name in kind.__struct_fields__}
    return st.builds(kind, **fields)


def any_of(union: object) -> st.SearchStrategy[msgspec.Struct]:
    return st.one_of([messages_of(kind) for kind in members_of(union)])


REQUESTS = st.lists(any_of(client_messages.ClientRequest), max_size=4)
REPLIES = st.lists(any_of(client_messages.ReplyMessage), max_size=4)
PEER_FRAMES = st.builds(
    PeerFrame, TEXTS, st.integers(0, 2**32), st.lists(any_of(messages.PeerMessage), max_size=4)
)
DECODERS = (decode_peer_frame, decode_requests, decode_replies)
VERSION = bytes([PROTOCOL_VERSION])


# ------------------------------------------------------------------ round trips


@given(PEER_FRAMES)
def test_every_peer_frame_survives_the_round_trip(frame: PeerFrame) -> None:
    assert decode_peer_frame(encode_peer_frame(frame)) == frame


@given(REQUESTS)
def test_every_list_of_requests_survives_the_round_trip(requests: list) -> None:
    assert decode_requests(encode_requests(requests)) == requests


@given(REPLIES)
def test_every_list_of_replies_survives_the_round_trip(replies: list) -> None:
    assert decode_replies(encode_replies(replies)) == replies


@pytest.mark.parametrize(
    "kind",
    [
        *members_of(client_messages.ClientRequest),
        *members_of(client_messages.ReplyMessage),
        *members_of(messages.PeerMessage),
    ],
    ids=lambda kind: kind.__name__,
)
def test_each_message_type_keeps_every_field(kind: type[msgspec.Struct]) -> None:
    encode, decode = {
        **dict.fromkeys(
            members_of(client_messages.ClientRequest), (encode_requests, decode_requests)
        ),
        **dict.fromkeys(members_of(client_messages.ReplyMessage), (encode_replies, decode_replies)),
    }.get(
        kind,
        (
            lambda batch: encode_peer_frame(PeerFrame("n1", 7, batch)),
            lambda data: decode_peer_frame(data).messages,
        ),
    )

    @settings(max_examples=15)
    @given(messages_of(kind))
    def check(message: msgspec.Struct) -> None:
        (back,) = decode(encode([message]))
        assert type(back) is kind
        assert back == message

    check()


def test_a_frame_above_the_copying_threshold_decodes_like_a_small_one() -> None:
    large = [ClientGet(1, b"k" * 100_000, 2)]
    assert decode_requests(encode_requests(large)) == large


def test_no_two_message_types_share_a_tag() -> None:
    kinds = [
        *members_of(client_messages.ClientRequest),
        *members_of(client_messages.ReplyMessage),
        *members_of(messages.PeerMessage),
    ]
    tags = [kind.__struct_config__.tag for kind in kinds]
    assert len(set(tags)) == len(kinds)


def test_the_bytes_of_a_frame_stay_what_they_were() -> None:
    frame = PeerFrame("n1", 1, [ReplicaPutAck(5, [6])])
    assert encode_peer_frame(frame) == b"\x05\x94\xa2n1\x01\x91\x93\x42\x05\x91\x06\xc4\x00"


@given(REPLIES)
def test_each_request_finds_its_own_reply_among_all(replies: list) -> None:
    each = iter(decode_each_reply(encode_replies(replies)))
    for message in replies:
        if isinstance(message, PutsDone):
            for number in message.ids:
                reply = next(each)
                assert reply.id == number
                assert msgspec.structs.replace(reply, id=message.done.id) == message.done
        else:
            assert next(each) == message
    assert next(each, None) is None


# ------------------------------------------------------------------ malformed frames


def reason_of(decode: typing.Callable[[bytes], object], data: bytes) -> str:
    with pytest.raises(MalformedFrameError) as caught:
        decode(data)
    assert caught.value.reason in REASONS
    assert caught.value.message.endswith(".")
    return caught.value.reason


@pytest.mark.parametrize("decode", DECODERS)
def test_an_empty_frame_is_refused(decode: typing.Callable[[bytes], object]) -> None:
    assert reason_of(decode, b"") == "empty"


@pytest.mark.parametrize("decode", DECODERS)
@pytest.mark.parametrize("version", [0, 1, 2, 3, 4, 6, 0x91, 255])
def test_another_protocol_version_is_refused(
    decode: typing.Callable[[bytes], object], version: int
) -> None:
    assert reason_of(decode, bytes([version]) + b"\x90") == "version"


def test_an_unknown_message_is_told_apart_from_a_wrong_field() -> None:
    assert reason_of(decode_requests, VERSION + b"\x91\x92\x63\x01") == "unknown_message"
    assert (
        reason_of(decode_peer_frame, VERSION + b"\x93\xa2n1\x00\x91\x92\x63\x01")
        == "unknown_message"
    )
    assert reason_of(decode_requests, VERSION + b"\x91\x92\x04\xa1x") == "malformed"


def test_a_message_of_the_other_vocabulary_is_unknown() -> None:
    reply = encode_replies([Description(1, "id", "n1", b"", (3, 2, 2, "strict"), {})])
    assert reason_of(decode_requests, reply) == "unknown_message"


@given(PEER_FRAMES)
def test_every_truncation_of_a_frame_is_refused(frame: PeerFrame) -> None:
    data = encode_peer_frame(frame)
    for length in range(1, len(data)):
        with pytest.raises(MalformedFrameError):
            decode_peer_frame(data[:length])


def test_a_frame_cut_in_the_middle_is_truncated() -> None:
    data = encode_peer_frame(PeerFrame("n1", 1, [Ping(1, 1, 2, "uuid")]))
    assert reason_of(decode_peer_frame, data[:-3]) == "truncated"


def test_bytes_after_the_frame_are_refused() -> None:
    assert reason_of(decode_requests, encode_requests([ClientDescribe(1)]) + b"\x00") == "malformed"


def test_a_frame_over_the_given_limit_is_refused_before_it_is_decoded() -> None:
    data = encode_requests([ClientGet(1, b"k" * 100, 2)])
    assert decode_requests(data, len(data))
    with pytest.raises(MalformedFrameError) as caught:
        decode_requests(b"\xff" * (len(data) + 1), len(data))
    assert caught.value.reason == "oversized"


def test_too_many_messages_in_one_frame_are_refused() -> None:
    most = [ClientDescribe(1)] * MESSAGES_PER_FRAME_MAX
    assert len(decode_requests(encode_requests(most))) == MESSAGES_PER_FRAME_MAX
    assert reason_of(decode_requests, encode_requests([*most, ClientDescribe(1)])) == "oversized"
    acks = [ReplicaPutAck(1)] * (MESSAGES_PER_FRAME_MAX + 1)
    assert reason_of(decode_peer_frame, encode_peer_frame(PeerFrame("n1", 1, acks))) == "oversized"


def test_a_sender_that_is_not_text_is_refused() -> None:
    assert reason_of(decode_peer_frame, VERSION + b"\x93\xa2\xff\xfe\x00\x90") == "malformed"


def test_bottomless_nesting_is_refused() -> None:
    status = encode_replies([StatusDone(1, {"a": None})])
    assert status.endswith(b"\xc0")
    assert reason_of(decode_replies, status[:-1] + b"\x91" * 1_000_000) == "malformed"
    # Also where the decoder only skips: a later version may append fields to a message.
    extra = VERSION + b"\x94\xa2n1\x00\x90" + b"\x91" * 1_000_000
    assert reason_of(decode_peer_frame, extra) == "malformed"


@pytest.mark.parametrize("header", [b"\xdd", b"\xdf", b"\xc6", b"\xdb"], ids=lambda one: one.hex())
@pytest.mark.parametrize(
    "place",
    [
        VERSION,
        VERSION + b"\x93\xa2n1\x00",
        VERSION + b"\x93\xa2n1\x00\x91\x95\x47\x01",
        VERSION + b"\x91\x93\x25\x01",
        VERSION + b"\x91\x93\x25\x01\x81\xa1a",
    ],
    ids=["frame", "messages", "entries", "snapshot", "inside a snapshot"],
)
def test_announced_lengths_are_not_believed(header: bytes, place: bytes) -> None:
    tracemalloc = pytest.importorskip("tracemalloc")
    for decode in DECODERS:
        tracemalloc.start()
        try:
            with pytest.raises(MalformedFrameError):
                decode(place + header + b"\x7f\xff\xff\xff")
            _now, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 1_000_000


# ------------------------------------------------------------------ fuzzing


def decode_or_refuse(data: bytes) -> None:
    """Any decoder may refuse any bytes, in one way only."""
    for decode in DECODERS:
        try:
            decode(data)
        except MalformedFrameError as error:
            assert error.reason in codec.REASONS


@settings(max_examples=400)
@given(st.binary(max_size=200))
def test_random_bytes_raise_nothing_but_a_malformed_frame_error(data: bytes) -> None:
    decode_or_refuse(data)
    decode_or_refuse(VERSION + data)


FRAMES = st.one_of(
    PEER_FRAMES.map(encode_peer_frame), REQUESTS.map(encode_requests), REPLIES.map(encode_replies)
)


@settings(max_examples=400)
@given(
    FRAMES,
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1, max_size=6),
    st.binary(max_size=8),
    st.integers(0, 10_000),
)
def test_mutated_frames_raise_nothing_but_a_malformed_frame_error(
    frame: bytes, changes: list[tuple[int, int]], inserted: bytes, place: int
) -> None:
    data = bytearray(frame)
    for position, value in changes:
        data[position % len(data)] = value
    cut = place % len(data)
    decode_or_refuse(bytes(data))
    decode_or_refuse(bytes(data[:cut]) + inserted + bytes(data[cut:]))
