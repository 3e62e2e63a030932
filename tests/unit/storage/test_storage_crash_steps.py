"""SIGKILL at every step of the engine; afterwards the store is what was committed, exactly."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from kvctl_node.config import StorageConfig
from kvctl_node.ports import Hint, Position, Record
from kvctl_node.storage import housekeeping
from kvctl_node.storage.crash_points import CrashPoint
from kvctl_node.storage.engine import SqliteStorageEngine

PARTITIONS = 8
TURNS = 160
CONFIG = StorageConfig(memtable_bytes=8192, compaction_fanout=2, frozen_memtables_max=64)
Model = dict[tuple[int, bytes], bytes]


def apply_turn(turn: int, put: Callable[..., object], drop: Callable[..., object]) -> None:
    """Each turn overwrites some keys, adds one, and now and then drops one."""
    for number in range(3):
        at = (turn * 7 + number * 11) % 41
        put(at % PARTITIONS, b"hot-%02d" % at, b"turn-%d-%d" % (turn, number))
    put(turn % PARTITIONS, b"new-%04d" % turn, b"turn-%d" % turn)
    if turn % 5 == 4:
        gone = turn - 4
        drop(gone % PARTITIONS, b"new-%04d" % gone)


def model_after(turns: int) -> Model:
    model: Model = {}
    for turn in range(turns):
        apply_turn(
            turn,
            lambda partition, key, value: model.__setitem__((partition, key), value),
            lambda partition, key: model.pop((partition, key)),
        )
    return model


def hint(turn: int) -> Hint:
    return Hint("n2", 1, b"%d" % (turn * 37 % TURNS), b"turn-%d" % turn, b"digest", b"", turn, True)


def hints_after(turns: int) -> dict[bytes, Hint]:
    kept = [hint(turn) for turn in range(0, turns, 3) if turn % 12 or turn + 1 >= turns]
    return {one.key: one for one in kept}


def run_until_killed(directory: Path, acknowledged: int, point: CrashPoint, count: int) -> None:
    """In the child: work until the `count`-th passing of `point`, then SIGKILL."""
    passed = 0

    def on_step(step: CrashPoint) -> None:
        nonlocal passed
        passed += step == point
        if passed == count:
            os.kill(os.getpid(), signal.SIGKILL)

    housekeeping.CHECKPOINT_BYTES = 256 * 1024
    engine = SqliteStorageEngine.open(directory, CONFIG, partitions=PARTITIONS, on_step=on_step)
    for turn in range(TURNS):
        apply_turn(
            turn,
            lambda partition, key, value: engine.put(partition, key, Record(value, b"digest")),
            engine.drop,
        )
        if turn % 3 == 0:
            engine.hints.put(hint(turn))
        elif turn % 12 == 1:
            engine.hints.delete("n2", hint(turn - 1).key)
        engine.commit()
        os.write(acknowledged, b".")
        engine.maintain()
        if turn % 40 == 39:
            engine.settle(20)
    engine.close()


def killed_at(directory: Path, point: CrashPoint, count: int) -> int:
    """Fork, run, and be killed; the number of turns that were acknowledged before."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            run_until_killed(directory, writer, point, count)
        finally:
            os._exit(1)
    os.close(writer)
    acknowledged = 0
    while chunk := os.read(reader, 4096):
        acknowledged += len(chunk)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    assert os.WIFSIGNALED(status), f"{point} was never passed {count} times"
    assert os.WTERMSIG(status) == signal.SIGKILL
    return acknowledged


def contents(engine: SqliteStorageEngine) -> Model:
    found: Model = {}
    place: Position | None = Position(0, b"")
    while place is not None:
        page = engine.scan(place, PARTITIONS, limit=50, bytes_max=1 << 20)
        found |= {(e.partition, e.key): e.record.content for e in page.entries}
        place = page.next
    return found


def check(engine: SqliteStorageEngine, acceptable: list[Model]) -> Model:
    found = contents(engine)
    assert found in acceptable
    for turn in range(TURNS):
        place = (turn % PARTITIONS, b"new-%04d" % turn)
        record = engine.get(*place)
        assert (record and record.content) == found.get(place)
    return found


@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("point", list(CrashPoint))
def test_every_committed_turn_is_there_after_a_kill(
    tmp_path: Path, point: CrashPoint, count: int
) -> None:
    acknowledged = killed_at(tmp_path, point, count)
    # The turn under way was committed or not; nothing in between.
    acceptable = [model_after(acknowledged), model_after(acknowledged + 1)]
    hints = [hints_after(acknowledged), hints_after(acknowledged + 1)]
    for _ in range(2):
        engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=PARTITIONS)
        engine.check_invariants()
        found = check(engine, acceptable)
        kept = {one.key: one for one in engine.hints.page("n2", b"", 1000)}
        assert kept == hints[acceptable.index(found)], "records and hints of a turn go together"
        engine.freeze_memtable()
        assert engine.settle(30), engine.stats()
        assert check(engine, [found]) == found
        stats = engine.stats()
        assert stats.corrupt_sstables == ()
        assert len(list((tmp_path / "sstables").iterdir())) == stats.sstables, "files left over"
        engine.close()
        acceptable, hints = [found], [kept]
