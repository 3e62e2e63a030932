"""Whether SQLite's write-ahead log was replayed to its end, or only up to a damaged frame.

SQLite replays the log up to the first frame whose checksum is wrong and says nothing of the rest.
Two cases look alike to it: a transaction that a crash cut off, which was never committed, and
damage in the middle. They differ in what follows: behind the last frame replayed, a crash leaves no
frame that ends a transaction of this log.

Damage in frames that a checkpoint had copied into the database before is worse than a missing tail:
the frames before it put older pages over newer ones. So it is not enough to know the last turn
(`disk_mark`), and this is looked at as well.

The layout (sqlite.org/fileformat2.html, section 4): a header of 32 bytes, then frames of 24 bytes
and a page each, big-endian. A frame belongs to this log if it has the header's two salts, and ends
a transaction if its second field, the size of the database, is not 0.
"""

from __future__ import annotations

import struct
from pathlib import Path

_HEADER = struct.Struct(">8xI4xII8x")
_FRAME = struct.Struct(">4xIII8x")
_PAGE_BYTES_MAX = 65536


def has_unreplayed_commits(path: Path, replayed_frames: int) -> bool:
    """Whether transactions of this log end behind its first `replayed_frames`. Raises `OSError`.

    Reads 24 bytes a frame.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return False
    with file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            return False
        page_bytes, *salts = _HEADER.unpack(header)
        if not 512 <= page_bytes <= _PAGE_BYTES_MAX:
            return False  # the header is damaged; what the log should hold, the disk mark knows
        stride = _FRAME.size + page_bytes
        place = _HEADER.size + replayed_frames * stride
        while True:
            file.seek(place)
            frame = file.read(_FRAME.size)
            if len(frame) < _FRAME.size:
                return False
            database_pages, *own_salts = _FRAME.unpack(frame)
            if database_pages and own_salts == salts:
                return True
            place += stride
