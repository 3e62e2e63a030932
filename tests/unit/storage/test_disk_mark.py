"""A data directory that is not the one that stopped here is known for it; a restart is not."""

from __future__ import annotations

import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from kvctl_node.config import StorageConfig
from kvctl_node.errors import DataDirectoryError, DirectoryGoneError
from kvctl_node.identity import IS_COPY
from kvctl_node.ports import Record
from kvctl_node.storage import disk_mark
from kvctl_node.storage.database import DATABASE_FILE
from kvctl_node.storage.disk_mark import IS_BEHIND, IS_UNMARKED, MARK_FILE, DiskMark
from kvctl_node.storage.engine import SqliteStorageEngine

WAL = DATABASE_FILE + "-wal"


TOLERANCE_NS = 20_000_000


@pytest.fixture(autouse=True)
def _small_tolerance(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test does in milliseconds takes a person seconds."""
    monkeypatch.setattr(disk_mark, "_TOLERANCE_NS", TOLERANCE_NS)


def later(directory: Path) -> None:
    """Return when the file system's clock has moved on by more than the tolerance."""
    probe = directory / "clock"
    probe.touch()
    began_ns = probe.stat().st_ctime_ns
    while probe.stat().st_ctime_ns < began_ns + 2 * TOLERANCE_NS:
        probe.touch()
    probe.unlink()


def open_engine(directory: Path) -> SqliteStorageEngine:
    return SqliteStorageEngine.open(directory, StorageConfig(), partitions=8)


def put(engine: SqliteStorageEngine, *numbers: int) -> None:
    for number in numbers:
        engine.put(0, b"k%d" % number, Record(b"v" * 200, b"d" * 16))
        engine.commit()


def doubt(directory: Path, *, commits: bool = True) -> str:
    """One start of a node on the directory, and a clean stop."""
    engine = open_engine(directory)
    try:
        if commits:
            engine.set_metadata("generation", os.urandom(4))
            engine.commit()
        return engine.disk_doubt
    finally:
        engine.close()


def killed(directory: Path) -> Path:
    """The directory as kill -9 leaves it, after ten turns: another one, moved into its place."""
    engine = open_engine(directory)
    put(engine, *range(10))
    image = directory.with_name("image")
    image.mkdir()
    for path in directory.iterdir():
        if path.name != MARK_FILE and path.is_file():
            shutil.copy2(path, image)
    engine.close()
    for path in image.iterdir():
        path.replace(directory / path.name)
    return directory


def flip(path: Path, place: int) -> None:
    with path.open("r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 4]))


def test_a_directory_that_was_stopped_or_killed_is_not_doubted(tmp_path: Path) -> None:
    assert [doubt(tmp_path / "n1") for _ in range(3)] == [""] * 3
    assert doubt(killed(tmp_path / "n1")) == ""


@pytest.mark.parametrize(
    "damage",
    [
        lambda wal: flip(wal, wal.stat().st_size // 2),
        lambda wal: flip(wal, wal.stat().st_size - 100),
        lambda wal: os.truncate(wal, wal.stat().st_size - 4096 - 24),
        lambda wal: os.truncate(wal, wal.stat().st_size // 2),
        lambda wal: os.truncate(wal, 0),
        Path.unlink,
        lambda wal: flip(wal, 18),
    ],
    ids=["bit", "bit of the last frame", "frame", "half", "all", "file", "header"],
)
def test_a_commit_log_that_lost_its_tail_is_noticed(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    directory = killed(tmp_path / "n1")
    damage(directory / WAL)
    assert doubt(directory, commits=False) == IS_BEHIND
    assert doubt(directory) == IS_BEHIND
    later(tmp_path)
    assert doubt(directory) == ""


def test_damage_in_what_was_checkpointed_already_is_noticed(tmp_path: Path) -> None:
    """Its frames before the damage would put older pages over newer ones."""
    directory = tmp_path / "n1"
    engine = open_engine(directory)
    put(engine, *range(10))
    engine._database.checkpoint()
    shutil.copy2(directory / WAL, tmp_path / WAL)
    engine.close()
    (tmp_path / WAL).replace(directory / WAL)
    flip(directory / WAL, (directory / WAL).stat().st_size - 100)
    assert doubt(directory) == IS_BEHIND


def test_a_turn_of_metadata_alone_is_missed_as_well(tmp_path: Path) -> None:
    directory = tmp_path / "n1"
    doubt(directory)
    shutil.copy2(directory / DATABASE_FILE, tmp_path)
    doubt(directory)
    (tmp_path / DATABASE_FILE).replace(directory / DATABASE_FILE)
    assert doubt(directory) == IS_BEHIND


def test_a_backup_that_is_put_back_is_a_copy_until_that_was_noted(tmp_path: Path) -> None:
    node, backup = tmp_path / "n1", tmp_path / "backup"
    doubt(node)
    later(tmp_path)
    shutil.copytree(node, backup, copy_function=shutil.copy2)
    shutil.rmtree(node)
    shutil.copytree(backup, node, copy_function=shutil.copy2)
    assert doubt(node, commits=False) == IS_COPY
    assert doubt(node) == IS_COPY
    assert doubt(node) == ""


@pytest.mark.parametrize("in_place", [False, True], ids=["renamed into place", "in place"])
def test_a_backup_put_back_without_the_files_that_look_unchanged_is_a_copy(
    tmp_path: Path, in_place: bool
) -> None:
    """As rsync does by default: equal size and time of change mean equal content."""
    node, backup = tmp_path / "n1", tmp_path / "backup"
    doubt(node)
    shutil.copytree(node, backup, copy_function=shutil.copy2)
    doubt(node)
    later(tmp_path)
    for path in (path for path in backup.rglob("*") if path.is_file()):
        target = node / path.relative_to(backup)
        before, after = path.stat(), target.stat()
        if (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns):
            continue
        if in_place:
            shutil.copy2(path, target)
        else:
            shutil.copy2(path, target.with_name("temporary"))
            target.with_name("temporary").replace(target)
    assert doubt(node) == IS_COPY


def test_a_backup_moved_into_place_is_a_copy(tmp_path: Path) -> None:
    node, backup = tmp_path / "n1", tmp_path / "backup"
    doubt(node)
    shutil.copytree(node, backup, copy_function=shutil.copy2)
    node.rename(tmp_path / "aside")
    backup.rename(node)
    assert doubt(node) == IS_COPY


def test_an_unpacked_archive_is_a_copy(tmp_path: Path) -> None:
    node, archive = tmp_path / "n1", tmp_path / "n1.tar"
    doubt(node)
    later(tmp_path)
    with tarfile.open(archive, "w") as tar:
        tar.add(node, arcname="n1")
    shutil.rmtree(node)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    assert doubt(node) == IS_COPY


@pytest.mark.parametrize("damage", [Path.unlink, lambda mark: flip(mark, 9)])
def test_a_mark_that_is_missing_or_damaged_leaves_doubt(
    tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    doubt(tmp_path)
    damage(tmp_path / MARK_FILE)
    assert doubt(tmp_path) == IS_UNMARKED


def test_a_database_that_is_gone_beside_its_mark_leaves_doubt(tmp_path: Path) -> None:
    doubt(tmp_path)
    (tmp_path / DATABASE_FILE).unlink()
    assert doubt(tmp_path) == IS_BEHIND


def test_a_directory_that_was_moved_is_no_copy(tmp_path: Path) -> None:
    doubt(tmp_path / "n1")
    (tmp_path / "n1").rename(tmp_path / "elsewhere")
    assert doubt(tmp_path / "elsewhere") == ""


def test_a_file_system_whose_clock_is_ahead_leaves_no_doubt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_ns = disk_mark.time.time_ns
    monkeypatch.setattr(disk_mark.time, "time_ns", lambda: now_ns() - 3_600_000_000_000)
    assert [doubt(tmp_path) for _ in range(2)] == ["", ""]


def test_a_mark_that_cannot_be_made_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / MARK_FILE).mkdir()
    with pytest.raises(DataDirectoryError, match=MARK_FILE):
        doubt(tmp_path)


def test_what_is_committed_into_a_removed_directory_is_not_answered(tmp_path: Path) -> None:
    directory = tmp_path / "n1"
    directory.mkdir()
    mark = DiskMark.open(directory)
    mark.write(1)
    mark.check_in_place()
    shutil.rmtree(directory)
    with pytest.raises(DirectoryGoneError, match=r"n1 was removed"):
        mark.write(2)
    with pytest.raises(DirectoryGoneError, match=r"n1 was removed"):
        mark.check_in_place()
    mark.close()


def test_a_directory_that_was_moved_or_replaced_is_noticed(tmp_path: Path) -> None:
    directory = tmp_path / "n1"
    directory.mkdir()
    mark = DiskMark.open(directory)
    directory.rename(tmp_path / "elsewhere")
    with pytest.raises(DirectoryGoneError, match=r"n1 was moved"):
        mark.check_in_place()
    mark.write(1)  # what is in the files is not lost
    shutil.copytree(tmp_path / "elsewhere", directory)
    with pytest.raises(DirectoryGoneError, match=r"n1 was replaced"):
        mark.check_in_place()
    shutil.rmtree(directory)
    (tmp_path / "elsewhere").rename(directory)
    mark.check_in_place()
    mark.close()
