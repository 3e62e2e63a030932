"""A member: what gossip knows of one node of the cluster.

A record is written by one node only, the member itself; everybody else keeps copies and passes them
on. So two copies never conflict, one is merely older:

    generation   raised at every start; a higher one replaces the whole record
    heartbeat    raised every round and with every answer: "alive at that moment"
    version      raised with every change of the state; each value carries the version it came with

With its heartbeat a copy keeps when that was true, by the local clock: whoever passes it on tells
its age. Otherwise the last heartbeats of a dead member, which reach everybody at different times,
would look like signs of life for rounds after its death.

Invariants: a copy at version v holds every value the member had set by then, the newest of each
key; copying only ever goes up in (generation, heartbeat) and (generation, version). Merging whole
records is therefore commutative, associative and idempotent. A delta that starts after the version
a copy has would leave a gap, and is not applied; the next digest fetches what is missing.

The record is that of Apache Cassandra's gossiper (`EndpointState`), with one difference: the
heartbeat has a counter of its own, so that direct answers may raise it without any state.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

import mmh3

from kvctl_node.errors import ProtocolError
from kvctl_node.membership.observations import decode_accused
from kvctl_node.protocol.messages import (
    MemberDelta,
    StateValue,
)

COUNTER_MAX = (1 << 32) - 1
"""Generations, heartbeats and versions fit four bytes: at ten a second, thirteen years a start."""


class StateKey(IntEnum):
    """What a member tells about itself. Numbers travel; append, never reorder."""

    NAME = 0
    STORAGE_UUID = 1
    """The incarnation of its disk."""
    ADDRESS = 2
    """Where its peers connect."""
    STATUS = 3
    """A `MemberStatus`."""
    ZONE = 4
    CAPACITY_MILLI = 5
    """Relative capacity, in thousandths."""
    LOAD = 6
    """Messages and requests handled per second, smoothed."""
    RING_EPOCH = 7
    RING_HASH = 8
    ACTOR_EPOCH = 9
    ACCUSED = 10
    """Whose heartbeats it misses: its first-hand observations
    (`kvctl_node.membership.observations`)."""
    REMOVED = 11
    """Storage uuids of removed members, comma-separated, sorted."""
    KEEPS_HINTS = 12
    """1 if it keeps a hint for anybody, else 0."""


class MemberStatus(IntEnum):
    """Where a member is in its life, by its own account."""

    NORMAL = 0
    JOINING = 1
    LEAVING = 2
    LEFT = 3


_TYPES: dict[int, type] = {
    StateKey.NAME: bytes,
    StateKey.STORAGE_UUID: bytes,
    StateKey.ADDRESS: bytes,
    StateKey.STATUS: int,
    StateKey.ZONE: bytes,
    StateKey.CAPACITY_MILLI: int,
    StateKey.LOAD: int,
    StateKey.RING_EPOCH: int,
    StateKey.RING_HASH: bytes,
    StateKey.ACTOR_EPOCH: int,
    StateKey.ACCUSED: bytes,
    StateKey.REMOVED: bytes,
    StateKey.KEEPS_HINTS: int,
}

_TEXTS = frozenset(
    (StateKey.NAME, StateKey.STORAGE_UUID, StateKey.ADDRESS, StateKey.ZONE, StateKey.REMOVED)
)


def member_id(name: str) -> int:
    """The 64-bit id under which a member travels in digests, whatever the length of its name."""
    return mmh3.hash64(name.encode(), signed=False)[0]


@dataclass(slots=True)
class Member:
    """One record. Only its owner calls `beat` and `set`; copies change by `apply`."""

    id: int
    generation: int = 0
    """0: nothing is known but the id."""
    heartbeat: int = 0
    version: int = 0
    values: dict[int, tuple[int, StateValue]] = field(default_factory=dict)
    heard_s: float = 0.0
    """When the heartbeat was true, as a time of the local monotonic clock; of no use to others."""

    # ------------------------------------------------------------ by the owner

    def beat(self, now_s: float) -> None:
        """Raise the heartbeat: the member is alive now."""
        assert self.heartbeat < COUNTER_MAX
        self.heartbeat += 1
        self.heard_s = now_s

    def set(self, key: StateKey, value: StateValue) -> bool:
        """Publish a value; True if it is a change."""
        assert type(value) is _TYPES[key]
        held = self.values.get(key)
        if held is not None and held[1] == value:
            return False
        self.version += 1
        self.values[key] = (self.version, value)
        return True

    def set_text(self, key: StateKey, text: str) -> bool:
        """Publish a text; True if it is a change."""
        return self.set(key, text.encode())

    def begin_generation(self, generation: int) -> None:
        """Start a new life: the same values, under counters that begin anew."""
        assert generation > self.generation
        self.generation = generation
        self.heartbeat = 1
        ordered = sorted(self.values.items(), key=lambda item: item[1][0])
        self.values = {key: (at, value) for at, (key, (_, value)) in enumerate(ordered, start=1)}
        self.version = len(self.values)

    # ------------------------------------------------------------ by everybody

    def delta_since(self, generation: int, version: int, now_s: float) -> MemberDelta:
        """What someone at (generation, version) lacks; everything, if of another generation."""
        age_ms = max(0, int((now_s - self.heard_s) * 1000))
        since = version if generation == self.generation else 0
        news = {key: pair for key, pair in self.values.items() if pair[0] > since}
        return MemberDelta(
            self.id, self.generation, self.heartbeat, age_ms, since, self.version, news
        )

    def apply(self, delta: MemberDelta, now_s: float) -> bool:
        """Take over what is newer; True if anything was."""
        heard_s = now_s - delta.age_ms / 1000
        assert delta.member == self.id
        if delta.generation < self.generation:
            return False
        if delta.generation > self.generation:
            if delta.since:
                return False
            self.generation, self.heartbeat, self.version = delta.generation, delta.heartbeat, 0
            self.heard_s, self.values = heard_s, {}
            self._take_values(delta)
            return True
        changed = self.hear(delta.heartbeat, heard_s)
        if delta.since <= self.version < delta.version:
            self._take_values(delta)
            changed = True
        return changed

    def hear(self, heartbeat: int, heard_s: float) -> bool:
        """Take over a heartbeat of the same generation; True if it is newer."""
        if heartbeat <= self.heartbeat:
            return False
        self.heartbeat = heartbeat
        self.heard_s = max(self.heard_s, heard_s)
        return True

    def _take_values(self, delta: MemberDelta) -> None:
        for key, pair in delta.values.items():
            held = self.values.get(key)
            if held is None or held[0] < pair[0]:
                self.values[key] = pair
        self.version = delta.version

    # ------------------------------------------------------------ reading

    def text(self, key: StateKey) -> str:
        """A text value, "" if it is not known yet."""
        return self.data(key).decode()

    def number(self, key: StateKey, default: int = 0) -> int:
        """A number, `default` if it is not known yet."""
        value = self.values.get(key, (0, default))[1]
        assert isinstance(value, int)
        return value

    def data(self, key: StateKey) -> bytes:
        """A bytes value, b"" if it is not known yet."""
        value = self.values.get(key, (0, b""))[1]
        assert isinstance(value, bytes)
        return value

    @property
    def name(self) -> str:
        """The member's name, "" while only its id is known."""
        return self.text(StateKey.NAME)

    @property
    def storage_uuid(self) -> str:
        """The incarnation of the member's disk, "" while unknown."""
        return self.text(StateKey.STORAGE_UUID)

    def check_invariants(self) -> None:
        """Assert that no value is of a later version than the record."""
        assert all(0 < at <= self.version for at, _ in self.values.values())
        versions = [at for at, _ in self.values.values()]
        assert len(set(versions)) == len(versions), "two values of one version"


