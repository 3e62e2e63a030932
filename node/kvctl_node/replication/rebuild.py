"""Rebuilding: a node whose disk was wiped or is an old copy does not know what it does not know.

Such a node has no record of keys whose writes it once acknowledged. Until it has been compared
with enough co-owners of a partition, a key that is missing there is no evidence of absence, and
reads are answered accordingly (`Replica.read` raises `RebuildingError`).

How many co-owners are enough: of the W disks that hold an acknowledged write, d < W were lost. The
N - d others hold it at least W - d times, so any N - W + 1 of them meet it, as long as none of them
is rebuilding as well. All co-owners together are enough in any case: nobody else could know more.

A node that has given up a damaged table (`quarantine`) is in the same position, for the partitions
in which records of it could not be read.

The state is durable: a node that is killed while rebuilding goes on with it.
"""

from __future__ import annotations

from collections.abc import Collection

import msgspec

from kvctl_node.identity import REBUILDING, REBUILDING_PARTITIONS
from kvctl_node.node_state import NodeState

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(list[int])


def is_enough(state: NodeState, partition: int, *, whole: set[str], met: set[str]) -> bool:
    """Whether this node was compared with enough co-owners; `met` are those of `whole`, and more.

    `whole` are those that are not themselves in doubt about what they hold.
    """
    owners = state.map.owners[partition]
    needed = min(state.map.n - 1, state.map.n - state.quorum.w + 1)
    return len(whole.intersection(owners)) >= needed or met.issuperset(set(owners) - {state.name})


class Rebuild:
    """Which partitions' missing keys prove nothing, and what it takes to change that."""

    def __init__(self, state: NodeState) -> None:
        self._state = state
        self._generation = state.identity.generation
        self._compared: set[str] = set()
        """Co-owners that were compared with and lacked nothing themselves."""
        self._met: set[str] = set()
        """Co-owners that were compared with, those that rebuild too included."""
        self._since = 0
        """Comparisons with lower numbers began when the disk was another."""
        self._scope: frozenset[int] | None = None
        """The partitions concerned, None for all."""
        self.reason = (state.storage.metadata(REBUILDING) or b"").decode()
        kept = state.storage.metadata(REBUILDING_PARTITIONS)
        if self.reason and kept:
            self._scope = frozenset(_decoder.decode(kept))
        if self.reason:
            self._announce()

    @property
    def active(self) -> bool:
        """Whether anything is still unproven."""
        return bool(self.reason)

    def on_tick(self) -> bool:
        """Notice reasons to rebuild; True if a rebuild begins now.

        Peers may remember a later life of this node: membership raises the generation of a running
        node in just that case. Or more records were damaged than can be doubted one by one.
        """
        generation = self._state.identity.generation
        if generation != self._generation:
            self._generation = generation
            self.begin("its peers remember a later disk")
        elif self._state.replica.doubted.overflowed:
            self.begin("too many of its records were damaged")
        else:
            return False
        return True

    def begin(self, reason: str, partitions: Collection[int] | None = None) -> None:
        """From now on missing keys prove nothing, in these partitions or (None) in all.

        Durable with this turn. What was being rebuilt already is so from the beginning.
        """
        if partitions is None or (self.active and self._scope is None):
            self._scope = None
            self._state.replica.doubted.clear()
        else:
            self._scope = frozenset(partitions).union(self._state.replica.unproven)
        self.reason = reason
        scope = b"" if self._scope is None else _encode(sorted(self._scope))
        self._state.storage.set_metadata(REBUILDING, reason.encode())
        self._state.storage.set_metadata(REBUILDING_PARTITIONS, scope)
        self._forget_comparisons()
        self._announce()

    def start_over(self) -> None:
        """The disk is not what it was: whatever began before this moment proves nothing."""
        self._forget_comparisons()
        self._recompute()

    def _forget_comparisons(self) -> None:
        self._since = self._state.next_id()
        self._compared.clear()
        self._met.clear()

    def _announce(self) -> None:
        unproven = self._recompute()
        self._state.outbox.record("rebuild_started", reason=self.reason, partitions=len(unproven))
        self._finish_if_proven()

    def missing_peers(self) -> list[str]:
        """Co-owners of unproven partitions that have not been compared with."""
        unproven = self._state.replica.unproven
        owners = self._state.map.owners
        peers = {peer for partition in unproven for peer in owners[partition]}
        return sorted(peers - self._compared - {self._state.name})

    def on_compared(self, peer: str, session: int, *, proven: bool) -> None:
        """Everything shared with the peer was compared and repaired; `proven`: it is whole."""
        if self.active and session > self._since:
            self._met.add(peer)
            if proven:
                self._compared.add(peer)
            self._recompute()
            self._finish_if_proven()

    def _recompute(self) -> set[int]:
        state = self._state
        if not self.active:
            return set()
        state.replica.unproven = {
            partition
            for partition in state.map.partitions_of(state.name)
            if (self._scope is None or partition in self._scope)
            and not is_enough(state, partition, whole=self._compared, met=self._met)
        }
        return state.replica.unproven

    def _finish_if_proven(self) -> None:
        if not self._state.replica.unproven:
            self._state.outbox.record("rebuild_finished", compared_with=sorted(self._compared))
            self.reason, self._scope = "", None
            self._state.storage.set_metadata(REBUILDING, b"")
            self._state.storage.set_metadata(REBUILDING_PARTITIONS, b"")

    def check_invariants(self) -> None:
        """Assert that unproven partitions exist exactly while rebuilding."""
        assert self.active == bool(self._state.replica.unproven)
