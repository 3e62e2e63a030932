"""Options that take one of a few words. Typer checks, lists and completes them."""

from __future__ import annotations

from enum import StrEnum


class Mode(StrEnum):
    """Who may count toward R and W."""

    SLOPPY = "sloppy"
    STRICT = "strict"


class Durability(StrEnum):
    """What an acknowledged write survives."""

    OS = "os"
    FSYNC = "fsync"


class Repair(StrEnum):
    """When a get mends the replicas that differ."""

    ASYNC = "async"
    BLOCKING = "blocking"


class Shell(StrEnum):
    """Shells with completion."""

    BASH = "bash"
    ZSH = "zsh"
    FISH = "fish"


class HintAction(StrEnum):
    """Whether nodes deliver hints."""

    HOLD = "hold"
    RELEASE = "release"


class Workload(StrEnum):
    """What a benchmark does."""

    PUT = "put"
    GET = "get"
    MIXED = "mixed"


class PutSort(StrEnum):
    """How a benchmark writes."""

    OVERWRITE = "overwrite"
    BLIND = "blind"
