"""The history of a run as its clients saw it: every request, every answer, every version.

A request is named by (client, sequence), a version by its dot. A retried request may end up with
more than one dot, though it should not; a value that was superseded must never show again.
"""

from __future__ import annotations

from collections.abc import Set
from dataclasses import dataclass, field
from enum import Enum

from kvctl_node.causality.causal_context import CausalContext, Dot
from kvctl_node.protocol.client_messages import (
    PutKind,
)

Request = tuple[int, int]
"""(client, sequence)."""


class Outcome(Enum):
    """What a client may conclude about its put."""

    OPEN = "open"
    ACKED = "acked"
    REFUSED = "refused"
    """Every attempt was definitely not applied."""
    UNKNOWN = "unknown"


@dataclass
class Write:
    """One put or delete. Times are virtual seconds."""

    request: Request
    key: bytes
    value: bytes | None
    kind: PutKind
    seen: CausalContext
    """What the client gave as its context; empty for the other kinds."""
    w: int
    strict: bool
    started_s: float
    ended_s: float = 0.0
    outcome: Outcome = Outcome.OPEN
    unanswered: bool = False
    """An attempt was given up without an answer."""
    dots: set[Dot] = field(default_factory=set)
    """The versions it is known to have made."""

    def __str__(self) -> str:
        value = "delete" if self.value is None else self.value.decode()
        return f"{name_of(self.request)} ({self.kind.name.lower()} {value}, {self.outcome.value})"


@dataclass
class Read:
    """One get that was answered."""

    key: bytes
    r: int
    strict: bool
    blocking: bool
    started_s: float
    ended_s: float
    content: bytes
    context: CausalContext
    replied: tuple[str, ...]


@dataclass
class Version:
    """One dot: which request made it, and exactly what it superseded when it was made."""

    dot: Dot
    write: Write
    order: int
    """The how-many-eth version of the run."""
    minted_s: float
    ended: frozenset[Dot]
    """Itself, and every version that it rightly superseded, directly or through others."""
    seen_ended: frozenset[Dot] = frozenset()
    """The same as far as its maker had seen it: without what second names of those ended in turn,
    which are for their own holders to know."""
    holders: set[str] = field(default_factory=set)
    """Nodes on whose disks a copy that has seen the version was ever durable."""
    settled_s: float | None = None
    """When so many primaries held it that every read quorum meets one of them."""
    durable: bool = False
    """The turn that made it was committed."""
    replaces: Dot | None = None
    """The first name of the same write, where this is its second."""
    overtaken: frozenset[Dot] = frozenset()
    """First names that are not superseded for good where this version was made."""
    attempt: int = 0
    basis: int = 0
    """As the sibling has them."""

    def goes_with(self, other: Version) -> bool:
        """Whether who superseded `other`, a dot of the same request, has superseded this."""
        is_tied = self.attempt < other.attempt or self.basis in (0, other.basis)
        return self.replaces is None and is_tied


@dataclass
class KeyHistory:
    """Everything known about one key."""

    key: bytes
    writes: dict[Request, Write] = field(default_factory=dict)
    versions: dict[Dot, Version] = field(default_factory=dict)
    second_names: dict[Dot, Dot] = field(default_factory=dict)
    """First name of a write → its second."""
    reads: list[Read] = field(default_factory=list)
    reaped: set[Dot] = field(default_factory=set)
    """Tombstones that a primary forgot for good."""
    truncated: bool = False
    """A clock was shortened: an old copy may look concurrent since."""
    damaged: bool = False
    """Some copy of the key was destroyed, in whole or in part."""

    def ended_by(self, roots: set[Dot], for_good: Set[Dot] = frozenset()) -> set[Dot]:
        """`roots`, and every version that one of them rightly superseded, directly or not.

        Whoever superseded a write for good under its first name has superseded it under its second,
        and whatever it ended under that. `for_good`: those of `roots` that are superseded so, and
        not alive.
        """
        ended: set[Dot] = set()
        finally_ended = set(for_good)
        pending = roots
        while pending:
            for dot in pending:
                version = self.versions.get(dot)
                if version is not None:
                    ended |= version.ended
                    finally_ended |= version.ended - version.overtaken - {dot}
            pending = {
                second
                for first, second in self.second_names.items()
                if first in finally_ended and second not in ended
            }
        return ended

    def with_their_requests(self, ended: set[Dot], alive: set[Dot]) -> set[Dot]:
        """`ended`, and what went because another dot of its request was superseded."""
        ended = set(ended)
        # Not `write.dots`, which lack what this very turn has made.
        by_request: dict[Request, list[Version]] = {}
        for version in self.versions.values():
            by_request.setdefault(version.write.request, []).append(version)
        tied = [
            (version, other)
            for versions in by_request.values()
            for version in versions
            for other in versions
            if version is not other and version.goes_with(other)
        ]
        grown = -1
        while grown != len(ended):
            grown = len(ended)
            for version, other in tied:
                if other.dot in ended and other.dot not in alive:
                    ended |= version.ended
        return ended

    def seen_ended_by(self, dot: Dot) -> set[Dot]:
        """What nobody who holds `dot` may hold beside it: what it had seen and superseded, under
        whatever name."""
        version = self.versions[dot]
        seconds = self.second_names
        for_good = version.seen_ended - version.overtaken
        return {*version.seen_ended, *(seconds[one] for one in for_good if one in seconds)} - {dot}

    def superseded_by(self, write: Write, seen_there: CausalContext, beside: set[Dot]) -> set[Dot]:
        """What a put may supersede directly: nothing if it is blind, what its context covers if it
        has one, and what its coordinator knew and did not leave alive if it overwrites.

        `seen_there` and `beside` are of the object in which the new version appears first.
        """
        if write.kind is PutKind.BLIND:
            return set()
        if write.kind is PutKind.CONTEXT:
            return {dot for dot in self.versions if write.seen.covers(*dot)}
        return {dot for dot in self.versions if dot not in beside and seen_there.covers(*dot)}


def name_of(request: Request) -> str:
    """A request as people read it."""
    return f"c{request[0]}:{request[1]}"
