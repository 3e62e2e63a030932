"""The contract of `HintLog`: hints live and die with the turn that stores or deletes them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kvctl_node.ports import Hint
from tests.contracts.test_storage_engine import Disk, MemoryDisk, SqliteDisk, record


@pytest.fixture(params=[MemoryDisk, SqliteDisk])
def disk(request: pytest.FixtureRequest) -> Iterator[Disk]:
    disk: Disk = request.param()
    yield disk
    disk.remove()


def hint(target: str, key: bytes, content: bytes = b"content") -> Hint:
    return Hint(target, 1, key, content, b"digest", b"", 1_000, True)


def keys(disk: Disk, target: str) -> list[bytes]:
    return [one.key for one in disk.engine.hints.page(target, b"", 10)]


def test_a_hint_and_a_record_of_one_turn_survive_a_crash_together_or_not_at_all(disk: Disk) -> None:
    disk.engine.put(1, b"kept", record(1))
    disk.engine.hints.put(hint("n2", b"kept"))
    disk.engine.commit()
    disk.engine.put(1, b"lost", record(2))
    disk.engine.hints.put(hint("n2", b"lost"))
    disk.crash()
    assert disk.engine.get(1, b"kept") == record(1) and disk.engine.get(1, b"lost") is None
    assert keys(disk, "n2") == [b"kept"]
    assert disk.engine.hints.holds(b"kept") and not disk.engine.hints.holds(b"lost")


def test_a_turn_that_only_changes_hints_is_durable_as_well(disk: Disk) -> None:
    disk.engine.hints.put(hint("n2", b"a"))
    disk.engine.hints.put(hint("n3", b"b"))
    disk.engine.commit()
    disk.engine.hints.delete("n2", b"a")
    disk.engine.commit()
    disk.crash()
    assert keys(disk, "n2") == [] and keys(disk, "n3") == [b"b"]


def test_an_uncommitted_deletion_of_a_hint_is_undone_by_a_crash(disk: Disk) -> None:
    disk.engine.hints.put(hint("n2", b"a"))
    disk.engine.commit()
    disk.engine.hints.delete("n2", b"a")
    assert keys(disk, "n2") == []
    disk.crash()
    assert keys(disk, "n2") == [b"a"]


def test_a_later_hint_takes_the_place_of_the_earlier_and_the_queue_counts_one(disk: Disk) -> None:
    disk.engine.hints.put(hint("n2", b"a", b"old"))
    disk.engine.commit()
    disk.engine.hints.put(hint("n2", b"a", b"newer"))
    disk.engine.commit()
    disk.crash()
    kept = disk.engine.hints.get("n2", b"a")
    assert kept is not None and kept.content == b"newer"
    assert [(one.target, one.hints, one.bytes) for one in disk.engine.hints.queues()] == [
        ("n2", 1, len(b"newer"))
    ]
