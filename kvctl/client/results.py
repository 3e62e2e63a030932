"""What a get and a put answer: wire replies, decoded when somebody looks.

A benchmark or a load reads one field of a million answers, so results keep the reply as it came and
decode the stored object, fold its clock or build a context token on first use.

What people see of an object:

* every version (sibling) with its value and its dot; nothing is ever chosen silently:
  `GetResult.value` raises `ConflictError` when there are several;
* versions written by retries of one request are one write and show as one;
* a key whose versions are all tombstones is not found, and still has a context: whoever re-creates
  it with that context supersedes exactly the delete they saw;
* a tombstone beside a value is a conflict like any other.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, NamedTuple

from kvctl.errors import ConflictError
from kvctl_node.causality.causal_context import CausalContext
from kvctl_node.causality.context_token import encode_token, token_to_text
from kvctl_node.causality.epoch_folding import fold_dot, fold_version
from kvctl_node.causality.siblings import (
    EMPTY_OBJECT,
    Sibling,
    StoredObject,
    decode_context,
    decode_object,
    encode_context,
)
from kvctl_node.protocol.client_messages import (
    PutDone,
)


class Version(NamedTuple):
    """One live version of a key."""

    value: bytes | None
    """None: this version deletes the key."""
    deleted: bool
    version: list[tuple[str, int]]
    """The clock of the object it was read from: (node, count) pairs, sorted by node."""
    dot: tuple[str, int]
    """Which write this is: (node, count). What `kvctl resolve --pick n1:3` names."""

    def to_json(self) -> dict[str, Any]:
        """`{"value","enc","version","dot","deleted"}`; `enc` is `utf-8` or `base64`."""
        text, encoding = encode_value(self.value)
        return {
            "value": text,
            "enc": encoding,
            "version": [list(entry) for entry in self.version],
            "dot": list(self.dot),
            "deleted": self.deleted,
        }


def encode_value(value: bytes | None) -> tuple[str | None, str]:
    """A value for JSON, and how it is encoded: text as it is, all other bytes as base64."""
    if value is None:
        return None, "utf-8"
    try:
        return value.decode("utf-8"), "utf-8"
    except UnicodeDecodeError:
        return base64.b64encode(value).decode("ascii"), "base64"


class GetResult:
    """All current versions of one key, as a read quorum knows them."""

    __slots__ = (
        "_cluster_id",
        "_content",
        "_live",
        "_stored",
        "coordinator",
        "degraded",
        "explanation",
        "key",
        "replied",
    )

    def __init__(
        self,
        key: bytes,
        content: bytes,
        *,
        cluster_id: str,
        coordinator: str = "",
        replied: Sequence[str] = (),
        degraded: bool = False,
        explanation: dict[str, Any] | None = None,
    ) -> None:
        """`content` is an encoded object, b"" when no copy exists."""
        self.key = key
        self.coordinator = coordinator
        """The node that asked the replicas."""
        self.replied = replied
        """The nodes whose answers were merged."""
        self.degraded = degraded
        """True when some primary did not answer."""
        self.explanation = explanation
        """Why the answer is what it is, when the get asked with `explain`."""
        self._content = content
        self._cluster_id = cluster_id
        self._stored: StoredObject | None = None
        self._live: tuple[Sibling, ...] | None = None

    @property
    def text(self) -> str:
        """The key as text."""
        return self.key.decode("utf-8")

    @property
    def found(self) -> bool:
        """False when there is no copy, or when all versions are tombstones."""
        return bool(self._versions())

    @property
    def siblings(self) -> tuple[Version, ...]:
        """The versions, by dot; more than one is a conflict. Empty when the key is not found."""
        live = self._versions()
        if not live:
            return ()
        context = self._object().context
        clock = fold_version(context)
        return tuple(
            Version(one.value, one.value is None, clock, fold_dot(one.dot, context)) for one in live
        )

    @property
    def values(self) -> tuple[bytes | None, ...]:
        """The values of all versions, by dot, without their clocks; None for a tombstone."""
        return tuple(one.value for one in self._versions())

    @property
    def value(self) -> bytes | None:
        """The only value; None when the key is not found. Raises `ConflictError` on siblings."""
        live = self._versions()
        if len(live) > 1:
            from kvctl.text.shown_commands import kvctl_command

            raise ConflictError(
                f"{self.text} has {len(live)} conflicting versions.",
                hint=f"{kvctl_command('resolve', self.text)} shows them and how to settle on one.",
            )
        return live[0].value if live else None

    @property
    def context(self) -> str:
        """The opaque token to put with: it covers exactly the versions this result shows."""
        token = encode_token(
            encode_context(self._object().context), cluster_id=self._cluster_id, key=self.key
        )
        return token_to_text(token)

    def to_json(self) -> dict[str, Any]:
        """The object that `kvctl get -o json` prints, plus `explanation` when it was asked for."""
        document: dict[str, Any] = {
            "key": self.text,
            "found": self.found,
            "siblings": [version.to_json() for version in self.siblings],
            "context": self.context,
            "coordinator": self.coordinator,
            "replied": list(self.replied),
            "degraded": self.degraded,
        }
        if self.explanation is not None:
            document["explanation"] = self.explanation
        return document

    def __repr__(self) -> str:
        return f"GetResult({self.text!r}, {len(self._versions())} versions)"

    def _object(self) -> StoredObject:
        if self._stored is None:
            self._stored = decode_object(self._content) if self._content else EMPTY_OBJECT
        return self._stored

    def _versions(self) -> tuple[Sibling, ...]:
        """The siblings people should see: () for a deleted key, one for each write."""
        if self._live is None:
            siblings = self._object().siblings
            if len(siblings) == 1:
                self._live = () if siblings[0].value is None else siblings
            else:
                siblings = _one_for_each_request(siblings)
                self._live = () if all(one.value is None for one in siblings) else siblings
        return self._live


class KeyOnly(GetResult):
    """An entry of a scan that asked for keys only: found, without its versions."""

    __slots__ = ()

    @property
    def found(self) -> bool:
        """Always True: the nodes leave deleted keys out."""
        return True


class PutResult:
    """An acknowledged write: it is durable on `acked`."""

    __slots__ = ("_cluster_id", "_reply", "key")

    def __init__(self, key: bytes, reply: PutDone, *, cluster_id: str) -> None:
        self.key = key
        self._reply = reply
        self._cluster_id = cluster_id

    @property
    def text(self) -> str:
        """The key as text."""
        return self.key.decode("utf-8")

    @property
    def siblings(self) -> int:
        """How many versions the coordinator's copy is left with; more than 1 is a conflict."""
        return self._reply.siblings

    @property
    def coordinator(self) -> str:
        """The node that minted the version."""
        return self._reply.coordinator

    @property
    def acked(self) -> tuple[str, ...]:
        """The nodes that had stored the write when it was acknowledged."""
        return self._reply.acked

    @property
    def hinted(self) -> dict[str, str]:
        """Holder of a hint → the primary it stands in for."""
        return self._reply.hinted

    @property
    def degraded(self) -> bool:
        """True when some primary did not take part."""
        return self._reply.degraded

    @property
    def version(self) -> list[tuple[str, int]]:
        """The clock of the write: (node, count) pairs, sorted by node."""
        return fold_version(self._context())

    @property
    def context(self) -> str:
        """The token for the next put: covers what this put was given, and this put."""
        token = encode_token(self._reply.context, cluster_id=self._cluster_id, key=self.key)
        return token_to_text(token)

    def to_json(self) -> dict[str, Any]:
        """The object that `kvctl put -o json` prints."""
        return {
            "key": self.text,
            "context": self.context,
            "version": [list(entry) for entry in self.version],
            "siblings": self.siblings,
            "coordinator": self.coordinator,
            "acked": list(self.acked),
            "hinted": dict(self.hinted),
            "degraded": self.degraded,
        }

    def __repr__(self) -> str:
        return f"PutResult({self.text!r}, acked by {', '.join(self.acked)})"

    def _context(self) -> CausalContext:
        return decode_context(self._reply.context)


def _one_for_each_request(siblings: tuple[Sibling, ...]) -> tuple[Sibling, ...]:
    """Siblings minted twice for one retried request are one write: keep the first of each."""
    shown: list[Sibling] = []
    seen: set[tuple[int, int]] = set()
    for sibling in siblings:
        if sibling.client or sibling.sequence:
            if sibling.request in seen:
                continue
            seen.add(sibling.request)
        shown.append(sibling)
    return tuple(shown)
