"""Rebuilding: a node whose disk was wiped or is an old copy does not know what it does not know.

Such a node has no record of keys whose writes it once acknowledged. Until it has been compared
with enough co-owners of a partition, a key that is missing there is no evidence of absence, and
reads are answered accordingly (`Replica.read` raises `RebuildingError`).

How many co-owners are enough: of the W disks that hold an acknowledged write, d < W were lost. The
N - d others hold it at least W - d times, so any N - W + 1 of them meet it, as long as none of them
is rebuilding as well. All co-owners together are enough in any case: nobody else could know more.

The state is durable: a node that is killed while rebuilding goes on with it.
"""

from __future__ import annotations

from node.identity import REBUILDING
from node.node_state import NodeState


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
        self.reason = (state.storage.metadata(REBUILDING) or b"").decode()
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

    def begin(self, reason: str) -> None:
        """From now on missing keys prove nothing; durable with this turn."""
        self.reason = reason
        self._compared.clear()
        self._met.clear()
        self._state.replica.doubted.clear()
        self._state.storage.set_metadata(REBUILDING, reason.encode())
        self._announce()

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

    def on_compared(self, peer: str, *, proven: bool) -> None:
        """Everything shared with the peer was compared and repaired; `proven`: it is whole."""
        if self.active:
            self._met.add(peer)
            if proven:
                self._compared.add(peer)
            self._recompute()
            self._finish_if_proven()

    def _recompute(self) -> set[int]:
        state = self._state
        state.replica.unproven = {
            partition
            for partition in state.map.partitions_of(state.name)
            if not is_enough(state, partition, whole=self._compared, met=self._met)
        }
        return state.replica.unproven

    def _finish_if_proven(self) -> None:
        if not self._state.replica.unproven:
            self._state.outbox.record("rebuild_finished", compared_with=sorted(self._compared))
            self.reason = ""
            self._state.storage.set_metadata(REBUILDING, b"")

    def check_invariants(self) -> None:
        """Assert that unproven partitions exist exactly while rebuilding."""
        assert self.active == bool(self._state.replica.unproven)
