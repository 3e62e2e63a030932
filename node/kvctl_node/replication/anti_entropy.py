"""Anti-entropy: when this node compares itself with which other, and why.

* **background**: every pair now and then, and soon after a peer was reachable again. The node
  whose name comes first asks. Only what differs twice, with a pause between, is repaired.
* **command**: an operator asked; differences are merged both ways at once.
* **rebuild**: this node's disk is new or old (`rebuild`): all co-owners, at once.
* **doubt**: keys whose damaged records were replaced (`doubted_copies`): exchanged with all their
  co-owners, at once.
* **damage**: records that cannot be read; their partitions are gone through key by key, as long as
  the damaged table cannot be given up and rebuilt (`quarantine`).

It also builds the Merkle tree, a slice at a time, on start and again now and then.

Hints and read repair bring most replicas together within seconds. Anti-entropy is for what they
miss: lost disks, dropped hints, keys that nobody reads. Source: DeCandia et al., "Dynamo", SOSP
2007, section 4.7.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from kvctl_node.admin import AdminCommands
from kvctl_node.errors import InvalidRequestError, UnavailableError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.repair_messages import (
    MerkleKeysReply,
    MerkleReply,
    RepairKeysReply,
)
from kvctl_node.replication.anti_entropy_answers import AntiEntropyAnswers
from kvctl_node.replication.anti_entropy_comparison import Comparison
from kvctl_node.replication.anti_entropy_progress import CompareMode
from kvctl_node.replication.merkle_inspection import MerkleInspection
from kvctl_node.replication.merkle_pair import PairTree, shared_partitions
from kvctl_node.replication.quarantine import Quarantine
from kvctl_node.replication.rebuild import Rebuild, is_enough
from kvctl_node.replication.repair_rate import RepairRate

LOOK_AROUND_S = 0.5
"""How often peers are looked at when nothing else is due."""
SLICE_KEYS = 128
SLICE_INTERVAL_S = 0.005
"""A slice of the tree's build costs about a millisecond and leaves the loop four."""
AFTER_RETURN_S = 5.0
"""A peer that came back is compared with after this long: hints go home first."""
AFTER_FAILURE_S = 1.0
"""What was interrupted, or asked of a peer that is in doubt itself, is asked again after this."""
RESULTS_KEPT_MAX = 64
"""Finished comparisons that `repair_status` still finds by their number."""


