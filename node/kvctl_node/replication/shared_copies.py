"""Copies that all N primaries were seen to hold, so that something of them may be forgotten.

Two memories in a record may only shrink while no older copy can be left anywhere: the clock
(`causality.truncation`) and the requests with their dots (`causality.recent_requests`). An
overwriting put finds out by the way that all primaries held the very same copy: every replica whose
copy was not the coordinator's would have said so with its acknowledgement. It is noted in memory
only, at the coordinator. Losing a note costs room in the record until the next such put.

What is not at a primary may still lie in a hint. So nothing counts while any member keeps a hint,
or does not answer: members gossip whether they keep any (`kvctl_node.membership`). Source of the
rule: ours; Riak prunes by size and age alone, and Dynamo has no request ids.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from kvctl_node.causality.recent_requests import Applied, decode_recent
from kvctl_node.ports import Record

NOTED_RECENT_BYTES_MIN: Final = 64
"""Records that remember less, one or two requests, have nothing to forget."""
NOTED_KEYS_MAX: Final = 4096


class SharedCopies:
    """What the node's own puts showed, for the keys that were put last."""

    __slots__ = ("_noted", "nobody_keeps_hints")

    def __init__(self) -> None:
        self._noted: dict[bytes, Record] = {}
        self.nobody_keeps_hints = False
        """Whether all members answer, and said last that they keep no hint."""

    def note(self, key: bytes, record: Record) -> None:
        """All N primaries hold this copy, made from one that they all held."""
        if len(record.recent) < NOTED_RECENT_BYTES_MIN:
            return
        noted = self._noted
        noted.pop(key, None)
        noted[key] = record
        if len(noted) > NOTED_KEYS_MAX:
            del noted[next(iter(noted))]

    def settled_requests(self, key: bytes) -> Collection[Applied]:
        """The requests of a key that have no dot which some primary does not know."""
        if not self.nobody_keeps_hints:
            return ()
        record = self._noted.get(key)
        return () if record is None else frozenset(decode_recent(record.recent).applied)

    def is_everywhere(self, key: bytes, digest: bytes) -> bool:
        """Whether all primaries were seen to hold the copy with this digest, and nobody a hint."""
        record = self._noted.get(key)
        return self.nobody_keeps_hints and record is not None and record.digest == digest
