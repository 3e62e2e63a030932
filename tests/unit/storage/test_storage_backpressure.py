"""A full disk, a failing flush, a slow one: writes are refused, reads go on, nothing is lost."""

from __future__ import annotations

import errno
import time
from collections.abc import Generator
from pathlib import Path
from threading import Event

import pytest

from kvctl_node.config import StorageConfig
from kvctl_node.errors import StorageError, StorageFullError
from kvctl_node.ports import Record
from kvctl_node.storage import engine as engine_module
from kvctl_node.storage.background import BackgroundWorker, Urgency
from kvctl_node.storage.crash_points import CrashPoint
from kvctl_node.storage.engine import SqliteStorageEngine
from tests.placing import placed

PARTITIONS = 8
CONFIG = StorageConfig(memtable_bytes=4096, frozen_memtables_max=3, compaction_fanout=2)


def record(number: int, size: int = 100) -> Record:
    return Record(b"%06d" % number + b"." * size, b"digest")


def fill(engine: SqliteStorageEngine, count: int) -> None:
    for number in range(count):
        engine.put(number % PARTITIONS, b"key-%05d" % number, record(number))
        engine.commit()


class FailingDisk:
    """Fails at one step of the engine until it is mended."""

    def __init__(self, point: CrashPoint) -> None:
        self.point = point
        self.broken = True

    def on_step(self, step: CrashPoint) -> None:
        if self.broken and step == self.point:
            raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize(
    "point",
    [
        CrashPoint.FLUSH_BATCH_WRITTEN,
        CrashPoint.FLUSH_SYNCED,
        CrashPoint.FLUSH_DIRECTORY_SYNCED,
        CrashPoint.FLUSH_INSTALLING,
    ],
)
def test_a_failing_flush_refuses_writes_and_recovers(tmp_path: Path, point: CrashPoint) -> None:
    disk = FailingDisk(point)
    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=PARTITIONS, on_step=disk.on_step)
    written = 0
    while engine.accepts_writes():
        engine.put(written % PARTITIONS, b"key-%05d" % written, record(written))
        engine.commit()
        engine.maintain()
        written += 1
        assert written < 1000
    assert engine.stats().frozen_memtables == CONFIG.frozen_memtables_max
    assert not engine.settle(0.2)
    assert "No space left" in engine.stats().background_error
    assert all(engine.get(n % PARTITIONS, b"key-%05d" % n) == record(n) for n in range(written))
    disk.broken = False
    assert engine.settle(30)
    assert engine.accepts_writes()
    assert engine.stats().background_error == ""
    assert engine.stats().sstables >= 1
    assert all(engine.get(n % PARTITIONS, b"key-%05d" % n) == record(n) for n in range(written))
    engine.close()


def test_a_failing_compaction_keeps_the_old_tables_and_is_done_later(tmp_path: Path) -> None:
    disk = FailingDisk(CrashPoint.COMPACTION_SYNCED)
    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=PARTITIONS, on_step=disk.on_step)
    fill(engine, 200)
    deadline = time.monotonic() + 30
    while engine.stats().frozen_memtables or "compaction" not in engine.stats().background_error:
        assert not engine.settle(0.02)
        assert time.monotonic() < deadline, engine.stats()
    assert engine.accepts_writes()
    before = engine.stats().sstables
    disk.broken = False
    assert engine.settle(30)
    assert engine.stats().compactions >= 1
    assert engine.stats().sstables < before
    assert all(engine.get(n % PARTITIONS, b"key-%05d" % n) == record(n) for n in range(200))
    engine.close()


def test_little_free_disk_space_refuses_writes_until_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SPACE_CHECK_INTERVAL_S", 0.0)
    free = [1 << 40]
    engine = SqliteStorageEngine.open(
        tmp_path, CONFIG, partitions=PARTITIONS, free_bytes=lambda: free[0]
    )
    assert engine.accepts_writes()
    free[0] = CONFIG.disk_reserve_bytes - 1
    assert not engine.accepts_writes()
    free[0] = CONFIG.disk_reserve_bytes
    assert engine.accepts_writes()
    engine.close()


def test_a_nearly_full_database_refuses_writes_before_a_commit_can_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SPACE_CHECK_INTERVAL_S", 0.0)
    config = StorageConfig(memtable_bytes=1 << 22, database_bytes_max=1 << 19)
    engine = SqliteStorageEngine.open(tmp_path, config, partitions=PARTITIONS)
    written = 0
    while engine.accepts_writes():
        engine.put(0, b"key-%05d" % written, record(written, size=4000))
        engine.commit()
        written += 1
    assert 50 < written < 130
    engine.freeze_memtable()
    assert engine.settle(30), engine.stats()
    assert engine.accepts_writes(), "the flush made room"
    engine.close()


