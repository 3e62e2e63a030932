"""A copied data directory is known for one; a moved or restarted one is not."""

from __future__ import annotations

import shutil
import tarfile
from pathlib import Path

import pytest

from kvctl_node.config import StorageConfig
from kvctl_node.errors import DataDirectoryError
from kvctl_node.storage.disk_mark import MARK_FILE, note_disk
from kvctl_node.storage.engine import SqliteStorageEngine


def is_copy(directory: Path, *, commits: bool = True) -> bool:
    """One start of a node on the directory."""
    engine = SqliteStorageEngine.open(directory, StorageConfig(), partitions=8)
    try:
        found = note_disk(directory, engine)
        if commits:
            engine.commit()
        return found
    finally:
        engine.close()


def test_a_directory_is_no_copy_of_itself(tmp_path: Path) -> None:
    assert [is_copy(tmp_path / "n1") for _ in range(3)] == [False] * 3


def test_a_backup_that_is_put_back_is_a_copy_until_that_was_noted(tmp_path: Path) -> None:
    node, backup = tmp_path / "n1", tmp_path / "backup"
    is_copy(node)
    shutil.copytree(node, backup, copy_function=shutil.copy2)
    shutil.rmtree(node)
    shutil.copytree(backup, node, copy_function=shutil.copy2)
    assert is_copy(node, commits=False)
    assert is_copy(node)
    assert not is_copy(node)


def test_an_unpacked_archive_is_a_copy(tmp_path: Path) -> None:
    node, archive = tmp_path / "n1", tmp_path / "n1.tar"
    is_copy(node)
    with tarfile.open(archive, "w") as tar:
        tar.add(node, arcname="n1")
    shutil.rmtree(node)
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    assert is_copy(node)


def test_a_backup_without_the_mark_is_a_copy(tmp_path: Path) -> None:
    is_copy(tmp_path)
    (tmp_path / MARK_FILE).unlink()
    assert is_copy(tmp_path)


def test_a_directory_that_was_moved_is_no_copy(tmp_path: Path) -> None:
    is_copy(tmp_path / "n1")
    (tmp_path / "n1").rename(tmp_path / "elsewhere")
    assert not is_copy(tmp_path / "elsewhere")


def test_a_mark_that_cannot_be_made_is_an_error_in_a_sentence(tmp_path: Path) -> None:
    (tmp_path / MARK_FILE).mkdir()
    with pytest.raises(DataDirectoryError, match=MARK_FILE):
        is_copy(tmp_path)
