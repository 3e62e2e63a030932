"""The stored object: a causal context and the versions that are still alive (siblings).

Three operations, and no fourth:

* `put_version`: the coordinating replica mints a new dot for the value. Siblings that the given
  context covers go; the others stay beside the new one.
* `replace_version`: the write gets a second dot, which supersedes what has been learnt since.
* `merge_objects`: a version stays if both sides have it, or if one side has it and the other has
  never seen it. What one side has seen and no longer has, was superseded. Merging is commutative,
  associative and idempotent, so replicas converge in whatever order messages arrive.

A context is never widened around an existing dot: two writers that did so would cover each other,
and both values would vanish. Whoever wants to supersede more, mints a new dot that *replaces* the
first: the same write under a second name. Whoever has superseded the first name has superseded the
write, though they never heard of the second, or a delete would be undone by an x:2 that arrives
after it. The exception is another replacement: two writers that find each other's first names and
replace their own keep both values. So a replacement does not supersede the writes that it finds
alive under a first name, it *overtakes* them: should they have a second name, that one counts. The
life of a write at one replica:

    unknown ▶ alive as x:1 ▶ overtaken as x:1 ▶ alive as x:2 (replaces x:1) ▶ superseded

Every step is towards the right, and a merge takes the further one of two; so it is a join.

The encoding is canonical (sorted, deterministic): replicas with the same versions hold the same
bytes, and their 16-byte digests are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Final

import mmh3
import msgspec

from kvctl_node.causality.causal_context import EMPTY_CONTEXT, CausalContext, Dot
from kvctl_node.causality.one_write import basis_of, taken_along
from kvctl_node.errors import ProtocolError

if TYPE_CHECKING:
    from kvctl_node.causality.recent_requests import Applied

TOMBSTONE: Final = None
"""The value of a version that deletes the key."""


class Sibling(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One live version: its dot, its value, and the request that wrote it."""

    actor: str
    counter: int
    value: bytes | None
    client: int = 0
    sequence: int = 0
    replaces: int = 0
    """Counter of the dot, of the same actor, under which the write was first known; 0: of none."""
    attempt: int = 0
    """Which of the client's attempts it was, from 0."""
    basis: int = 0
    """What it superseded, as `one_write` compares it; 0: nothing."""

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
    overtaken: tuple[tuple[str, int], ...] = ()
    """Dots that the context covers and no sibling has, because a replacement overtook them or
    another dot of their request took them along. The next put that has seen them supersedes them
    for good. Sorted."""

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
        assert list(self.overtaken) == sorted(set(self.overtaken))
        assert all(self.context.covers(*dot) and dot not in dots for dot in self.overtaken)
        for sibling in self.siblings:
            assert sibling.replaces < sibling.counter
            assert (sibling.actor, sibling.replaces) not in dots, "a write is alive under one name"