def test_a_full_database_raises_on_commit_and_can_still_be_flushed_after_a_restart(
    tmp_path: Path,
) -> None:
    config = StorageConfig(
        memtable_bytes=1 << 22, database_bytes_max=1 << 19, bloom_bits_per_key=64
    )
    engine = SqliteStorageEngine.open(tmp_path, config, partitions=PARTITIONS)
    committed = 0
    with pytest.raises(StorageFullError):
        while committed < 10_000:
            engine.put(0, b"key-%05d" % committed, record(committed, size=300))
            engine.commit()
            committed += 1
    with pytest.raises(StorageError):
        engine.commit()
    engine.close()
    engine = SqliteStorageEngine.open(tmp_path, config, partitions=PARTITIONS)
    assert engine.get(0, b"key-%05d" % committed) is None
    assert engine.get(0, b"key-%05d" % (committed - 1)) == record(committed - 1, size=300)
    engine.freeze_memtable()
    assert engine.settle(30), engine.stats()
    engine.put(0, b"after", record(1))
    engine.commit()
    engine.close()


def test_an_idle_engine_has_nothing_to_maintain(tmp_path: Path) -> None:
    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=PARTITIONS)
    fill(engine, 100)
    assert engine.settle(30)
    assert engine.maintain() is False
    engine.close()


def test_closing_abandons_a_flush_and_loses_nothing(tmp_path: Path) -> None:
    started, go_on = Event(), Event()

    def on_step(step: CrashPoint) -> None:
        if step == CrashPoint.FLUSH_BATCH_WRITTEN:
            started.set()
            assert go_on.wait(30)

    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=PARTITIONS, on_step=on_step)
    fill(engine, 60)
    assert started.wait(30)
    go_on.set()
    engine.close()
    engine = SqliteStorageEngine.open(tmp_path, CONFIG, partitions=PARTITIONS)
    assert all(engine.get(n % PARTITIONS, b"key-%05d" % n) == record(n) for n in range(60))
    engine.close()


class TestBackgroundWorker:
    def test_the_urgent_task_goes_first_and_the_other_is_not_starved(self) -> None:
        order: list[str] = []

        def steps(name: str, count: int) -> Generator[None, None, str]:
            for _ in range(count):
                order.append(name)
                yield
            return name

        worker = BackgroundWorker("test")
        done: list[str] = []
        worker.submit("slow", Urgency.COMPACTION, lambda: steps("slow", 10), done.append)
        worker.submit("fast", Urgency.FLUSH, lambda: steps("fast", 20), done.append)
        worker.start()
        while not worker.is_idle():
            worker.wait(1)
            worker.deliver_finished()
        worker.stop()
        assert done == ["fast", "slow"]
        assert order[:6] == ["fast", "fast", "slow", "fast", "fast", "slow"]

    def test_a_cancelled_task_is_closed_and_never_delivered(self) -> None:
        running, closed = Event(), Event()

        def endless() -> Generator[None, None, None]:
            try:
                while True:
                    running.set()
                    yield
            finally:
                closed.set()

        worker = BackgroundWorker("test")
        done: list[None] = []
        task = worker.submit("endless", Urgency.FLUSH, endless, done.append)
        worker.start()
        assert running.wait(30)
        task.cancelled = True
        assert closed.wait(30)
        worker.wait(30)
        assert worker.is_idle()
        worker.stop()
        assert done == []

    def test_a_task_that_fails_is_tried_again_and_its_error_shown_meanwhile(self) -> None:
        attempts: list[int] = []
        seen: list[str] = []

        def flaky() -> Generator[None, None, str]:
            attempts.append(1)
            seen.extend(worker.errors.values())
            yield
            if len(attempts) < 3:
                raise OSError("not yet")
            return "done"

        worker = BackgroundWorker("test")
        done: list[str] = []
        worker.submit("flaky", Urgency.FLUSH, flaky, done.append)
        worker.start()
        while not done:
            worker.wait(30)
            worker.deliver_finished()
        worker.stop()
        assert len(attempts) == 3
        assert seen == ["flaky failed: not yet"] * 2
        assert worker.errors == {}


def test_what_is_put_together_counts_before_it_is_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SPACE_CHECK_INTERVAL_S", 3600.0)
    config = StorageConfig()
    free = config.disk_reserve_bytes + engine_module.SPACE_CHECK_BYTES
    engine = SqliteStorageEngine.open(
        tmp_path, config, partitions=PARTITIONS, free_bytes=lambda: free
    )
    assert engine.accepts_writes()
    keys = [b"key-%d" % number for number in range(70)]
    engine.put_new(placed((0, key) for key in keys), [record(number, 1000) for number in range(70)])
    assert not engine.accepts_writes()
    engine.close()


def test_the_free_space_is_looked_at_again_after_so_many_bytes_however_soon(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine_module, "SPACE_CHECK_INTERVAL_S", 3600.0)
    free = [1 << 40]
    engine = SqliteStorageEngine.open(
        tmp_path, StorageConfig(), partitions=PARTITIONS, free_bytes=lambda: free[0]
    )
    assert engine.accepts_writes()
    free[0] = 0
    written = 0
    while engine.accepts_writes():
        written += 1
        engine.put(0, b"key-%05d" % written, record(written, 1000))
        engine.commit()
        assert written < 100
    assert written * 1000 >= engine_module.SPACE_CHECK_BYTES - 1100
    engine.close()
