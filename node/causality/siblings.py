"""The stored object: a causal context and the versions that are still alive (siblings).

Two operations, and no third:

* `put_version`: the coordinating replica mints a new dot for the value. Siblings that the given
  context covers go; the others stay beside the new one.
* `merge_objects`: a version stays if both sides have it, or if one side has it and the other has
  never seen it. What one side has seen and no longer has, was superseded. Merging is commutative,
  associative and idempotent, so replicas converge in whatever order messages arrive.

A context is never widened around an existing dot: two writers that did so would cover each other,
and both values would vanish. Whoever wants to supersede more, mints a new dot.

The encoding is canonical (sorted, deterministic): replicas with the same versions hold the same
bytes, and their 16-byte digests are equal.
"""

from __future__ import annotations

from typing import Final

import mmh3
import msgspec

from node.causality.causal_context import EMPTY_CONTEXT, CausalContext, Dot
from node.errors import ProtocolError

TOMBSTONE: Final = None
"""The value of a version that deletes the key."""


class Sibling(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One live version: its dot, its value, and the request that wrote it."""

    actor: str
    counter: int
    value: bytes | None
    client: int = 0
    sequence: int = 0

    @property
    def dot(self) -> Dot:
        """The name of the write."""
        return Dot(self.actor, self.counter)

    @property
    def request(self) -> tuple[int, int]:
        """(client, sequence): two siblings of one retried request show as one."""
        return self.client, self.sequence


class StoredObject(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """All that a replica knows of a key's versions. Siblings are sorted by dot."""

    context: CausalContext
    siblings: tuple[Sibling, ...] = ()

    @property
    def deleted(self) -> bool:
        """True when every sibling is a tombstone: reads as "not found", with the context."""
        return all(sibling.value is TOMBSTONE for sibling in self.siblings)

    def check_invariants(self) -> None:
        """Assert canonical form and that the context covers every sibling."""
        self.context.check_invariants()
        dots = [sibling.dot for sibling in self.siblings]
        assert dots == sorted(set(dots))
        assert all(self.context.covers(actor, counter) for actor, counter in dots)
        assert self.siblings, "an object without versions is never stored"


EMPTY_OBJECT = StoredObject(EMPTY_CONTEXT)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredObject)
_context_decoder = msgspec.msgpack.Decoder(CausalContext)


def encode_object(stored: StoredObject) -> bytes:
    """The canonical bytes."""
    return _encoder.encode(stored)


def decode_object(content: bytes) -> StoredObject:
    """Inverse of `encode_object`; raises `ProtocolError` on anything that is not an object."""
    try:
        return _decoder.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not an encoded object: {error}.") from error


def encode_context(context: CausalContext) -> bytes:
    """A context alone, as answers to puts carry it."""
    return _encoder.encode(context)


def decode_context(data: bytes) -> CausalContext:
    """Inverse of `encode_context`; raises `ProtocolError`."""
    try:
        return _context_decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not an encoded causal context: {error}.") from error


def digest_of(content: bytes) -> bytes:
    """The 16-byte hash by which replicas compare copies without sending them."""
    return mmh3.mmh3_x64_128_digest(content)


def put_version(
    stored: StoredObject,
    value: bytes | None,
    *,
    actor: str,
    seen: CausalContext,
    stamp_ms: int,
    request: tuple[int, int] = (0, 0),
) -> tuple[StoredObject, Dot]:
    """Mint a new version that supersedes exactly what `seen` covers.

    Returns the new object and the dot. The caller makes it durable before anybody learns of it.
    """
    counter = 1 + max(stored.context.highest_counter(actor), seen.highest_counter(actor))
    sibling = Sibling(actor, counter, value, *request)
    context = stored.context if stored.context == seen else stored.context.union(seen)
    kept = [other for other in stored.siblings if not seen.covers(other.actor, other.counter)]
    if kept:
        kept.append(sibling)
        kept.sort(key=_by_dot)
        siblings = tuple(kept)
    else:
        siblings = (sibling,)
    return (
        StoredObject(context.with_dot(actor, counter, stamp_ms), siblings),
        Dot(actor, counter),
    )


def merge_objects(left: StoredObject, right: StoredObject) -> StoredObject:
    """The least object that has seen what both have seen."""
    if left == right:
        return left
    of_left = {(sibling.actor, sibling.counter) for sibling in left.siblings}
    of_right = {(sibling.actor, sibling.counter) for sibling in right.siblings}
    kept = [
        sibling
        for sibling in left.siblings
        if (sibling.actor, sibling.counter) in of_right
        or not right.context.covers(sibling.actor, sibling.counter)
    ]
    kept.extend(
        sibling
        for sibling in right.siblings
        if (sibling.actor, sibling.counter) not in of_left
        and not left.context.covers(sibling.actor, sibling.counter)
    )
    kept.sort(key=_by_dot)
    return StoredObject(left.context.union(right.context), tuple(kept))


def _by_dot(sibling: Sibling) -> tuple[str, int]:
    return sibling.actor, sibling.counter