EMPTY_OBJECT = StoredObject(EMPTY_CONTEXT)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(StoredObject)
_context_decoder = msgspec.msgpack.Decoder(CausalContext)
_NO_OBJECT = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises on bytes that are none."""


def encode_object(stored: StoredObject) -> bytes:
    """The canonical bytes."""
    return _encoder.encode(stored)


def decode_object(content: bytes) -> StoredObject:
    """Inverse of `encode_object`; raises `ProtocolError` on anything that is not an object."""
    try:
        return _decoder.decode(content)
    except _NO_OBJECT as error:
        raise ProtocolError(f"not an encoded object: {error}.") from error


def decode_objects(contents: Iterable[bytes]) -> list[StoredObject]:
    """`decode_object` for many."""
    try:
        return list(map(_decoder.decode, contents))
    except _NO_OBJECT as error:
        raise ProtocolError(f"not an encoded object: {error}.") from error


def encode_context(context: CausalContext) -> bytes:
    """A context alone, as answers to puts carry it."""
    return _encoder.encode(context)


def decode_context(data: bytes) -> CausalContext:
    """Inverse of `encode_context`; raises `ProtocolError`."""
    try:
        return _context_decoder.decode(data)
    except _NO_OBJECT as error:
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
    attempt: int = 0,
) -> tuple[StoredObject, Dot]:
    """Mint a new version that supersedes exactly what `seen` covers.

    Returns the new object and the dot. The caller makes it durable before anybody learns of it.
    """
    client, sequence = request
    basis = basis_of(seen)
    if seen is stored.context:  # the usual overwrite: nothing that is there stays
        counter = 1 + seen.highest_counter(actor)
        sibling = Sibling(actor, counter, value, client, sequence, 0, attempt, basis)
        context = seen.with_dot(actor, counter, stamp_ms)
        return StoredObject(context, (sibling,)), Dot(actor, counter)
    counter = 1 + max(stored.context.highest_counter(actor), seen.highest_counter(actor))
    sibling = Sibling(actor, counter, value, client, sequence, 0, attempt, basis)
    context = stored.context if stored.context == seen else stored.context.union(seen)
    kept = [other for other in stored.siblings if not supersedes(seen, other)]
    if kept:
        kept.append(sibling)
        kept.sort(key=_by_dot)
        siblings = tuple(kept)
    else:
        siblings = (sibling,)
    overtaken = stored.overtaken
    if overtaken:
        overtaken = tuple([dot for dot in overtaken if not seen.covers(*dot)])
    return (
        StoredObject(context.with_dot(actor, counter, stamp_ms), siblings, overtaken),
        Dot(actor, counter),
    )


def replace_version(
    stored: StoredObject, dot: Dot, known: StoredObject, *, stamp_ms: int
) -> tuple[StoredObject, Dot]:
    """Give the sibling `dot`, which has no second name yet, one that supersedes `known` as well.

    Not where `known` has superseded the write itself (`has_ended`): the two would end each other.
    Returns the new object and the dot. The caller makes it durable before anybody learns of it.
    """
    write = next(one for one in stored.siblings if one.dot == dot)
    assert not write.replaces, "a write is replaced once"
    assert not has_ended(known, dot)
    overtaken = {(one.actor, one.counter) for one in known.siblings if not one.replaces}
    overtaken.update(known.overtaken)
    superseded = StoredObject(known.context, (), tuple(sorted(overtaken)))
    left = merge_objects(stored, superseded)
    counter = 1 + left.context.highest_counter(dot.actor)
    siblings = [one for one in left.siblings if one.dot != dot]
    siblings.append(
        msgspec.structs.replace(
            write, counter=counter, replaces=dot.counter, basis=basis_of(left.context)
        )
    )
    siblings.sort(key=_by_dot)
    return (
        StoredObject(
            left.context.with_dot(dot.actor, counter, stamp_ms),
            tuple(siblings),
            tuple([one for one in left.overtaken if one != dot]),
        ),
        Dot(dot.actor, counter),
    )


def merge_objects(
    left: StoredObject, right: StoredObject, requests: Sequence[Applied] = ()
) -> StoredObject:
    """The least object that has seen what both have seen.

    `requests`: under which dots requests were applied, as the records of both remember it.
    """
    if left == right:
        return left
    of_left = {(sibling.actor, sibling.counter) for sibling in left.siblings}
    of_right = {(sibling.actor, sibling.counter) for sibling in right.siblings}
    kept = [
        sibling
        for sibling in left.siblings
        if (sibling.actor, sibling.counter) in of_right or not _ended(right, of_right, sibling)
    ]
    kept.extend(
        sibling
        for sibling in right.siblings
        if (sibling.actor, sibling.counter) not in of_left and not _ended(left, of_left, sibling)
    )
    kept.sort(key=_by_dot)
    overtaken: tuple[tuple[str, int], ...] = ()
    if left.overtaken or right.overtaken:
        still = {dot for dot in left.overtaken if not _superseded(right, of_right, dot)}
        still.update(dot for dot in right.overtaken if not _superseded(left, of_left, dot))
        overtaken = tuple(sorted(still))
    merged = StoredObject(left.context.union(right.context), tuple(kept), overtaken)
    return end_with_their_requests(merged, requests) if requests else merged


def end_with_their_requests(stored: StoredObject, requests: Sequence[Applied]) -> StoredObject:
    """Without the siblings whose request has ended under another dot (`one_write`)."""
    if len(stored.siblings) < 2:
        return stored  # what superseded the others is alive, and is this one
    names = {(one.actor, one.counter) for one in stored.siblings}
    names.update((one.actor, one.replaces) for one in stored.siblings)
    gone = taken_along(stored.siblings, requests, lambda dot: _superseded(stored, names, dot))
    kept = tuple([one for one in stored.siblings if (one.actor, one.counter) not in gone])
    if not gone or not kept:
        return stored  # whatever a peer may send: an object without versions is never made
    return StoredObject(stored.context, kept, tuple(sorted({*stored.overtaken, *gone})))


def has_ended(stored: StoredObject, dot: tuple[str, int]) -> bool:
    """Whether the object has seen the write known as `dot` superseded for good."""
    return _superseded(stored, {(one.actor, one.counter) for one in stored.siblings}, dot)


def supersedes(seen: CausalContext, sibling: Sibling) -> bool:
    """Whether whoever puts with this context has seen the write, under either of its names."""
    if seen.covers(sibling.actor, sibling.counter):
        return True
    return bool(sibling.replaces) and seen.covers(sibling.actor, sibling.replaces)


def _ended(stored: StoredObject, alive: set[tuple[str, int]], sibling: Sibling) -> bool:
    """Whether an object that does not hold the sibling has seen it superseded."""
    if stored.context.covers(sibling.actor, sibling.counter):
        return True
    first = sibling.replaces
    return bool(first) and _superseded(stored, alive, (sibling.actor, first))


def _superseded(stored: StoredObject, alive: set[tuple[str, int]], dot: tuple[str, int]) -> bool:
    """Whether the object has seen the dot's write end for good, and not merely be overtaken."""
    return stored.context.covers(*dot) and dot not in alive and dot not in stored.overtaken


def _by_dot(sibling: Sibling) -> tuple[str, int]:
    return sibling.actor, sibling.counter
