"""Which requests were applied to a key lately, so that a retry applies once.

A client that got no answer sends the same request again, perhaps through another node. The record
of a key therefore remembers recent (request id → dot) pairs and replicates them; a coordinator that
receives a retry asks a quorum for the id before it mints a dot.

The memory is bounded twice. Of one client only the latest `PER_CLIENT` requests are kept, by
sequence: a client that overwrites a key all day leaves no trail in its record. Of all clients only
so many are kept, the youngest; `floor_ms` is the stamp of the youngest that was pushed out. What
may have been pushed out can no longer be decided (`decides`), and the coordinator then answers
`indeterminate`, which is the truth. Merging is a union and plays no part in merging versions.
"""

from __future__ import annotations

from collections.abc import Iterable

import mmh3
import msgspec

from kvctl_node.causality.causal_context import Dot
from kvctl_node.errors import ProtocolError

PER_CLIENT = 3
"""Requests of one client remembered per key: it may have as many under way and retry each."""

Applied = tuple[int, int, int, str, int]
"""(stamp in wall-clock ms, client, sequence, actor, counter)."""


class RecentRequests(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Recently applied requests, youngest last."""

    floor_ms: int = 0
    applied: tuple[Applied, ...] = ()

    def find(self, client: int, sequence: int) -> Dot | None:
        """The latest dot under which a request was applied, None if it is not remembered."""
        for _, known_client, known_sequence, actor, counter in reversed(self.applied):
            if known_client == client and known_sequence == sequence:
                return Dot(actor, counter)
        return None

    def find_besides(self, client: int, sequence: int, dot: Dot) -> Dot | None:
        """Another dot under which the request was applied, None if none is remembered."""
        for _, known_client, known_sequence, actor, counter in self.applied:
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
        """What either side remembers, the youngest `entries_max` of it."""
        if self == other:
            return self
        applied = sorted({*self.applied, *other.applied})
        return _bounded(max(self.floor_ms, other.floor_ms), applied, entries_max)

    def with_request(
        self, applied: Applied, *, entries_max: int, retry_window_ms: int
    ) -> RecentRequests:
        """One more; what is older than the retry window is forgotten without raising the floor
        above anything a client may still retry."""
        before = self.applied
        if not before:
            return RecentRequests(self.floor_ms, (applied,))
        oldest_ms = applied[0] - retry_window_ms
        if before[0][0] >= oldest_ms and before[-1] < applied and entries_max > PER_CLIENT:
            # The usual case: the youngest of all, and nothing is too old.
            if len(before) < PER_CLIENT:
                return RecentRequests(self.floor_ms, (*before, applied))
            if len(before) == PER_CLIENT and _are_in_sequence(before, applied):
                return RecentRequests(self.floor_ms, (*before[1:], applied))
        kept = [one for one in self.applied if one[0] >= oldest_ms]
        forgotten_ms = max((one[0] for one in self.applied if one[0] < oldest_ms), default=0)
        kept.append(applied)
        return _bounded(max(self.floor_ms, forgotten_ms), sorted(kept), entries_max)


def _are_in_sequence(before: tuple[Applied, ...], applied: Applied) -> bool:
    """Whether one client made all these requests, and they were applied as it made them."""
    _, client, sequence, _, _ = applied
    for one in reversed(before):
        if one[1] != client or one[2] >= sequence:
            return False
        sequence = one[2]
    return True


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


_NO_MEMORY = (msgspec.DecodeError, UnicodeDecodeError)
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
