"""The disks on which the contract of a storage engine is tested: memory, and SQLite.

A `Disk` is what survives a crash. The SQLite disk crashes by having its files copied as they are at
that moment, which is what a SIGKILL leaves behind, and opening the copy.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Protocol

from kvctl_node.config import StorageConfig
from kvctl_node.ports import StorageEngine
from kvctl_node.storage.engine import SqliteStorageEngine
from tests.memory_storage_engine import MemoryStorageEngine

PARTITIONS = 8
CONFIG = StorageConfig(memtable_bytes=4096, compaction_fanout=2, frozen_memtables_max=64)


class Disk(Protocol):
    """Something an engine can be opened on, crash on, and be opened on again."""

    engine: StorageEngine

    def crash(self) -> None: ...
    def flush(self) -> None: ...
    def settle(self) -> None: ...
    def corrupt(self, partition: int, key: bytes) -> None: ...
    def fill(self) -> None: ...
    def remove(self) -> None: ...


class MemoryDisk:
    def __init__(self) -> None:
        self.engine: StorageEngine = MemoryStorageEngine()

    @property
    def _memory(self) -> MemoryStorageEngine:
        assert isinstance(self.engine, MemoryStorageEngine)
        return self.engine

    def crash(self) -> None:
        self._memory.crash()

    def flush(self) -> None: ...
    def settle(self) -> None: ...

    def corrupt(self, partition: int, key: bytes) -> None:
        self._memory.corrupt(partition, key)

    def fill(self) -> None:
        self._memory.full = self._memory.fail_next_commit = True

    def remove(self) -> None:
        self.engine.close()


class SqliteDisk:
    def __init__(self, config: StorageConfig = CONFIG) -> None:
        self._root = Path(tempfile.mkdtemp(prefix="kvctl-storage-"))
        self._incarnation = 0
        self._config = config
        self.engine: StorageEngine = self._open()

    @property
    def directory(self) -> Path:
        return self._root / str(self._incarnation)

    def _open(self) -> SqliteStorageEngine:
        return SqliteStorageEngine.open(self.directory, self._config, partitions=PARTITIONS)

    @property
    def _sqlite(self) -> SqliteStorageEngine:
        assert isinstance(self.engine, SqliteStorageEngine)
        return self.engine

    def crash(self) -> None:
        before = self.directory
        self._incarnation += 1
        shutil.copytree(before, self.directory, ignore=_vanishing_files)
        self.engine.close()
        shutil.rmtree(before)
        self.engine = self._open()

    def flush(self) -> None:
        self._sqlite.freeze_memtable()

    def settle(self) -> None:
        assert self._sqlite.settle(30), self._sqlite.stats()

    def corrupt(self, partition: int, key: bytes) -> None:
        """Flip a bit of every copy of the key's content in every SSTable."""
        self.flush()
        self.settle()
        record = self.engine.get(partition, key)
        assert record is not None
        for path in (self.directory / "sstables").iterdir():
            content = path.read_bytes().replace(record.content, b"\xff" + record.content[1:])
            path.write_bytes(content)
        self.crash()

    def fill(self) -> None:
        self.engine.close()
        self._config = StorageConfig(memtable_bytes=1 << 20, database_bytes_max=1 << 17)
        self.engine = self._open()

    def remove(self) -> None:
        self.engine.close()
        shutil.rmtree(self._root)


def _vanishing_files(directory: str, names: list[str]) -> set[str]:
    """The background thread removes unfinished tables at any time: they are not copied."""
    return {name for name in names if name.endswith(".tmp")}
