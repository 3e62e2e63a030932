"""The partition map as a value, and its document."""

from __future__ import annotations

import mmh3
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl_node.errors import ProtocolError
from kvctl_node.ring import partition_map as partition_map_module
from kvctl_node.ring.claim import claim
from kvctl_node.ring.map_document import NO_PREVIOUS, MapFields, encode_map
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.server import Server
from tests.unit.ring.ring_strategies import LAWS, clusters, equal_servers, partition_counts

MAP = claim(equal_servers(5), partitions=64, n=3)
DOCUMENT = MAP.to_document()
ROWS = (("n1", "n2"), ("n2", "n3"))


def small_map(**changes: object) -> PartitionMap:
    fields = {
        "epoch": 1,
        "previous_hash": NO_PREVIOUS,
        "members": ("n1", "n2", "n3"),
        "n": 2,
        "owners": ROWS,
    }
    return PartitionMap(**{**fields, **changes})  # type: ignore[arg-type]


def sealed(body: bytes) -> bytes:
    """A body with a right checksum."""
    return body + mmh3.mmh3_32_uintdigest(body).to_bytes(4, "big")


def forged(**changes: object) -> bytes:
    """The document of a map that cannot exist, checksum and all."""
    fields = MapFields(1, NO_PREVIOUS, ("n1", "n2", "n3"), 2, ROWS)
    return encode_map(fields._replace(**changes))


@LAWS
@given(clusters(), partition_counts)
def test_a_document_round_trips(cluster: tuple[list[Server], int], partitions: int) -> None:
    servers, n = cluster
    first = claim(servers, partitions=partitions, n=n)
    second = claim([*servers, Server("x")], partitions=partitions, n=n, previous=first)
    for original in (first, second):
        copy = PartitionMap.from_document(original.to_document())
        assert copy == original
        assert hash(copy) == hash(original)
        assert copy.hash == original.hash and len(copy.hash) == 16
        for field in MapFields._fields:
            assert getattr(copy, field) == getattr(original, field)
        assert copy.partition_of(b"some key") == original.partition_of(b"some key")
        copy.check_invariants()


def test_a_document_takes_about_a_byte_per_virtual_node() -> None:
    document = claim(equal_servers(10), partitions=1024, n=3).to_document()
    assert len(document) < 3 * 1024 + 100


def test_maps_of_different_content_have_different_hashes() -> None:
    maps = [
        small_map(),
        small_map(epoch=2, previous_hash=b"p" * 16),
        small_map(epoch=2, previous_hash=b"q" * 16),
        small_map(members=("n1", "n2", "n3", "n4")),
        small_map(owners=ROWS[::-1]),
        small_map(owners=(("n2", "n1"), ("n2", "n3"))),
        small_map(n=1, owners=(("n1",), ("n2",))),
    ]
    assert len({each.hash for each in maps}) == len(maps)
    assert small_map() == small_map()
    assert small_map() != maps[1]


@LAWS
@given(st.binary(max_size=200))
def test_garbage_is_refused(garbage: bytes) -> None:
    with pytest.raises(ProtocolError):
        PartitionMap.from_document(garbage)


@LAWS
@given(st.binary(max_size=60), st.integers(0, 40))
def test_garbage_with_a_right_checksum_is_refused_or_canonical(tail: bytes, kept: int) -> None:
    document = sealed(DOCUMENT[:kept] + tail)
    try:
        decoded = PartitionMap.from_document(document)
    except ProtocolError:
        return
    decoded.check_invariants()
    assert encode_map(MapFields(*(getattr(decoded, f) for f in MapFields._fields))) == document


@LAWS
@given(st.integers(0, len(DOCUMENT) * 8 - 1))
def test_a_flipped_bit_is_noticed(bit: int) -> None:
    damaged = bytearray(DOCUMENT)
    damaged[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ProtocolError):
        PartitionMap.from_document(bytes(damaged))


@pytest.mark.parametrize("length", [0, 1, 24, 28, 29, len(DOCUMENT) - 1])
def test_a_truncated_document_is_refused(length: int) -> None:
    with pytest.raises(ProtocolError):
        PartitionMap.from_document(DOCUMENT[:length])
    with pytest.raises(ProtocolError):
        PartitionMap.from_document(sealed(DOCUMENT[:length]))


def test_a_document_with_something_after_it_is_refused() -> None:
    with pytest.raises(ProtocolError):
        PartitionMap.from_document(DOCUMENT + b"\0")
    with pytest.raises(ProtocolError, match="table"):
        PartitionMap.from_document(sealed(DOCUMENT[:-4] + b"\0"))


def test_a_valid_forgery_shows_that_the_refusals_below_are_for_their_own_reasons() -> None:
    assert PartitionMap.from_document(forged()) == small_map()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"epoch": 0}, "epoch 0"),
        ({"epoch": 2}, "epoch 2"),
        ({"previous_hash": b"p" * 16}, "epoch 1"),
        ({"members": ("n2", "n1", "n3")}, "not ascending"),
        ({"members": ("n1", "n2", "N3"), "owners": (("n1", "n2"),) * 2}, "malformed"),
        ({"members": ("", "n1", "n2"), "owners": (("n1", "n2"),) * 2}, "malformed"),
        ({"owners": (("n1", "n2"), ("n3", "n3"))}, "partition 1"),
        ({"owners": (("n1",), ("n2",))}, "2 bytes instead of 4"),
        ({"n": 4, "owners": (("n1", "n2", "n3", "n1"),) * 2}, "4 replicas do not fit"),
    ],
)
def test_a_well_formed_document_of_an_impossible_map_is_refused(
    changes: dict[str, object], words: str
) -> None:
    with pytest.raises(ProtocolError, match=words):
        PartitionMap.from_document(forged(**changes))


def test_an_owner_that_is_no_member_is_refused() -> None:
    body = bytearray(forged()[:-4])
    body[-1] = 3
    with pytest.raises(ProtocolError, match="partition 1"):
        PartitionMap.from_document(sealed(bytes(body)))


def test_a_newer_format_is_refused_by_its_version() -> None:
    with pytest.raises(ProtocolError, match="version is 2"):
        PartitionMap.from_document(b"\2" + DOCUMENT[1:])


@pytest.mark.parametrize(
    "changes",
    [
        {"epoch": 0},
        {"epoch": 2},
        {"previous_hash": b"short"},
        {"members": ("n2", "n1", "n3")},
        {"members": ("n1", "n2")},
        {"n": 3},
        {"owners": (("n1", "n1"), ("n2", "n3"))},
        {"owners": (("n1", "n9"), ("n2", "n3"))},
    ],
)
def test_a_map_that_breaks_an_invariant_cannot_be_made(changes: dict[str, object]) -> None:
    with pytest.raises(AssertionError):
        small_map(**changes)


def test_a_map_cannot_be_changed() -> None:
    with pytest.raises(AttributeError, match="immutable"):
        MAP.epoch = 2
    with pytest.raises(AttributeError, match="immutable"):
        del MAP.owners


def test_partitions_of_lists_what_a_server_owns() -> None:
    assert small_map().partitions_of("n2") == (0, 1)
    assert small_map().partitions_of("n3") == (1,)
    assert small_map().partitions_of("stranger") == ()


def test_preference_lists_stay_right_when_their_cache_starts_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(partition_map_module, "PREFERENCE_CACHE_NAMES_MAX", 3 * 5)
    bounded = PartitionMap.from_document(DOCUMENT)
    for partition in (0, 1, 2, 3, 4, 0, 1, 63):
        assert bounded.preference_list(partition) == MAP.preference_list(partition)
        assert len(bounded._preferences) <= 3
