"""Quarantine: what becomes of a damaged table, from its discovery until it is healed.

    damage found ──▶ read everything ──▶ are the co-owners there? ──no──▶ stays, and says so
                     which partitions        │ yes, for each of them
                     are concerned?          ▼
                                         GIVE UP, in one turn: a new actor epoch, the partitions are
                                         unproven, and the engine may let go of what it cannot read
                                             ▼
                     healed ◀── rebuilt from the co-owners ◀── the engine has done so
                                (`rebuild`), evidence again

While a table is in quarantine nothing wrong is answered: keys it may hold are unreadable, which is
no evidence of anything. Giving it up makes them *missing*, so from that very turn on nothing in
their partitions is evidence until it was compared with the co-owners; and the counters of the
copies are gone with them, so the node mints under a new actor. Sound records of the table stay.

With too few co-owners in reach the partitions could not be rebuilt, and all their other keys would
be no evidence for as long. Then the quarantine is kept; what can be mended key by key is.

Every step may be cut short by a crash: before the turn's commit nothing has changed; after it the
partitions are durably unproven, the table is in quarantine still, and all begins again.
"""

from __future__ import annotations

from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.replication.rebuild import Rebuild, is_enough

LOOK_AGAIN_S = 10.0
"""If the engine has not let go by then, more is damaged than was known: read everything again."""


class Quarantine:
    """Watches the engine's damaged tables, and gives them up when that is safe."""

    def __init__(self, state: NodeState, rebuild: Rebuild) -> None:
        self.tables: frozenset[str] = frozenset()
        """What is in quarantine now."""
        self.kept_because = ""
        """Why nothing is given up, "" if nothing is in quarantine or is being given up."""
        self._state = state
        self._rebuild = rebuild
        self._given_up_s: float | None = None
        self._reading = 0
        """The number of the reading of everything that has to end first."""

    def on_look(self, now: Instant) -> bool:
        """Look what is damaged, and do what can be done; True if everything has to be read."""
        tables = frozenset(self._state.storage.stats().corrupt_sstables)
        new, gone = tables - self.tables, self.tables - tables
        self.tables = tables
        if gone:
            self._on_gone(gone)
        if new:
            self._state.outbox.record("table_quarantined", tables=sorted(new))
            return self._read_everything()
        if not tables or self._state.replica.merkle.last_read < self._reading:
            return False
        if self._given_up_s is not None:
            if now.monotonic_s < self._given_up_s + LOOK_AGAIN_S:
                return False
            return self._read_everything()
        self._consider(now)
        return False

    def _read_everything(self) -> bool:
        """Only what was begun after the damage was noticed will tell how far it goes."""
        self._given_up_s = None
        self._reading = self._state.replica.merkle.reads_begun + 1
        return True

    def _on_gone(self, gone: frozenset[str]) -> None:
        """The engine answers for these again, with what was salvaged and without the rest."""
        state = self._state
        self.kept_because = ""
        state.outbox.record("table_replaced", tables=sorted(gone))
        for partition in state.replica.merkle.damaged:
            state.replica.merkle.rebuild(partition, partition + 1)
        self._rebuild.start_over()

    def _consider(self, now: Instant) -> None:
        state = self._state
        damaged = state.replica.merkle.unbuilt()
        owned = damaged.intersection(state.map.partitions_of(state.name))
        missing = self._missing_co_owners(owned)
        if owned and state.map.n == 1:
            self._keep("its keys have no other owners")
            return
        if missing:
            self._keep(f"too few owners of its keys can be reached: {', '.join(missing)} cannot")
            return
        self.kept_because = ""
        self._given_up_s = now.monotonic_s
        state.identity.raise_actor_epoch(state.storage)
        if owned:
            self._rebuild.begin("a damaged table was given up", owned)
        state.storage.forget_quarantined(damaged)
        state.outbox.record(
            "table_given_up",
            tables=sorted(self.tables),
            partitions=len(owned),
            actor_epoch=state.identity.actor_epoch,
        )

    def _missing_co_owners(self, partitions: frozenset[int]) -> list[str]:
        """Who cannot be reached, if some partition could not be rebuilt without them."""
        state, reachable = self._state, set(self._state.liveness.reachable)
        missing: set[str] = set()
        for partition in partitions:
            if not is_enough(state, partition, whole=reachable, met=reachable):
                missing.update(state.map.owners[partition])
        return sorted(missing - reachable - {state.name})

    def _keep(self, reason: str) -> None:
        if reason != self.kept_because:
            self.kept_because = reason
            self._state.outbox.record("quarantine_kept", tables=sorted(self.tables), reason=reason)
