"""Large pages for the heap of a busy node.

A node looks up its memory at random: entries of a memtable, Bloom filters, Merkle leaves. With
pages of 4 KiB every other look misses the processor's table of translations (TLB), and in a virtual
machine a miss is two walks through page tables. Linux has pages of 2 MiB, but gives them unasked
only where the administrator chose "always"; where it is "madvise", as nearly everywhere, one has to
ask, and Python's allocator does not. So a node asks for itself: whenever much of its memory is new,
it goes through its heap and has what is in use moved to large pages.

    mappings ──▶ spans of 2 MiB ──▶ nearly all of it in use? ──▶ MADV_COLLAPSE

One span is looked at at a time, between two turns, and moving it takes a millisecond or a few.
Memory grows by the part of a span that was not in use: at most an eighth, where what was only ever
read counts as used. An administrator's "never" is respected, though the call itself would not.
Where the system lacks anything of this (Linux 6.1, /proc, the permission) the heap stays as it is.

Source: madvise(2), Linux man-pages; Kwon et al., "Coordinated and Efficient Huge Page Management
with Ingens", OSDI 2016, for moving only what is in use.
"""

from __future__ import annotations

import logging
import resource
from collections.abc import Iterator
from pathlib import Path

SPAN_BYTES = 2 * 1024 * 1024
"""A large page of x86-64, and of AArch64 where small ones have 4 KiB; elsewhere nothing is done."""
IN_USE_MIN = 7 / 8
"""A span of which less is in use stays as it is: moving it would make the process larger."""
NEW_BYTES_MIN = 2 * SPAN_BYTES
"""The heap is gone through when so much memory was touched for the first time since."""
LOOK_EVERY = 32
"""Of so many calls one asks how much is new, which costs a microsecond."""

_MADV_COLLAPSE = 25
_PAGE_BYTES = resource.getpagesize()
_MAPPINGS = Path("/proc/self/maps")
_SETTINGS = Path("/sys/kernel/mm/transparent_hugepage")

logger = logging.getLogger(__name__)


class HugePages:
    """Moves the heap of this process to large pages, little by little. One thread uses it."""

    def __init__(self, *, settings: Path = _SETTINGS) -> None:
        """`settings`: the directory with the system's settings of large pages."""
        self.bytes = 0
        """Heap in large pages when it was last gone through."""
        self._settings = settings
        self._possible = True
        self._turns = 0
        self._new_pages_before = 0
        self._steps: Iterator[None] | None = None
        """The walk under way."""

    @property
    def walking(self) -> bool:
        """Whether the heap is being gone through."""
        return self._steps is not None

    def after_turn(self) -> None:
        """Look at a span if it is time to. Costs a fraction of a microsecond if it is not."""
        if self._steps is not None:
            self._walk_on(self._steps)
            return
        self._turns += 1
        if self._turns < LOOK_EVERY or not self._possible:
            return
        self._turns = 0
        new_pages = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        if (new_pages - self._new_pages_before) * _PAGE_BYTES >= NEW_BYTES_MIN:
            self._new_pages_before = new_pages
            self._steps = self._walk()

    def _walk_on(self, steps: Iterator[None]) -> None:
        try:
            if next(steps, self) is self:
                self._steps = None
        except (OSError, ImportError, AttributeError) as error:
            # No /proc, no ctypes, no such call, no free descriptor: a node can do without.
            self._steps, self._possible = None, False
            logger.info("the heap stays in small pages: %s", error)

    def _walk(self) -> Iterator[None]:
        """Go through the heap; pauses after each span.

        Spans that are in large pages already are asked for again: that costs next to nothing, and
        nobody tells when one was given back or split.
        """
        moved = 0
        if _is_allowed(self._settings):
            memory = _Memory()
            for address in heap_spans(_MAPPINGS.read_text("utf-8", "replace")):
                if memory.share_in_use(address) >= IN_USE_MIN and memory.collapse(address):
                    moved += SPAN_BYTES
                yield
        self.bytes = moved


class _Memory:
    """Two calls of the operating system that Python does not have."""

    def __init__(self) -> None:
        """Raises `ImportError` or `AttributeError` where they cannot be called."""
        import ctypes  # 5 ms, which most starts can do without

        libc = ctypes.CDLL(None)
        self._mincore, self._madvise = libc.mincore, libc.madvise
        self._mincore.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_char_p)
        self._madvise.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
        self._pages = ctypes.create_string_buffer(SPAN_BYTES // _PAGE_BYTES)

    def share_in_use(self, address: int) -> float:
        """How much of a span is in memory, 0 if part of it is not mapped any more."""
        if self._mincore(address, SPAN_BYTES, self._pages):
            return 0.0
        return self._pages.raw.count(1) / len(self._pages)

    def collapse(self, address: int) -> bool:
        """Have a span moved to a large page; False if it cannot be, now or ever."""
        return not self._madvise(address, SPAN_BYTES, _MADV_COLLAPSE)


def heap_spans(mappings: str) -> Iterator[int]:
    """Where the aligned spans within the heap begin; `mappings`: as in /proc/self/maps.

    The heap is what is writable, private, and neither a file nor named, but for "[heap]".
    """
    for line in mappings.splitlines():
        where, rights, _, _, _, *name = line.split(maxsplit=5)
        if rights == "rw-p" and name in ([], ["[heap]"]):
            begin, end = (int(part, 16) for part in where.split("-"))
            yield from range(-(-begin // SPAN_BYTES) * SPAN_BYTES, end - SPAN_BYTES + 1, SPAN_BYTES)


def _is_allowed(settings: Path) -> bool:
    """Whether this system has large pages of this size, and its administrator lets processes ask.

    Asked anew each time, since a choice can be changed. Raises `OSError` where there are none.
    """
    choice = (settings / "enabled").read_text("ascii")
    size = int((settings / "hpage_pmd_size").read_text("ascii"))
    return size == SPAN_BYTES and "[never]" not in choice
