"""Which remembered requests can have no other dot any more, so that they may be forgotten.

A request is settled once all N primaries held the very same versions, its own among them: whatever
dot it has at any of them, they all know. An overwriting put finds that out by the way: every
replica whose copy was not the coordinator's would have said so with its acknowledgement. It is
noted in memory only, at the coordinator, and only for keys whose memory has grown. Losing a note
costs memory in the record until the next such put.

What is not at a primary may still lie in a hint. So nothing counts as settled while any member
keeps a hint, or cannot be asked: members gossip whether they keep any (`kvctl_node.membership`).
Source of the rule: ours; Dynamo and Riak have no request ids.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from kvctl_node.causality.recent_requests import Applied, decode_recent

NOTED_BYTES_MIN: Final = 128
"""Shorter memories, some four requests, are not worth forgetting."""
NOTED_KEYS_MAX: Final = 4096


class SettledRequests:
    """What the node's own puts showed, for the keys that were put last."""

    __slots__ = ("_recent_of", "nobody_keeps_hints")

    def __init__(self) -> None:
        self._recent_of: dict[bytes, bytes] = {}
        self.nobody_keeps_hints = False
        """Whether all members answer, and said last that they keep no hint."""

    def note(self, key: bytes, recent: bytes) -> None:
        """All N primaries hold a copy with this memory, made from one that they all held."""
        if len(recent) < NOTED_BYTES_MIN:
            return
        noted = self._recent_of
        noted.pop(key, None)
        noted[key] = recent
        if len(noted) > NOTED_KEYS_MAX:
            del noted[next(iter(noted))]

    def of(self, key: bytes) -> Collection[Applied]:
        """The requests of this key that are known to be settled."""
        if not self.nobody_keeps_hints:
            return ()
        recent = self._recent_of.get(key)
        return () if recent is None else frozenset(decode_recent(recent).applied)
