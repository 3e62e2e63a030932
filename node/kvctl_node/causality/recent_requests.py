"""Which requests were applied to a key, and under which dots: so that one request is one write.

A client that got no answer sends the same request again, perhaps through another node. The record
of a key therefore remembers (request id → dot) pairs and replicates them, to two ends: a
coordinator that receives a retry asks a quorum for the id before it mints a dot, and a merge ends
all dots of a request with any of them (`one_write`).

For the second end a pair has to be kept until no copy can be left under a dot that the others do
not know. So a pair goes only if it is *settled*: all N primaries held the same versions, this
pair's among them, and no member keeps a hint for anybody
(`kvctl_node.replication.shared_copies`). Of the settled ones, the latest `PER_CLIENT` of each
client and of all clients the youngest `entries_max` stay for the retry window: a client that
overwrites a key all day leaves no trail.

The memory is bounded whatever happens: beyond `HARD_CAP_FACTOR` times `entries_max` the oldest half
goes, and whoever caused that is told (an event). `floor_ms` is the stamp of the youngest pair that
was dropped. What may have been dropped can no longer be decided (`decides`), and the coordinator
then answers `indeterminate`, which is the truth. Below the hard cap, merging is a union.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable

import mmh3
import msgspec

from kvctl_node.causality.causal_context import Dot
from kvctl_node.errors import ProtocolError

PER_CLIENT = 3
"""Requests of one client remembered per key: it may have as many under way and retry each."""

HARD_CAP_FACTOR = 4

Applied = tuple[int, int, int, str, int, int, int]
"""(stamp in wall-clock ms, client, sequence, actor, counter, attempt, basis), the last four as the
`Sibling` has them that the request made."""


class RecentRequests(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Recently applied requests, youngest last."""

    floor_ms: int = 0
    applied: tuple[Applied, ...] = ()

    def find(self, client: int, sequence: int) -> Dot | None:
        """The latest dot under which a request was applied, None if it is not remembered."""
        for _, known_client, known_sequence, actor, counter, *_ in reversed(self.applied):
            if known_client == client and known_sequence == sequence:
                return Dot(actor, counter)
        return None

    def find_besides(self, client: int, sequence: int, dot: Dot) -> Dot | None:
        """Another dot under which the request was applied, None if none is remembered."""
        for _, known_client, known_sequence, actor, counter, *_ in self.applied:
            known = known_client == client and known_sequence == sequence
            if known and (actor, counter) != dot:
                return Dot(actor, counter)
        return None

    def decides(self, client: int, sequence: int, started_ms: int, skew_ms: int) -> bool:
        """Whether absence of a request first sent at `started_ms` proves it was not applied."""
        later = [one[2] for one in self.applied if one[1] == client]
        if len(later) >= PER_CLIENT and sequence < min(later):
            return False
        return started_ms - skew_ms > self.floor_ms

    def union(self, other: RecentRequests, *, entries_max: int) -> RecentRequests:
        """What either side remembers; at the hard cap, the younger half of it."""
        if self == other:
            return self
        applied = sorted({*self.applied, *other.applied})
        return _capped(max(self.floor_ms, other.floor_ms), applied, entries_max)

    def with_request(
        self,
        applied: Applied,
        *,
        entries_max: int,
        retry_window_ms: int,
        settled: Collection[Applied] = (),
    ) -> RecentRequests:
        """One more. Of what is `settled`, what a retry cannot ask for any more is dropped."""
        before = self.applied
        if not before:
            return RecentRequests(self.floor_ms, (applied,))
        if not settled:
            if before[-1] < applied and len(before) < entries_max:  # the usual case
                return RecentRequests(self.floor_ms, (*before, applied))
            return _capped(self.floor_ms, sorted([*before, applied]), entries_max)
        oldest_ms = applied[0] - retry_window_ms
        recent = [one for one in before if one[0] >= oldest_ms]
        floor_ms = max((one[0] for one in before if one[0] < oldest_ms), default=0)
        recent.append(applied)
        bounded = _bounded(max(self.floor_ms, floor_ms), sorted(recent), entries_max)
        kept = {*bounded.applied, *(one for one in before if one not in settled)}
        return _capped(bounded.floor_ms, sorted(kept), entries_max)


def _capped(floor_ms: int, applied: list[Applied], entries_max: int) -> RecentRequests:
    """All of it, or the younger half where that is more than the hard cap."""
    excess = 0
    if len(applied) > HARD_CAP_FACTOR * entries_max:
        excess = len(applied) - HARD_CAP_FACTOR * entries_max // 2
        floor_ms = max(floor_ms, applied[excess - 1][0])
    return RecentRequests(floor_ms, tuple(applied[excess:]))


def _bounded(floor_ms: int, applied: list[Applied], entries_max: int) -> RecentRequests:
    if len(applied) > PER_CLIENT:
        floor_ms, applied = _latest_of_each(floor_ms, applied)
    excess = len(applied) - entries_max
    if excess > 0:
        floor_ms = max(floor_ms, applied[excess - 1][0])
        applied = applied[excess:]
    return RecentRequests(floor_ms, tuple(applied))


def _latest_of_each(floor_ms: int, applied: list[Applied]) -> tuple[int, list[Applied]]:
    """Keep the `PER_CLIENT` latest requests of each client, by sequence; order by stamp stays.

    What goes was applied before all that stays of its client, so that evicting those later raises
    the floor above it. Where a client's requests were applied out of order, it is raised now.
    """
    by_client: dict[int, list[Applied]] = {}
    for one in applied:
        by_client.setdefault(one[1], []).append(one)
    gone: set[Applied] = set()
    for requests in by_client.values():
        if len(requests) > PER_CLIENT:
            requests.sort(key=_by_sequence)
            oldest_kept_ms = min(one[0] for one in requests[-PER_CLIENT:])
            for one in requests[:-PER_CLIENT]:
                gone.add(one)
                if one[0] > oldest_kept_ms:
                    floor_ms = max(floor_ms, one[0])
    return floor_ms, [one for one in applied if one not in gone] if gone else applied


def _by_sequence(applied: Applied) -> int:
    return applied[2]


NO_REQUESTS = RecentRequests()

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(RecentRequests)


def encode_recent(recent: RecentRequests) -> bytes:
    """Bytes for the record and the wire."""
    return _encoder.encode(recent)


_NO_MEMORY = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises on bytes that are none."""


def decode_recent(data: bytes) -> RecentRequests:
    """Inverse of `encode_recent`; b"" is the empty memory. Raises `ProtocolError`."""
    if not data:
        return NO_REQUESTS
    try:
        return _decoder.decode(data)
    except _NO_MEMORY as error:
        raise ProtocolError(f"not a list of recent requests: {error}.") from error


def check_all_recent(several: Iterable[bytes]) -> None:
    """Raises `ProtocolError` unless `decode_recent` takes each of these."""
    try:
        list(map(_decoder.decode, filter(None, several)))
    except _NO_MEMORY as error:
        raise ProtocolError(f"not a list of recent requests: {error}.") from error


def fingerprint_of(recent: bytes) -> int:
    """A 64-bit hash of encoded requests, by which two memories are known to be the same; 0 if
    nothing is remembered."""
    return mmh3.mmh3_x64_128_utupledigest(recent)[0]


def mentions(recent: bytes, client: int, sequence: int) -> bool:
    """Whether encoded requests may hold this one; quick, and right when it says no."""
    return bool(recent) and _encoder.encode((client, sequence))[1:] in recent
