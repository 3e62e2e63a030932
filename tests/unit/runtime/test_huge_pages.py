"""Large pages: which memory is moved, that it keeps its bytes, and who may say no."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from node.runtime.huge_pages import LOOK_EVERY_TURNS, SPAN_BYTES, HugePages, heap_spans

SPANS = 8
PAGE = mmap.PAGESIZE

linux_6_1 = pytest.mark.skipif(
    sys.platform != "linux"
    or tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 1)
    or not Path("/sys/kernel/mm/transparent_hugepage/enabled").exists(),
    reason="large pages on demand need Linux 6.1",
)


@pytest.fixture
def choice(tmp_path: Path) -> Path:
    path = tmp_path / "enabled"
    path.write_text("always [madvise] never\n")
    return path


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    """Some private memory, of which nothing was touched yet."""
    with mmap.mmap(-1, SPANS * SPAN_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        memory.madvise(mmap.MADV_DONTFORK)  # so that it stays a mapping of its own
        yield memory


def touch(memory: mmap.mmap, *, every: int = 1) -> None:
    for page in range(0, len(memory) // PAGE, every):
        memory[page * PAGE] = 1 + page % 255


def in_large_pages(memory: mmap.mmap) -> int:
    """How many bytes of the mapping that holds this memory are, by the system's own account."""
    import ctypes

    begin = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    inside = False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        where = line.split(maxsplit=1)[0]
        if "-" in where and not where.endswith(":"):
            low, high = (int(part, 16) for part in where.split("-"))
            inside = low <= begin < high
        elif inside and where == "AnonHugePages:":
            return int(line.split()[1]) * 1024
    raise AssertionError("the memory is in no mapping")


def turn_until_walked(pages: HugePages) -> None:
    for _ in range(LOOK_EVERY_TURNS):
        pages.after_turn()
    while pages.walking:
        pages.after_turn()


def test_spans_lie_within_private_writable_memory_without_a_file() -> None:
    mappings = "\n".join(
        [
            "00400000-00c00000 r-xp 00000000 fe:00 29755  /usr/bin/python3",
            "00c00000-01400000 rw-p 00000000 fe:00 29755  /usr/lib/a file with blanks.so",
            "01500000-01b00000 rw-p 00000000 00:00 0      [heap]",
            "02000000-02200000 rw-p 00000000 00:00 0",
            "02200001-02400001 rw-p 00000000 00:00 0",
            "03000000-03200000 rw-s 00000000 00:00 0",
            "04000000-04800000 rw-p 00000000 00:00 0      [stack]",
            "05000000-051fffff rw-p 00000000 00:00 0",
        ]
    )
    assert list(heap_spans(mappings)) == [0x01600000, 0x01800000, 0x02000000]


@linux_6_1
def test_memory_in_use_is_moved_and_keeps_its_bytes(memory: mmap.mmap, choice: Path) -> None:
    touch(memory)
    before = memory[:]
    assert in_large_pages(memory) == 0

    pages = HugePages(choice=choice)
    turn_until_walked(pages)

    # Its ends need not be where a span begins.
    assert in_large_pages(memory) >= (SPANS - 1) * SPAN_BYTES
    assert pages.bytes >= (SPANS - 1) * SPAN_BYTES
    assert memory[:] == before


@linux_6_1
def test_memory_in_use_by_half_stays(memory: mmap.mmap, choice: Path) -> None:
    touch(memory, every=2)
    turn_until_walked(HugePages(choice=choice))
    assert in_large_pages(memory) == 0


@linux_6_1
def test_the_heap_is_gone_through_only_when_memory_is_new(memory: mmap.mmap, choice: Path) -> None:
    pages = HugePages(choice=choice)
    turn_until_walked(pages)
    for _ in range(LOOK_EVERY_TURNS):
        pages.after_turn()
    assert not pages.walking
    touch(memory)
    for _ in range(LOOK_EVERY_TURNS):
        pages.after_turn()
    assert pages.walking


@linux_6_1
def test_one_span_is_moved_in_a_turn(memory: mmap.mmap, choice: Path) -> None:
    pages = HugePages(choice=choice)
    turn_until_walked(pages)
    touch(memory)
    for _ in range(LOOK_EVERY_TURNS):
        pages.after_turn()
    before = in_large_pages(memory)
    while pages.walking:
        pages.after_turn()
        moved, before = in_large_pages(memory) - before, in_large_pages(memory)
        assert moved <= SPAN_BYTES


@pytest.mark.parametrize("text", ["always madvise [never]\n", None])
def test_an_administrator_who_says_never_or_a_system_without_is_respected(
    memory: mmap.mmap, choice: Path, text: str | None
) -> None:
    if text is None:
        choice.unlink()
    else:
        choice.write_text(text)
    touch(memory)
    pages = HugePages(choice=choice)
    turn_until_walked(pages)
    assert pages.bytes == 0
