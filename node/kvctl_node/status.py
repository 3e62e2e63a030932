"""A node's snapshot of itself: the one source of what status, metrics and the dashboard show.

Facts the core knows stand here; the runtime adds what only it can see (memory, sockets, uptime).
The snapshot is a plain dictionary because it travels to people, not to protocol code.
"""

from __future__ import annotations

from typing import Any

import msgspec

from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant


def snapshot_of(state: NodeState, now: Instant, *, in_flight: int) -> dict[str, Any]:
    """The node's identity, ring, quorum, peers and storage figures, JSON-compatible."""
    identity, stats = state.identity, state.storage.stats()
    return {
        "name": state.name,
        "pid": identity.pid,
        "nonce": identity.nonce,
        "storage_uuid": identity.storage_uuid,
        "generation": identity.generation,
        "actor_epoch": identity.actor_epoch,
        "state": _state_of(state),
        "ring_epoch": state.map.epoch,
        "ring_hash": state.map.hash.hex(),
        "quorum": {
            "n": state.quorum.n,
            "r": state.quorum.r,
            "w": state.quorum.w,
            "mode": state.quorum.mode,
        },
        "peers": {
            peer: {
                "reachable": peer in state.liveness.reachable,
                "heard_ms": state.liveness.heard_ms(peer, now),
            }
            for peer in state.liveness.peers
        },
        "keys": stats.keys_estimate,
        "hints": state.handoff.count,
        "conflicts": len(state.replica.conflicted),
        "in_flight": in_flight,
        "stale_requests": state.stale_requests,
        "clock_correction_ms": state.clock.correction_ms,
        "accepts_writes": state.storage.accepts_writes(),
        "storage": msgspec.to_builtins(stats),
    }


def _state_of(state: NodeState) -> str:
    """`ok`, or the one thing an operator has to know first."""
    stats = state.storage.stats()
    if stats.corrupt_sstables:
        return "corrupt"
    if state.replica.unproven:
        return "rebuilding"
    if not state.storage.accepts_writes():
        return "read-only"
    return "ok"
