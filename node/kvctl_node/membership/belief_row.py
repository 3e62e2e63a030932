"""One row of the belief matrix: what a node thinks of each member, for people and for waiting.

The facts stand in three places (gossip's records, the detector's judgement, the disk's identity);
this puts them side by side. Nothing is decided by it.
"""

from __future__ import annotations

from typing import Any

from kvctl_node.membership.failure_detector import Belief
from kvctl_node.membership.gossip import Gossip
from kvctl_node.membership.member import Member, member_id
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant


def belief_row(state: NodeState, gossip: Gossip, now: Instant) -> dict[str, Any]:
    """Member → state, generation, heartbeat, age_ms, phi, uuid and observers; JSON-compatible.

    A member that left the ring has only its state and the generation it was last seen in.
    """
    own = gossip.own
    row: dict[str, Any] = {
        state.name: {
            "state": Belief.UP.value,
            "generation": own.generation,
            "heartbeat": own.heartbeat,
            "age_ms": 0,
            "phi": 0.0,
            "uuid": state.identity.storage_uuid,
            "observers": [],
        }
    }
    for name in sorted(state.detector.watched):
        watch = state.detector.watched[name]
        member = gossip.members.get(member_id(name)) or Member(member_id(name))
        row[name] = {
            "state": watch.belief.value,
            "generation": member.generation,
            "heartbeat": member.heartbeat,
            "age_ms": max(0, int((now.monotonic_s - watch.fresh_s) * 1000)),
            "phi": max(0.0, round(watch.phi.phi(now.monotonic_s), 3)),
            "uuid": member.storage_uuid,
            "observers": list(state.detector.observers_of(name)),
        }
    for name, generation in sorted(state.detector.left.items()):
        row[name] = {"state": Belief.LEFT.value, "generation": generation}
    return row
