"""Large pages: which memory is moved, that it keeps its bytes, and who may say no."""

from __future__ import annotations

import mmap
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvctl_node.runtime import huge_pages
from kvctl_node.runtime.huge_pages import LOOK_EVERY, SPAN_BYTES, HugePages, heap_spans

SPANS = 8
PAGE = mmap.PAGESIZE

SYSTEM = Path("/sys/kernel/mm/transparent_hugepage")

on_demand = pytest.mark.skipif(
    sys.platform != "linux"
    or tuple(int(part) for part in os.uname().release.split(".")[:2]) < (6, 1)
    or not SYSTEM.exists()
    or "[always]" in (SYSTEM / "enabled").read_text()
    or int((SYSTEM / "hpage_pmd_size").read_text()) != SPAN_BYTES,
    reason="large pages on demand need Linux 6.1, and a system that does not give them unasked",
)


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    (tmp_path / "enabled").write_text("always [madvise] never\n")
    (tmp_path / "hpage_pmd_size").write_text(f"{SPAN_BYTES}\n")
    return tmp_path


@pytest.fixture
def memory() -> Iterator[mmap.mmap]:
    """Some private memory, of which nothing was touched yet."""
    with mmap.mmap(-1, SPANS * SPAN_BYTES, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS) as memory:
        if hasattr(mmap, "MADV_DONTFORK"):
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
    for _ in range(LOOK_EVERY):
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


@on_demand
def test_memory_in_use_is_moved_and_keeps_its_bytes(memory: mmap.mmap, settings: Path) -> None:
    touch(memory)
    before = memory[:]
    assert in_large_pages(memory) == 0

    pages = HugePages(settings=settings)
    turn_until_walked(pages)

    # Its ends need not be where a span begins.
    assert in_large_pages(memory) >= (SPANS - 1) * SPAN_BYTES
    assert pages.bytes >= (SPANS - 1) * SPAN_BYTES
    assert memory[:] == before


@on_demand
def test_memory_in_use_by_half_stays(memory: mmap.mmap, settings: Path) -> None:
    touch(memory, every=2)
    turn_until_walked(HugePages(settings=settings))
    assert in_large_pages(memory) == 0


@on_demand
def test_the_heap_is_gone_through_when_memory_is_new(memory: mmap.mmap, settings: Path) -> None:
    pages = HugePages(settings=settings)
    turn_until_walked(pages)
    for _ in range(LOOK_EVERY):
        pages.after_turn()
    assert not pages.walking
    touch(memory)
    for _ in range(LOOK_EVERY):
        pages.after_turn()
    assert pages.walking


@on_demand
def test_one_span_is_moved_in_a_turn(memory: mmap.mmap, settings: Path) -> None:
    pages = HugePages(settings=settings)
    turn_until_walked(pages)
    touch(memory)
    for _ in range(LOOK_EVERY):
        pages.after_turn()
    before = in_large_pages(memory)
    while pages.walking:
        pages.after_turn()
        moved, before = in_large_pages(memory) - before, in_large_pages(memory)
        assert moved <= SPAN_BYTES


def deny(settings: Path) -> None:
    (settings / "enabled").write_text("always madvise [never]\n")


def have_other_sizes(settings: Path) -> None:
    (settings / "hpage_pmd_size").write_text(f"{16 * SPAN_BYTES}\n")


def have_none(settings: Path) -> None:
    (settings / "enabled").unlink()


@pytest.mark.parametrize("withhold", [deny, have_other_sizes, have_none])
def test_where_they_are_not_to_be_had_nothing_is_moved(
    memory: mmap.mmap, settings: Path, withhold: Callable[[Path], None]
) -> None:
    withhold(settings)
    touch(memory)
    pages = HugePages(settings=settings)
    turn_until_walked(pages)
    assert pages.bytes == 0


@on_demand
def test_who_denied_them_may_change_their_mind(memory: mmap.mmap, settings: Path) -> None:
    deny(settings)
    pages = HugePages(settings=settings)
    turn_until_walked(pages)
    (settings / "enabled").write_text("[always] madvise never\n")
    touch(memory)
    turn_until_walked(pages)
    assert pages.bytes > 0


@pytest.mark.parametrize("error", [OSError(24, "no descriptor is free"), ImportError("ctypes")])
def test_a_system_that_lacks_something_is_left_alone(
    memory: mmap.mmap,
    settings: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
) -> None:
    asked = 0

    def fail() -> None:
        nonlocal asked
        asked += 1
        raise error

    monkeypatch.setattr(huge_pages, "_Memory", fail)
    pages = HugePages(settings=settings)
    for _ in range(3):
        touch(memory)
        turn_until_walked(pages)
        memory.madvise(mmap.MADV_DONTNEED)
    assert (pages.bytes, asked) == (0, 1)


def test_no_more_than_one_span_is_looked_at_in_a_turn(
    memory: mmap.mmap, settings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = 0

    class Refusing:
        def share_in_use(self, address: int) -> float:
            nonlocal looked
            looked += 1
            return 0.0

    monkeypatch.setattr(huge_pages, "_Memory", Refusing)
    pages = HugePages(settings=settings)
    touch(memory)
    for turn in range(1, LOOK_EVERY + SPANS):
        pages.after_turn()
        assert looked <= max(0, turn - LOOK_EVERY)
    assert looked == SPANS - 1
