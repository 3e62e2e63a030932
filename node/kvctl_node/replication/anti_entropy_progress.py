"""How far a comparison of two nodes has come: what people see of it, in the field's own terms."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NamedTuple


class CompareMode(Enum):
    """What becomes of the keys that differ."""

    READ_ONLY = "compare"
    REPAIR = "repair"
    BACKGROUND = "background"


class CompareState(Enum):
    """How far a comparison is; the last four are final."""

    WAITING = "waiting"
    COMPARING = "comparing"
    REPAIRING = "repairing"
    EQUAL = "equal"
    DIFFERENT = "different"
    REPAIRED = "repaired"
    INTERRUPTED = "interrupted"


class Progress(NamedTuple):
    """One row of `repair_status`. Counts; bytes are of messages, both ways together."""

    session: int
    a: str
    b: str
    trigger: str
    partitions: int
    level: str
    leaves_differing: int
    keys_differing: int
    keys_repaired: int
    bytes: int
    full_copy_bytes: int
    """What copying all the shared partitions would have cost."""
    state: str
    finished: bool
    reason: str
    """Why it waits or was interrupted."""
    last_success_ms: int | None
    """Wall-clock time of the last comparison of this pair that ran to its end, None if never."""


@dataclass(slots=True)
class Counts:
    """What a comparison found and moved so far."""

    leaves: int = 0
    keys: int = 0
    repaired: int = 0
    bytes: int = 0