class AntiEntropy:
    """All comparisons of one node."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._config = state.config.repair
        self._tree = state.replica.merkle
        self._rate = RepairRate(
            keys_per_s=self._config.keys_per_s, bytes_per_s=self._config.bytes_per_s
        )
        self.rebuild = Rebuild(state)
        self._quarantine = Quarantine(state, self.rebuild)
        self._answers = AntiEntropyAnswers(state, self.pair_with)
        self._pairs: dict[str, PairTree] = {}
        self._pairs_of = b""
        self._running: dict[str, Comparison] = {}
        """Peer → the comparison under way with it."""
        self._results: dict[int, dict[str, Any]] = {}
        """Session → its last row, oldest first."""
        self._latest: dict[str, int] = {}
        """Peer → the session started last."""
        self._last_success_ms: dict[str, int] = {}
        self._due_s: dict[str, float] = {}
        """Peer → when the next comparison in the background is due; only reachable ones."""
        self._again_s: dict[str, float] = {}
        """Peer → earliest next try of a rebuild."""
        self._known_damage: dict[str, set[int]] = {}
        """Peer → partitions damaged here that were gone through with it, key by key."""
        self._next_slice_s = 0.0
        self._look_s = 0.0
        self._full_rebuild_s = 0.0

    def handlers(self) -> dict[type, Callable[[str, Any, Instant], None]]:
        """Message type → handler."""
        return {
            **self._answers.handlers(),
            MerkleReply: self.on_reply,
            MerkleKeysReply: self.on_reply,
            RepairKeysReply: self.on_reply,
        }

    def pair_with(self, peer: str) -> PairTree:
        """This node's tree over what it shares with the peer."""
        ring = self._state.map
        if self._pairs_of != ring.hash:
            self._pairs, self._pairs_of = {}, ring.hash
        pair = self._pairs.get(peer)
        if pair is None:
            pair = PairTree(self._tree, shared_partitions(ring, self._state.name, peer))
            self._pairs[peer] = pair
        return pair

    # ------------------------------------------------------------ time

    def start(self, now: Instant) -> None:
        """Begin to build the tree; once, before the first tick."""
        self._tree.rebuild(0, self._tree.partitions)
        self._full_rebuild_s = now.monotonic_s + self._config.rebuild_interval_ms / 1000

    def next_s(self) -> float:
        """When there is something to do, on the monotonic clock."""
        next_s = self._look_s
        if self._tree.building:
            next_s = min(next_s, self._next_slice_s)
        for comparison in self._running.values():
            next_s = min(next_s, comparison.wake_s)
        return next_s

    def on_tick(self, now: Instant) -> None:
        """Build on, move comparisons on, and start those that are due."""
        doubted = self._state.replica.doubted
        if self.rebuild.on_tick() or doubted.is_news:
            doubted.is_news = False
            self._settle_doubts()
            self._look_s = 0.0
        if now.monotonic_s < self.next_s():
            return
        if self._tree.building and now.monotonic_s >= self._next_slice_s:
            self._build(now)
        for comparison in list(self._running.values()):
            comparison.on_tick(now)
            self._settle(comparison, now)
        if now.monotonic_s >= self._look_s:
            self._look_s = now.monotonic_s + LOOK_AROUND_S
            self._look_around(now)

    def _build(self, now: Instant) -> None:
        self._next_slice_s = now.monotonic_s + SLICE_INTERVAL_S
        self._tree.build_slice(self._state.storage, SLICE_KEYS)
        if self._tree.building:
            return
        self._look_s = 0.0
        for known in self._known_damage.values():
            known.intersection_update(self._tree.damaged)  # what was mended may break again
        drifted, self._tree.drifted = self._tree.drifted, []
        self._state.outbox.record(
            "merkle_built",
            keys=self._tree.key_count(),
            damaged=len(self._tree.damaged),
            drifted=len(drifted),
        )

    def _look_around(self, now: Instant) -> None:
        """Start whatever is due with the peers that can be reached.

        What a table in quarantine held is repaired key by key until the table can be given up.
        """
        were_damaged = self._quarantine.tables
        if self._quarantine.on_look(now) or now.monotonic_s >= self._full_rebuild_s:
            self._full_rebuild_s = now.monotonic_s + self._config.rebuild_interval_ms / 1000
            self._known_damage.clear()
            self._tree.rebuild(0, self._tree.partitions)
        if were_damaged - self._quarantine.tables:
            self._known_damage.clear()
        wanted_by_rebuild: Collection[str] = ()
        if self.rebuild.active and not self._quarantine.tables:
            wanted_by_rebuild = self.rebuild.missing_peers()
        # The longest overdue first: one runs at a time in the background, and all get their turn.
        for peer in sorted(self._state.map.members, key=lambda one: self._due_s.get(one, 0.0)):
            if peer == self._state.name:
                continue
            doubted = self._doubted_with(peer, now)
            running = self._running.get(peer)
            if running is not None:
                if running.trigger not in ("background", "damage") or not doubted:
                    continue
                running.interrupt("doubted copies go first")
                self._settle(running, now)
            if not self._state.can_reach(peer):
                self._due_s.pop(peer, None)
            elif doubted:
                self._begin(peer, CompareMode.REPAIR, "doubt", now, keys=doubted)
            elif peer in wanted_by_rebuild:
                if now.monotonic_s >= self._again_s.get(peer, 0.0):
                    self._begin(peer, CompareMode.REPAIR, "rebuild", now)
            elif self._new_damage(peer):
                if now.monotonic_s >= self._again_s.get(peer, 0.0):
                    self._begin(peer, CompareMode.REPAIR, "damage", now)
            else:
                self._consider_background(peer, now)

    def _doubted_with(self, peer: str, now: Instant) -> list[bytes]:
        """Doubted keys to be exchanged with the peer now."""
        state, doubted = self._state, self._state.replica.doubted
        if not doubted or now.monotonic_s < self._again_s.get(peer, 0.0):
            return []
        return [
            key
            for key, whole in doubted.whole.items()
            if peer in state.map.owners[state.map.partition_of(key)] and peer not in whole
        ]

    def _settle_doubts(self) -> None:
        """What was exchanged with enough co-owners is evidence again."""
        state, doubted = self._state, self._state.replica.doubted
        settled = []
        for key, whole in doubted.whole.items():
            partition = state.map.partition_of(key)
            is_owner = state.name in state.map.owners[partition]
            if not is_owner or is_enough(state, partition, whole=whole, met=doubted.met_with(key)):
                settled.append(key)
        if settled:
            doubted.settle(settled)
            state.outbox.record("copies_proven", count=len(settled), doubted=len(doubted))

    def _new_damage(self, peer: str) -> bool:
        if not self._tree.damaged:
            return False
        return bool(self.pair_with(peer).damaged - self._known_damage.get(peer, set()))

    def _consider_background(self, peer: str, now: Instant) -> None:
        interval_s = self._config.compare_interval_ms / 1000
        if not interval_s or peer < self._state.name or not self.pair_with(peer).partitions:
            return
        due_s = self._due_s.get(peer)
        if due_s is None:
            # Spread, so that a whole cluster that comes back does not compare all at once.
            delay_s = AFTER_RETURN_S * (1 + self._state.rng.random())
            self._due_s[peer] = now.monotonic_s + min(delay_s, interval_s)
        elif now.monotonic_s >= due_s and not self._busy_in_background():
            self._due_s[peer] = now.monotonic_s + interval_s
            self._begin(peer, CompareMode.BACKGROUND, "background", now)

    def _busy_in_background(self) -> bool:
        return any(one.mode is CompareMode.BACKGROUND for one in self._running.values())

    # ------------------------------------------------------------ comparisons

    def _begin(
        self,
        peer: str,
        mode: CompareMode,
        trigger: str,
        now: Instant,
        partition: int | None = None,
        keys: Sequence[bytes] = (),
    ) -> Comparison:
        by_command = trigger == "command"
        comparison = Comparison(
            self._state,
            self.pair_with(peer),
            self._rate,
            peer=peer,
            mode=mode,
            trigger=trigger,
            recheck_pause_ms=self._config.recheck_pause_ms,
            partition=partition,
            known_damage=frozenset(() if by_command else self._known_damage.get(peer, ())),
            keys=keys,
        )
        self._running[peer] = comparison
        self._latest[peer] = comparison.id
        comparison.on_tick(now)
        self._settle(comparison, now)
        return comparison

    def on_reply(
        self, sender: str, message: MerkleReply | MerkleKeysReply | RepairKeysReply, now: Instant
    ) -> None:
        """An answer to one of this node's questions."""
        comparison = self._running.get(sender)
        if comparison is not None:
            comparison.on_reply(message, now)
            if self._state.replica.doubted:
                self._settle_doubts()
            self._settle(comparison, now)

    def _settle(self, comparison: Comparison, now: Instant) -> None:
        """Take note of what a comparison came to, once it is finished."""
        if not comparison.finished or comparison.id in self._results:
            return
        peer = comparison.peer
        if self._running.get(peer) is comparison:
            del self._running[peer]
        if not comparison.succeeded or comparison.trigger in ("rebuild", "doubt"):
            self._again_s[peer] = now.monotonic_s + AFTER_FAILURE_S
        if comparison.succeeded:
            self._last_success_ms[peer] = now.wall_ms
            if comparison.mode is CompareMode.REPAIR and comparison.trigger != "doubt":
                self._note_repaired(comparison)
        row = comparison.progress(self._last_success_ms.get(peer))
        self._results[comparison.id] = row
        while len(self._results) > RESULTS_KEPT_MAX + len(self._latest):
            del self._results[next(iter(self._results))]
        self._tell(comparison, row)

    def _note_repaired(self, comparison: Comparison) -> None:
        if not self._quarantine.tables:
            self.rebuild.on_compared(comparison.peer, comparison.id, proven=comparison.peer_proven)
        if comparison.damage:
            self._known_damage.setdefault(comparison.peer, set()).update(comparison.damage)
            for partition in comparison.damage:
                self._tree.rebuild(partition, partition + 1)

    def _tell(self, comparison: Comparison, row: dict[str, Any]) -> None:
        self._state.outbox.record(
            "merkle_round",
            peer=comparison.peer,
            **{
                name: row[name]
                for name in (
                    "trigger",
                    "state",
                    "partitions",
                    "leaves_differing",
                    "keys_differing",
                    "keys_repaired",
                    "bytes",
                    "full_copy_bytes",
                )
            },
        )
        if row["keys_repaired"]:
            self._state.outbox.record(
                "keys_repaired", peer=comparison.peer, count=row["keys_repaired"]
            )

    # ------------------------------------------------------------ for people

    def snapshot(self) -> dict[str, Any]:
        """What a node's status says of the state of its disk."""
        return {
            "rebuilding": self.rebuild.reason,
            "unproven_partitions": len(self._state.replica.unproven),
            "doubted_copies": len(self._state.replica.doubted),
            "quarantine_kept": self._quarantine.kept_because,
        }

    def register(self, admin: AdminCommands) -> None:
        """Offer `repair`, `merkle`, `repair_status`, `merkle_roots`, and to look into the tree."""
        admin.register("repair", self.on_repair_command)
        admin.register("merkle", self.on_merkle_command)
        admin.register("repair_status", self.on_status_command)
        admin.register("merkle_roots", self.on_roots_command)
        MerkleInspection(self._state, self.pair_with).register(admin)

    def on_repair_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """`{"peers": [...]}` (default: all that share anything): compare and merge both ways.

        Answers `{"sessions": {peer: number}}` for `repair_status`. Raises `InvalidRequestError`
        for names that are no peers.
        """
        given = arguments.get("peers")
        if given is None:
            peers = [peer for peer in self._peers() if self.pair_with(peer).partitions]
        elif isinstance(given, list):
            peers = [self._peer_named(one) for one in given]
        else:
            raise InvalidRequestError("the argument peers must be a list of names.")
        return {"sessions": {peer: self._command(peer, CompareMode.REPAIR, now) for peer in peers}}

    def on_merkle_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """`{"peer": name, "partition": number or absent}`: compare, change nothing.

        Answers `{"session": number}` for `repair_status`.
        """
        peer = self._peer_named(arguments.get("peer"))
        partition = arguments.get("partition")
        if partition is not None:
            if not isinstance(partition, int) or isinstance(partition, bool):
                raise InvalidRequestError("the argument partition must be a number.")
            if partition not in self.pair_with(peer).partitions:
                raise InvalidRequestError(
                    f"{self._state.name} and {peer} do not both own partition {partition}.",
                    hint="`kvctl where KEY` names the partition of a key and its owners.",
                )
        return {"session": self._command(peer, CompareMode.READ_ONLY, now, partition)}

    def on_status_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """`{"pairs": [...]}`: per peer the comparison started last, or those of `sessions`."""
        sessions = arguments.get("sessions")
        if sessions is None:
            wanted = [self._latest[peer] for peer in sorted(self._latest)]
        elif isinstance(sessions, list):
            wanted = [one for one in sessions if isinstance(one, int)]
        else:
            raise InvalidRequestError("the argument sessions must be a list of numbers.")
        running = {one.id: one for one in self._running.values()}
        pairs = []
        for session in wanted:
            if session in running:
                comparison = running[session]
                pairs.append(comparison.progress(self._last_success_ms.get(comparison.peer)))
            elif session in self._results:
                pairs.append(self._results[session])
        return {"pairs": pairs, "rebuilding": self.rebuild.reason}

    def on_roots_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """`{"roots": {peer: hash or None}}`: None while the tree is being built or is damaged.

        A pair has converged when each names the same root for the other.
        """
        roots = {}
        for peer in self._peers():
            pair = self.pair_with(peer)
            usable = pair.ready and not pair.damaged
            roots[peer] = pair.root().hex() if usable else None
        return {"roots": roots, "rebuilding": self.rebuild.reason}

    def _peers(self) -> list[str]:
        return [peer for peer in self._state.map.members if peer != self._state.name]

    def _peer_named(self, name: object) -> str:
        if not isinstance(name, str) or name not in self._peers():
            known = ", ".join(self._peers())
            raise InvalidRequestError(
                f"{name!r} is no peer of {self._state.name}.", hint=f"its peers are {known}."
            )
        return name

    def _command(
        self, peer: str, mode: CompareMode, now: Instant, partition: int | None = None
    ) -> int:
        """Start a comparison by command, in place of one in the background; the session."""
        running = self._running.get(peer)
        if running is not None:
            if running.mode is mode and running.commanded and running.partition == partition:
                return running.id
            if running.trigger == "rebuild":
                if mode is CompareMode.REPAIR:
                    return running.id
                raise UnavailableError(
                    f"{self._state.name} is being rebuilt from {peer} just now.",
                    hint="ask again when `kvctl status` shows it up.",
                )
            running.interrupt("a command took its place")
            self._settle(running, now)
        return self._begin(peer, mode, "command", now, partition).id

    def check_invariants(self) -> None:
        """Assert that at most one comparison runs with each peer, and none that is over."""
        assert all(peer == one.peer and not one.finished for peer, one in self._running.items())
        self.rebuild.check_invariants()
        self._state.replica.doubted.check_invariants()
