"""A fault of the network, injected on purpose: what is to happen to messages on which links.

A link is directed, (from, to). A fault names its links and what becomes of a message on them:

    drop        the link is cut: nothing gets through
    loss        a message is lost with this probability
    delay_ms    a message takes so much longer, give or take jitter_ms
    duplicate   a message arrives twice with this probability

Where a link is subject to several faults they all act: one cut is enough, every fault may lose the
message, delays add up, every fault may add a copy.

A cut acts at both ends of its link, so it holds as soon as either of them knows it, for messages
under way, too. Loss, delay and duplication act once, at the sending end: ten percent are ten
percent.

The same document travels as the argument of the nodes' `fault_set` command and lies in a node's
`faults.json`, which both the node and kvctl may write (`kvctl_node.runtime.fault_control`).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec

from kvctl_node.documents import UNREADABLE, why_unreadable
from kvctl_node.errors import InvalidRequestError

FAULTS_FILE_NAME = "faults.json"
FAULTS_MAX = 64
"""Faults active on one node at the same time."""
DELAY_MAX_MS = 60_000
"""Longer delays are no slow link but a partition, and would only fill memory."""
LINKS_MAX = 1 << 17

Link = tuple[str, str]


class LinkFault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One fault. Probabilities from 0 to 1, delays in milliseconds."""

    id: str
    kind: str
    """What it was made as: `partition`, `isolate` or `link`. For people; nothing depends on it."""
    links: tuple[Link, ...]
    drop: bool = False
    loss: float = 0.0
    delay_ms: int = 0
    jitter_ms: int = 0
    """The delay of each message is drawn evenly from delay_ms - jitter_ms to delay_ms + jitter_ms,
    so messages overtake each other."""
    duplicate: float = 0.0
    expires_ms: int | None = None
    """Wall-clock time at which the node lifts it by itself; None: when it is told to."""
    hits: int = 0
    """Messages it has touched: stopped, lost, delayed or doubled."""

    @property
    def cuts(self) -> bool:
        """Whether nothing gets through its links."""
        return self.drop or self.loss >= 1.0

    def validate(self) -> None:
        """Raises `InvalidRequestError` if a value is out of its range or nothing would happen."""
        if not self.id or len(self.id) > 32:
            raise InvalidRequestError("a fault needs an id of at most 32 characters.")
        if not self.links or len(self.links) > LINKS_MAX:
            raise InvalidRequestError(f"a fault needs 1 to {LINKS_MAX} links.")
        for word, chance in (("loss", self.loss), ("duplicate", self.duplicate)):
            if not 0.0 <= chance <= 1.0:
                raise InvalidRequestError(f"{word} must be between 0 and 100 %, not {chance}.")
        if not 0 <= self.delay_ms <= DELAY_MAX_MS:
            raise InvalidRequestError(
                f"a delay may be at most {DELAY_MAX_MS // 1000} s, not {self.delay_ms} ms.",
                hint="cut the link with --drop instead.",
            )
        if not 0 <= self.jitter_ms <= self.delay_ms:
            raise InvalidRequestError(
                f"the jitter of {self.jitter_ms} ms is more than the delay of {self.delay_ms} ms.",
                hint="jitter is give or take: --delay 200ms --jitter 50ms is 150 to 250 ms.",
            )
        if not (self.drop or self.loss or self.delay_ms or self.duplicate):
            raise InvalidRequestError("a fault must drop, lose, delay or duplicate something.")

    def touches(self, node: str) -> bool:
        """Whether a node is at either end of one of its links."""
        return any(node in link for link in self.links)

    def at(self, node: str) -> LinkFault:
        """The part of it that concerns one node: only the links from it and to it."""
        own = tuple(link for link in self.links if node in link)
        return msgspec.structs.replace(self, links=own)


class FaultDocument(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The content of `faults.json`."""

    faults: tuple[LinkFault, ...] = ()


def parse_fault(arguments: dict[str, Any]) -> LinkFault:
    """A valid fault from plain data. Raises `InvalidRequestError`."""
    try:
        fault = msgspec.convert(arguments, LinkFault)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(f"that is no fault: {error}.") from error
    fault.validate()
    return fault


def encode_faults(faults: Iterable[LinkFault]) -> bytes:
    """The content of a `faults.json`."""
    return msgspec.json.encode(FaultDocument(tuple(faults))) + b"\n"


def decode_faults(content: bytes) -> tuple[LinkFault, ...]:
    """The faults in a `faults.json`. Raises `InvalidRequestError` if it is damaged."""
    try:
        faults = msgspec.json.decode(content, type=FaultDocument).faults
    except UNREADABLE as error:
        reason = why_unreadable(error, content)
        raise InvalidRequestError(f"not a list of faults: {reason}.") from error
    for fault in faults:
        fault.validate()
    return faults