def check_delta(delta: MemberDelta) -> None:
    """Raises `ProtocolError` unless the delta is one that a member could have made."""
    counters = (delta.generation, delta.heartbeat, delta.age_ms, delta.since, delta.version)
    if not all(0 <= one <= COUNTER_MAX for one in counters) or not delta.generation:
        raise ProtocolError("a gossip delta has a counter out of range.")
    if not 0 <= delta.member < 1 << 64:
        raise ProtocolError("a gossip delta is about an impossible member id.")
    for key, (at, value) in delta.values.items():
        # Keys of a later release are kept and passed on unread.
        expected = _TYPES.get(key, type(value))
        if type(value) is not expected or not delta.since < at <= delta.version:
            raise ProtocolError(f"a gossip delta carries a malformed value for key {key}.")
        if isinstance(value, bytes):
            _check_bytes(key, value)
    if not delta.since and _claimed_id(delta) != delta.member:
        raise ProtocolError("a gossip delta carries a name that is not its member's.")


def _check_bytes(key: int, value: bytes) -> None:
    if key == StateKey.ACCUSED:
        decode_accused(value)
    try:
        if key in _TEXTS:
            value.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a gossip delta carries bytes that are no text for {key}.") from error


def _claimed_id(delta: MemberDelta) -> int | None:
    """The id that belongs to the name in a whole record, None if it has no name."""
    name = delta.values.get(StateKey.NAME, (0, 0))[1]
    return member_id(name.decode()) if isinstance(name, bytes) else None
