"""Rotating files: bounded, whole lines, nothing lost before the oldest file goes."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from kvctl_node.runtime.rotating_file import RotatingFile


def test_files_are_rotated_at_the_limit_and_only_a_few_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatingFile(path, bytes_max=30, files_kept=2)
    for number in range(10):
        file.append(b"line %04d\n" % number)  # ten bytes: three fit
    file.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1", "log.2"]
    assert path.read_bytes() == b"line 0009\n"
    assert (tmp_path / "log.1").read_bytes() == b"line 0006\nline 0007\nline 0008\n"
    assert (tmp_path / "log.2").read_bytes() == b"line 0003\nline 0004\nline 0005\n"


def test_an_append_is_visible_to_readers_at_once(tmp_path: Path) -> None:
    file = RotatingFile(tmp_path / "log", bytes_max=100, files_kept=1)
    file.append(b"here\n")
    assert (tmp_path / "log").read_bytes() == b"here\n"
    file.close()


def test_a_reopened_file_goes_on_where_it_was_and_counts_what_is_there(tmp_path: Path) -> None:
    path = tmp_path / "log"
    for text in (b"one\n", b"two\n", b"three\n"):
        file = RotatingFile(path, bytes_max=8, files_kept=1)
        file.append(text)
        file.close()
    assert path.read_bytes() == b"three\n"
    assert (tmp_path / "log.1").read_bytes() == b"one\ntwo\n"


def test_a_line_larger_than_the_limit_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "log"
    file = RotatingFile(path, bytes_max=4, files_kept=1)
    file.append(b"much too long\n")
    file.append(b"x\n")
    file.close()
    assert (tmp_path / "log.1").read_bytes() == b"much too long\n"
    assert path.read_bytes() == b"x\n"


def test_the_line_after_a_torn_one_begins_afresh(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log"
    file = RotatingFile(path, bytes_max=1000, files_kept=1)
    write = os.write
    room = [3]

    def full_disk(descriptor: int, data: bytes) -> int:
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = write(descriptor, bytes(data)[: room[0]])
        room[0] -= written
        return written

    monkeypatch.setattr(os, "write", full_disk)
    with pytest.raises(OSError, match="No space"):
        file.append(b"torn line\n")
    room[0] = 1000
    file.append(b"whole line\n")
    file.close()
    assert path.read_bytes() == b"tor\nwhole line\n"


def test_a_file_that_ends_in_a_torn_line_is_mended_when_it_is_opened(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"one\ntor")
    file = RotatingFile(path, bytes_max=1000, files_kept=1)
    file.append(b"two\n")
    file.close()
    assert path.read_bytes() == b"one\ntor\ntwo\n"
