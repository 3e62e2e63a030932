"""Every place at which a crash would leave the disk in a state of its own.

The engine calls its `on_step` hook with these names as it passes them. In a running node the hook
does nothing; the crash tests install one that kills the process at the named step, then reopen the
directory and demand every committed record. A step is called through `CrashPoint`, so that a new
one cannot be added without being tested.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum


class CrashPoint(StrEnum):
    """A named step of the engine, in the order a write passes them."""

    COMMIT_STARTED = "commit.started"
    COMMITTED = "commit.done"
    COMMIT_NOTED = "commit.noted"
    MEMTABLE_FROZEN = "memtable.frozen"
    FLUSH_STARTED = "flush.started"
    FLUSH_BATCH_WRITTEN = "flush.batch_written"
    FLUSH_WRITTEN = "flush.written"
    FLUSH_SYNCED = "flush.synced"
    FLUSH_RENAMED = "flush.renamed"
    FLUSH_DIRECTORY_SYNCED = "flush.directory_synced"
    FLUSH_VERIFIED = "flush.verified"
    HINTS_STORED = "hints.slice_stored"
    BLOOM_CHUNK_STAGED = "manifest.bloom_chunk_staged"
    FLUSH_INSTALLING = "manifest.flush_installing"
    FLUSH_INSTALLED = "manifest.flush_installed"
    LOG_SLICE_DELETED = "log.slice_deleted"
    COMPACTION_STARTED = "compaction.started"
    COMPACTION_BATCH_WRITTEN = "compaction.batch_written"
    COMPACTION_WRITTEN = "compaction.written"
    COMPACTION_SYNCED = "compaction.synced"
    COMPACTION_RENAMED = "compaction.renamed"
    COMPACTION_DIRECTORY_SYNCED = "compaction.directory_synced"
    COMPACTION_VERIFIED = "compaction.verified"
    COMPACTION_INSTALLING = "manifest.compaction_installing"
    COMPACTION_INSTALLED = "manifest.compaction_installed"
    TABLE_UNLINKING = "compaction.unlinking"
    TABLE_UNLINKED = "compaction.unlinked"
    BLOOM_GARBAGE_DELETED = "manifest.bloom_garbage_deleted"
    CHECKPOINT_STARTED = "checkpoint.started"
    CHECKPOINTED = "checkpoint.done"


OnStep = Callable[[CrashPoint], None]
"""Called on the loop's thread or the background thread, wherever the step happens."""


def ignore_step(point: CrashPoint) -> None:
    """What a running node does at a crash point: nothing."""
