"""Node metadata: a few small durable values (identity, generation, actor epoch).

All of it is kept in memory; changes are written with the turn's transaction. Each value carries
a checksum, since a node that misreads its actor epoch could reuse a dot and lose a write.
"""

from __future__ import annotations

from zlib import crc32

from kvctl_node.errors import CorruptRecordError
from kvctl_node.storage.database import Database


class Metadata:
    """Name → value."""

    def __init__(self, database: Database) -> None:
        """Reads everything. Raises `CorruptRecordError`, `sqlite3.Error`."""
        self._execute = database.execute
        self._values: dict[str, bytes] = {}
        self.pending: dict[str, bytes] = {}
        """Set in this turn, not yet written."""
        for name, value, checksum in self._execute("SELECT name, value, checksum FROM metadata"):
            if not isinstance(value, bytes) or _checksum(name, value) != checksum:
                raise CorruptRecordError(f"The metadata value {name} does not match its checksum.")
            self._values[name] = value

    def get(self, name: str) -> bytes | None:
        """The value of a name, None if it was never set."""
        return self._values.get(name)

    def set(self, name: str, value: bytes) -> None:
        """Change a value; `write` makes it durable."""
        if self._values.get(name) != value:
            self._values[name] = value
            self.pending[name] = value

    def write(self) -> None:
        """Store this turn's changes in the open transaction. Raises `sqlite3.Error`."""
        for name, value in self.pending.items():
            self._execute(
                "INSERT OR REPLACE INTO metadata VALUES (?, ?, ?)",
                (name, value, _checksum(name, value)),
            )


def _checksum(name: str, value: bytes) -> int:
    return crc32(value, crc32(name.encode()))
