"""The oracle's eye on one disk: what was minted, replaced, dropped and hinted there, turn by turn.

Each version becomes known here, in the turn that writes it, and is judged once that turn is
committed; what a crash takes back was never there.
"""

from __future__ import annotations

from collections.abc import Callable

from kvctl_node.causality.causal_context import Dot
from kvctl_node.causality.siblings import Sibling, StoredObject
from kvctl_node.ports import Hint, Position, Record
from tests.memory_storage_engine import MemoryStorageEngine
from tests.simulation.history import KeyHistory, Version
from tests.simulation.oracle import Oracle, decoded, text_of
from tests.simulation.violation import Violation

HintPlace = tuple[str, bytes]
"""(target, key)."""


class DiskOracle:
    """The witness of one node's disk."""

    def __init__(self, oracle: Oracle, name: str, storage: MemoryStorageEngine) -> None:
        self._oracle = oracle
        self._name = name
        self._storage = storage
        self._minted: list[tuple[KeyHistory, Version]] = []
        self._reaped: list[tuple[KeyHistory, set[Dot]]] = []
        self._judged: set[bytes] = set()
        self._present_since_s: dict[bytes, float] = {}
        self.hints_dropped: Callable[[], int] = lambda: 0
        """How many hints the running node says it has given up."""
        self._dropped_before = 0
        oracle.disks[name] = self
        storage.witness = self

    def had_all_along(self, key: bytes, since_s: float) -> bool:
        """Whether the disk held some record of the key, readable or not, from then until now."""
        present_s = self._present_since_s.get(key)
        return present_s is not None and present_s < since_s

    def on_start(self) -> None:
        """A process begins on this disk."""
        self._dropped_before = 0

    def on_replaced(self) -> None:
        """The disk was wiped or put back to an older state."""
        self._present_since_s = {
            place.key: self._oracle.time_s() for place in self._storage.committed_places()
        }

    # ------------------------------------------------------------ turns

    def on_put(self, place: Position, old: Record | None, new: Record | None) -> None:
        """Judge a change of a copy, and learn of the versions minted by it."""
        history = self._oracle.history(place.key)
        if new is None:
            self._on_drop(history, old)
            return
        if old is not None and old.content == new.content:
            return
        stored = decoded(new.content)
        if new.content not in self._judged:
            stored.check_invariants()
            for sibling in stored.siblings:
                if self._oracle.sibling_version(history, sibling, stored) is None:
                    self._learn(history, sibling, stored, old)
            self._oracle.judge_object(history, stored, f"the copy at {self._name}")
            self._judged.add(new.content)
        if old is None or self._oracle.truncates:
            return
        if not stored.context.includes(decoded(old.content).context):
            raise Violation(1, place.key, f"the copy at {self._name} forgot what it had seen.")

    def _learn(
        self, history: KeyHistory, sibling: Sibling, stored: StoredObject, old: Record | None
    ) -> None:
        """`stored` is the object in which a version appears first, `old` the copy it replaces."""
        oracle = self._oracle
        oracle.versions += 1
        write = history.writes[sibling.request]
        beside = {one.dot for one in stored.siblings}
        first = Dot(sibling.actor, sibling.replaces) if sibling.replaces else None
        overtaken = frozenset(
            [Dot(*dot) for dot in stored.overtaken]
            + [Dot(one.actor, one.replaces) for one in stored.siblings if one.replaces]
        )
        direct = history.superseded_by(write, stored.context, beside)
        ended = history.ended_by(direct, direct - overtaken)
        seen = direct
        if first is not None and old is not None:
            # A second name does not take over what those beside it had superseded before.
            before = decoded(old.content)
            alive = {one.dot for one in before.siblings}
            seen = {dot for dot in direct if dot in alive or not before.context.covers(*dot)}
        seen_ended = seen.union(*(history.versions[dot].seen_ended for dot in seen))
        version = Version(
            dot=sibling.dot,
            write=write,
            order=oracle.versions,
            minted_s=oracle.time_s(),
            ended=frozenset(ended | {sibling.dot}),
            seen_ended=frozenset(seen_ended | {sibling.dot}),
            replaces=first,
            overtaken=overtaken,
            attempt=sibling.attempt,
            basis=sibling.basis,
        )
        history.versions[sibling.dot] = version
        if first is not None:
            history.second_names[first] = sibling.dot
        self._minted.append((history, version))

    def _on_drop(self, history: KeyHistory, old: Record | None) -> None:
        if self._name not in self._oracle.owners_of(history.key) or old is None:
            return
        stored = decoded(old.content)
        if not stored.deleted:
            raise Violation(1, history.key, f"{self._name} owns the key and dropped a live copy.")
        self._reaped.append((history, {sibling.dot for sibling in stored.siblings}))

    def on_crash(self) -> None:
        """What the turn minted has never been."""
        for history, version in self._minted:
            if history.versions.get(version.dot) is version:
                del history.versions[version.dot]
                if version.replaces is not None:
                    del history.second_names[version.replaces]
        self._minted.clear()
        self._reaped.clear()
        self._judged.clear()

    def on_commit(
        self, records: dict[Position, Record | None], hints: dict[HintPlace, Hint | None]
    ) -> None:
        """The turn becomes durable."""
        now_s = self._oracle.time_s()
        for history, version in self._minted:
            version.durable = True
            self._judge_repetition(history, version, now_s)
            version.write.dots.add(version.dot)
        for history, dots in self._reaped:
            history.reaped |= dots
        for place, record in records.items():
            if record is None:
                self._present_since_s.pop(place.key, None)
            else:
                self._present_since_s.setdefault(place.key, now_s)
                self._note_holder(place.key, decoded(record.content), now_s)
        self._minted.clear()
        self._reaped.clear()
        self._judge_hints(hints)

    def _note_holder(self, key: bytes, stored: StoredObject, now_s: float) -> None:
        oracle = self._oracle
        owners, history = oracle.owners_of(key), oracle.history(key)
        alive = {one.dot for one in stored.siblings}
        for dot in history.with_their_requests(history.ended_by(alive), alive):
            version = history.versions[dot]
            if self._name in version.holders:
                continue
            version.holders.add(self._name)
            primaries = version.holders.intersection(owners)
            if version.settled_s is None and len(primaries) > oracle.n - oracle.r:
                version.settled_s = now_s

    def _judge_repetition(self, history: KeyHistory, version: Version, now_s: float) -> None:
        """A request that every quorum knows to be applied must not be applied again."""
        oracle, write = self._oracle, version.write
        if not write.strict or history.damaged:
            return
        for dot in write.dots - {version.dot, version.replaces}:
            settled_s = history.versions[dot].settled_s
            if settled_s is not None and now_s - settled_s > oracle.turnaround_s:
                raise Violation(
                    20,
                    history.key,
                    f"{write} was at a quorum as {text_of(dot)} since {settled_s:.3f} and was "
                    f"applied again as {text_of(version.dot)}.",
                )

    # ------------------------------------------------------------ hints

    def _judge_hints(self, hints: dict[HintPlace, Hint | None]) -> None:
        dropped = self.hints_dropped()
        allowance, self._dropped_before = dropped - self._dropped_before, dropped
        before = self._storage.hints.committed()
        for place, hint in hints.items():
            old = before.get(place)
            if old is None:
                continue
            if hint is not None:
                kept = decoded(hint.content).context.includes(decoded(old.content).context)
                if not kept and not self._is_home(old):
                    raise Violation(15, place[1], f"the hint at {self._name} shrank.")
            elif not self._is_home(old):
                allowance -= 1
                if old.counted or allowance < 0:
                    raise Violation(
                        15,
                        place[1],
                        f"{self._name} gave up its hint for {place[0]}, which does not have it.",
                    )

    def _is_home(self, hint: Hint) -> bool:
        """Whether the target's disk holds all that the hint does, or did before it was damaged."""
        oracle = self._oracle
        if hint.target in oracle.destroyed:
            return True
        history = oracle.history(hint.key)
        stored = decoded(hint.content)
        held = oracle.disks[hint.target]._storage.committed(hint.partition, hint.key)
        if held is not None and decoded(held.content).context.includes(stored.context):
            return True
        ended = history.ended_by(history.reaped)
        return held is None and all(one.dot in ended for one in stored.siblings)
