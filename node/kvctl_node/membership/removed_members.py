"""Removed members: storage uuids that are refused for good.

Gossip keeps what it hears, so a removed member would come back from the first peer that had not
heard of its removal, or with its own old disk: a ghost (ScyllaDB issue 14991). A name may be used
again, with a new disk; the incarnation that was removed never may. The set only grows, is durable,
and spreads as part of every member's own record.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from kvctl_node.ports import StorageEngine

METADATA_NAME: Final = "removed_members"
_SEPARATOR = ","


class RemovedMembers:
    """The uuids of removed members. Changes are durable with the turn's commit."""

    def __init__(self, storage: StorageEngine) -> None:
        self._storage = storage
        stored = storage.metadata(METADATA_NAME) or b""
        self._uuids = parse_uuids(stored.decode())

    def __contains__(self, uuid: str) -> bool:
        return uuid in self._uuids

    def add(self, uuids: Iterable[str]) -> set[str]:
        """Refuse these from now on; those that were not yet refused."""
        new = {uuid for uuid in uuids if uuid} - self._uuids
        if new:
            self._uuids |= new
            self._storage.set_metadata(METADATA_NAME, self.text().encode())
        return new

    def text(self) -> str:
        """All of them, as they travel and are stored."""
        return _SEPARATOR.join(sorted(self._uuids))


def parse_uuids(text: str) -> set[str]:
    """The reverse of `RemovedMembers.text`."""
    return {uuid for uuid in text.split(_SEPARATOR) if uuid}
