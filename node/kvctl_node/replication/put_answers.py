"""What a put is answered, in each of its ends: one place for the words and the kind of failure.

Before the local store every failure is definite (`unavailable`, `overloaded`); from it on a miss is
`indeterminate`. The exception stands here too: a retry that cannot find out what became of an
earlier attempt is indeterminate though it stored nothing itself.
"""

from __future__ import annotations

from kvctl_node.causality.causal_context import CausalContext
from kvctl_node.causality.siblings import encode_context
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import Failed, PutDone
from kvctl_node.replication.quorum import Quorum
from kvctl_node.replication.slots import Slots


def put_done(
    request_id: int,
    context: CausalContext,
    siblings: int,
    coordinator: str,
    acked: list[str],
    slots: Slots,
) -> PutDone:
    """W replicas have it. `context`: what the client has seen; `siblings`: how many are left."""
    stand_ins = slots.stand_ins
    return PutDone(
        request_id,
        encode_context(context),
        siblings,
        coordinator,
        tuple(acked),
        {node: stand_ins[node] for node in acked if node in stand_ins} if stand_ins else {},
        slots.degraded,
    )


def too_few_reachable(request_id: int, slots: Slots, w: int) -> Failed:
    """Not even W replicas could be asked."""
    filled = len(slots.by_node)
    return Failed(
        request_id,
        FailureKind.UNAVAILABLE,
        f"{filled} of {filled + len(slots.missing)} replicas are reachable, "
        f"W={w} are needed; nothing was stored.",
        "`kvctl status` shows which nodes are down.",
    )


def takes_no_writes(request_id: int, node: str) -> Failed:
    """The coordinator itself cannot store anything now."""
    return Failed(
        request_id,
        FailureKind.OVERLOADED,
        f"{node} takes no writes: its disk is full or its memory is at its limit.",
        "free disk space, or try again in a moment.",
    )


def read_in_vain(request_id: int, reads: Quorum) -> Failed:
    """Fewer than R replicas answered the read that had to come first."""
    return Failed(
        request_id,
        FailureKind.UNAVAILABLE,
        f"{len(reads.acked)} of R={reads.needed} replicas answered the read "
        "before the write; nothing was stored.",
        "`kvctl status` shows which nodes are down; a put with --blind does not read.",
    )


def earlier_attempt_hidden(request_id: int) -> Failed:
    """A retry came so late that the memory of requests is over it."""
    return Failed(
        request_id,
        FailureKind.INDETERMINATE,
        "too many later writes to the key hide whether an earlier attempt was applied.",
        "read the key to see what it holds.",
    )


def too_few_acknowledged(request_id: int, acked: int, w: int) -> Failed:
    """The value is stored somewhere and will spread."""
    return _indeterminate(
        request_id,
        f"{acked} of W={w} replicas acknowledged; the value may or may not be read later.",
    )


def too_few_witnesses(request_id: int, reads: Quorum) -> Failed:
    """Stored by W, but a strict overwrite promises to supersede what a read quorum held."""
    return _indeterminate(
        request_id,
        f"{len(reads.acked)} of R={reads.needed} replicas could say what the value replaces; "
        "it is stored, and older versions may stay beside it.",
    )


def _indeterminate(request_id: int, message: str) -> Failed:
    return Failed(
        request_id,
        FailureKind.INDETERMINATE,
        message,
        "read the key, or put again: a retry is safe.",
    )
