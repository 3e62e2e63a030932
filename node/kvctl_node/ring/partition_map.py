"""The partition map: an explicit table of who owns which part of the circle.

The circle of hash values is cut into Q equal partitions, fixed for the cluster's life, and each
partition has N distinct owners, the first of them its primary. Each (partition, owner) pair is one
virtual node. Explicit tables are even to within one replica, where random tokens are off by several
percent, and partitions of fixed bounds can be stored, compared and moved as units.

Source: DeCandia et al., "Dynamo", SOSP 2007, section 6.2, strategy 3 (equal-sized partitions,
Q/S tokens per node).

The map is a document. Maps form a chain: each has an epoch, one higher than the map before, and
names that map by its hash. Invariants (`check_invariants`):

* every partition has exactly N distinct owners, all of them members;
* members are sorted and distinct; Q is a power of two; 1 <= N <= members;
* epoch 1, and only epoch 1, has no predecessor (`NO_PREVIOUS`);
* equal maps have equal documents, so nodes with equal hashes have equal maps.
"""

from __future__ import annotations

from collections.abc import Sequence

import mmh3

from kvctl_node.ring.key_hash import hash_of, partition_shift
from kvctl_node.ring.map_document import NO_PREVIOUS, MapFields, decode_map, encode_map
from kvctl_node.ring.placed_keys import PlacedKeys
from kvctl_node.ring.preference_list import PreferenceList, clockwise

PREFERENCE_CACHE_NAMES_MAX = 1 << 20
"""Names kept in cached preference lists before the cache starts over: about 8 MiB of pointers.

All lists of 1024 partitions and 100 nodes fit ten times.
"""


class PartitionMap:
    """One epoch of the ring. Immutable; equality and hashing are by document hash."""

    __slots__ = (
        "_document",
        "_preferences",
        "_shift",
        "epoch",
        "hash",
        "members",
        "n",
        "owners",
        "previous_hash",
    )

    epoch: int
    """1 for the first map of a cluster, then one more per change."""
    previous_hash: bytes
    """Hash of the map of the epoch before, `NO_PREVIOUS` in epoch 1. 16 bytes."""
    members: tuple[str, ...]
    """All servers of the cluster by name, sorted, those without any replica included."""
    n: int
    """Owners per partition."""
    owners: tuple[tuple[str, ...], ...]
    """Per partition its N owners, primary first."""
    hash: bytes
    """MurmurHash3 x64 128 of the document. 16 bytes."""

    def __init__(
        self,
        *,
        epoch: int,
        previous_hash: bytes,
        members: tuple[str, ...],
        n: int,
        owners: tuple[tuple[str, ...], ...],
    ) -> None:
        """Takes the fields as they are; a map that breaks an invariant fails an assertion."""
        fields = MapFields(epoch, previous_hash, members, n, owners)
        self._fill(fields)
        self.check_invariants()
        self._seal(encode_map(fields))

    def _fill(self, fields: MapFields) -> None:
        assign = object.__setattr__
        for name, value in zip(MapFields._fields, fields, strict=True):
            assign(self, name, value)
        assign(self, "_shift", partition_shift(len(fields.owners)))
        assign(self, "_preferences", {})

    def _seal(self, document: bytes) -> None:
        object.__setattr__(self, "_document", document)
        object.__setattr__(self, "hash", mmh3.mmh3_x64_128_digest(document))

    @classmethod
    def from_document(cls, document: bytes) -> PartitionMap:
        """The map a document describes. Raises `ProtocolError` if anything about it is wrong."""
        fields = decode_map(document)
        partition_map = cls.__new__(cls)
        partition_map._fill(fields)
        partition_map._seal(bytes(document))
        return partition_map

    def to_document(self) -> bytes:
        """The canonical encoding: N bytes per partition, the names once, some 30 bytes more."""
        return self._document

    @property
    def partitions(self) -> int:
        """Q, the number of partitions."""
        return len(self.owners)

    def partition_of(self, key: bytes) -> int:
        """The partition a key falls into."""
        # Every request passes here. The shift is kept on the map to spare a call.
        return hash_of(key)[0] >> self._shift

    def placed(self, keys: Sequence[bytes]) -> PlacedKeys:
        """Keys that are handled together, with their hashes and partitions. HOT PATH."""
        shift, hashes = self._shift, list(map(hash_of, keys))
        return PlacedKeys(keys, hashes, [first >> shift for first, _ in hashes])

    def owners_of(self, partition: int) -> tuple[str, ...]:
        """The N owners of a partition, primary first."""
        return self.owners[partition]

    def partitions_of(self, name: str) -> tuple[int, ...]:
        """The partitions a server owns a replica of, ascending; empty for an unknown server."""
        return tuple(index for index, row in enumerate(self.owners) if name in row)

    def preference_list(self, partition: int) -> PreferenceList:
        """Owners and fallbacks of a partition; computed once per partition, then remembered."""
        preference = self._preferences.get(partition)
        if preference is None:
            if (len(self._preferences) + 1) * len(self.members) > PREFERENCE_CACHE_NAMES_MAX:
                self._preferences.clear()
            preference = clockwise(partition, self.owners, self.members)
            self._preferences[partition] = preference
        return preference

    def check_invariants(self) -> None:
        """Fails an assertion if the map is not well formed."""
        known = frozenset(self.members)
        assert self.members == tuple(sorted(known)), "members are sorted and distinct"
        assert 1 <= self.n <= len(known), "N is between 1 and the number of members"
        assert self.epoch >= 1 and len(self.previous_hash) == len(NO_PREVIOUS)
        assert (self.epoch == 1) == (self.previous_hash == NO_PREVIOUS), "the chain starts once"
        # Many partitions share their owners, in the same order: check each distinct row once.
        for row in frozenset(self.owners):
            assert len(row) == self.n == len(frozenset(row)), "N distinct owners per partition"
            assert known.issuperset(row), "only members own anything"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a partition map is immutable; cannot set {name}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"a partition map is immutable; cannot delete {name}")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, PartitionMap):
            return NotImplemented
        return self._document == other._document

    def __hash__(self) -> int:
        return hash(self.hash)

    def __repr__(self) -> str:
        return (
            f"PartitionMap(epoch={self.epoch}, partitions={self.partitions}, n={self.n}, "
            f"members={self.members!r}, hash={self.hash.hex()})"
        )

    _preferences: dict[int, PreferenceList]
    _document: bytes
    _shift: int
