"""The one record a node writes: its own; and what others remember of it that it does not.

Peers keep the highest generation and actor epoch they ever saw of a name, and say so with every
digest. A node whose disk was restored from a backup learns from the first of them that it is old,
and begins a new generation and a new actor epoch before it can repeat a dot. A node whose disk was
wiped learns that there was another.
"""

from __future__ import annotations

from kvctl_node.errors import ConfigError
from kvctl_node.membership.digest import DigestEntry
from kvctl_node.membership.member import Member, StateKey
from kvctl_node.membership.removed_members import RemovedMembers
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.messages import (
    GossipDigest,
)

LOAD_WEIGHT = 0.2
"""Of the latest round in the smoothed load: about the last five rounds count."""
LOAD_CHANGE_MIN = 0.25
"""A load that changed by less is not news."""
LOAD_STEP_MIN = 10
"""...nor one that changed by fewer messages per second."""


class OwnRecord:
    """Keeps the own record true, and learns the own past."""

    def __init__(self, state: NodeState, own: Member, removed: RemovedMembers) -> None:
        self._state = state
        self._own = own
        self._removed = removed
        self._load_per_s = 0.0
        self._handled = 0
        self._refreshed_s: float | None = None
        self._publish()

    def refresh(self, now: Instant) -> None:
        """Publish what changed since the last round."""
        self._measure_load(now)
        self._publish()

    def _publish(self) -> None:
        state, own = self._state, self._own
        own.set_text(StateKey.NAME, state.name)
        own.set_text(StateKey.STORAGE_UUID, state.identity.storage_uuid)
        own.set(StateKey.STATUS, int(state.status))
        own.set(StateKey.RING_EPOCH, state.map.epoch)
        own.set(StateKey.RING_HASH, state.map.hash)
        own.set(StateKey.ACTOR_EPOCH, state.identity.actor_epoch)
        own.set_text(StateKey.REMOVED, self._removed.text())
        own.set(StateKey.KEEPS_HINTS, int(state.handoff.count > 0))
        try:
            spec = state.config.node(state.name)
        except ConfigError:
            return
        own.set_text(StateKey.ADDRESS, spec.peer_endpoint)
        own.set_text(StateKey.ZONE, spec.zone)
        own.set(StateKey.CAPACITY_MILLI, round(spec.capacity * 1000))

    def _measure_load(self, now: Instant) -> None:
        handled, self._handled = self._state.handled - self._handled, self._state.handled
        before_s, self._refreshed_s = self._refreshed_s, now.monotonic_s
        if before_s is None or now.monotonic_s <= before_s:
            return
        rate = handled / (now.monotonic_s - before_s)
        self._load_per_s += LOAD_WEIGHT * (rate - self._load_per_s)
        published = self._own.number(StateKey.LOAD)
        change = abs(self._load_per_s - published)
        if change >= max(LOAD_STEP_MIN, LOAD_CHANGE_MIN * published):
            self._own.set(StateKey.LOAD, round(self._load_per_s))

    def learn_past(self, witness: str, message: GossipDigest, entry: DigestEntry | None) -> None:
        """Compare what a peer remembers of this node with what its own disk knows."""
        state, identity = self._state, self._state.identity
        other_disk = message.your_storage_uuid not in ("", identity.storage_uuid)
        if other_disk:
            self._learn_earlier_disk(witness, message.your_storage_uuid)
        remembered = max(message.your_generation, entry.generation if entry else 0)
        # The same generation, further on than we are or on another disk: another run of it, which
        # this disk does not know of.
        is_other_run = remembered == identity.generation and (
            other_disk or (entry is not None and self._is_behind(entry))
        )
        if (
            message.your_actor_epoch <= identity.actor_epoch
            and remembered <= identity.generation
            and not is_other_run
        ):
            return
        identity.disown_actors(state.storage, above=message.your_actor_epoch)
        identity.raise_generation(state.storage, above=remembered)
        self._own.begin_generation(identity.generation)
        self._publish()
        state.outbox.record(
            "disk_is_older",
            witness=witness,
            generation=identity.generation,
            actor_epoch=identity.actor_epoch,
        )

    def _is_behind(self, entry: DigestEntry) -> bool:
        own = self._own
        return entry.generation == own.generation and (
            entry.heartbeat > own.heartbeat or entry.version > own.version
        )

    def _learn_earlier_disk(self, witness: str, uuid: str) -> None:
        if self._state.earlier_uuid != uuid:
            self._state.earlier_uuid = uuid
            self._state.outbox.record("disk_is_new", witness=witness, before=uuid)
