"""Doubted copies: what has taken the place of a damaged record is not known to be as good.

A replica that acknowledged a write and whose record of it was damaged afterwards gets a copy back
sooner or later: from a read's repair, from a comparison, or by the next put to the key. That copy
may be older than what was acknowledged, or lack a sibling of it. If it counted as evidence, a read
quorum of this replica and of one that never had the write would miss it:

    n1  v2, damaged     n2  v2      n3  v1            v2 was acknowledged by n1 and n2
    n1  v1 ◀──────────────────────── n3               a comparison mends n1 from n3
    read R=2 of n1, n3: v1                            v2 missed, though R + W > N

So the key is *doubted* at that replica: its copy is merged into every read and counts in none, nor
does it answer for the key otherwise (scans, reaping, the rebuilding of others). All other keys do.
It is settled once the copy was exchanged with as many co-owners as a rebuilding node has to be
compared with (`rebuild.is_enough`), which anti-entropy does at once, of its own accord: usually a
round trip later, if the co-owners can be reached.

Doubted keys are durable with the very turn that replaces the damaged record. There are few: a table
full of damage is given up as a whole, and a node with more than `DOUBTED_MAX` rebuilds itself.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from kvctl_node.ports import StorageEngine

DOUBTED_MAX = 256
DOUBTED_KEYS = "doubted_keys"
"""Metadata: the encoded list of keys."""

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[bytes])


class DoubtedCopies:
    """The keys that are doubted here, and with whom each was exchanged since."""

    def __init__(self, storage: StorageEngine) -> None:
        self._storage = storage
        self.whole: dict[bytes, set[str]] = {}
        """Key → co-owners that it was exchanged with and whose own copy is evidence."""
        self._met: dict[bytes, set[str]] = {}
        """Key → all co-owners that it was exchanged with."""
        self.latest = 0
        """Numbers the doubts: that of the one begun last."""
        self._number: dict[bytes, int] = {}
        """Key → the number of its doubt."""
        self.overflowed = False
        """There were too many: nothing here is evidence until the node rebuilds itself."""
        self.is_news = False
        """Some key is doubted since anti-entropy last looked."""
        kept = storage.metadata(DOUBTED_KEYS)
        for key in _decoder.decode(kept) if kept else ():
            self._begin(key)

    def __contains__(self, key: bytes) -> bool:
        return key in self.whole or self.overflowed

    def __bool__(self) -> bool:
        return bool(self.whole) or self.overflowed

    def __len__(self) -> int:
        return len(self.whole)

    def _begin(self, key: bytes) -> None:
        self.whole[key], self._met[key] = set(), set()
        self.latest += 1
        self._number[key] = self.latest
        self.is_news = True

    def add(self, key: bytes) -> None:
        """The record is damaged: whatever replaces it is doubted. Durable with this turn."""
        if key not in self.whole and len(self.whole) >= DOUBTED_MAX:
            self.overflowed = True
            return
        self._begin(key)
        self._keep()

    def met(self, key: bytes, peer: str, *, as_of: int, whole: bool) -> None:
        """The copy was exchanged with a co-owner; `whole`: the co-owner's is evidence.

        `as_of`: `latest` when the copy was sent. What was sent before it was damaged once more says
        nothing of what has taken its place since.
        """
        if self._number.get(key, as_of + 1) <= as_of:
            self._met[key].add(peer)
            if whole:
                self.whole[key].add(peer)

    def met_with(self, key: bytes) -> set[str]:
        """All co-owners that a doubted key was exchanged with."""
        return self._met[key]

    def settle(self, keys: Iterable[bytes]) -> None:
        """These are evidence again, or not here any more; durable with this turn."""
        for key in keys:
            self.whole.pop(key, None)
            self._number.pop(key, None)
            self._met.pop(key, None)
        self._keep()

    def clear(self) -> None:
        """The whole node is in doubt from now on (`rebuild`)."""
        if self:
            self.overflowed = False
            self.settle(list(self.whole))

    def _keep(self) -> None:
        self._storage.set_metadata(DOUBTED_KEYS, _encode(list(self.whole)))

    def check_invariants(self) -> None:
        """Assert that the bound is kept, and that nobody is whole who was not met."""
        assert len(self.whole) <= DOUBTED_MAX
        assert self.whole.keys() == self._met.keys() == self._number.keys()
        assert all(peers <= self._met[key] for key, peers in self.whole.items())
