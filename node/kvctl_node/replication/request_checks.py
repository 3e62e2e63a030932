"""What is wrong with a request before anything is done about it, in one place.

Every check answers with a definite failure: nothing was stored. Almost every request is sound, so
one condition lets it pass; only when that fails is it asked what was wrong.
"""

from __future__ import annotations

from kvctl_node.config import QuorumMode
from kvctl_node.errors import FailureKind
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientScan,
    Failed,
    PutKind,
    RepairMode,
)


def check_put(state: NodeState, request: ClientPut, now: Instant) -> Failed | None:
    """The reason to refuse a put, or None."""
    limits = state.limits
    value = request.value
    if (
        now.wall_ms <= request.deadline_ms
        and request.started_ms <= now.wall_ms + state.timing.clock_skew_ms
        and 0 < len(request.key) <= limits.key_bytes_max
        and (value is None or len(value) <= limits.value_bytes_max)
        and request.kind in _PUT_KINDS
        and 0 <= request.w <= state.quorum.n
        and request.mode in _MODES
    ):
        return None
    return _why_not_put(state, request, now)


def _why_not_put(state: NodeState, request: ClientPut, now: Instant) -> Failed | None:
    if request.kind not in _PUT_KINDS:
        return Failed(request.id, FailureKind.INVALID, f"{request.kind} is no kind of put.")
    value_bytes = 0 if request.value is None else len(request.value)
    if value_bytes > state.limits.value_bytes_max:
        return Failed(
            request.id,
            FailureKind.TOO_LARGE,
            f"the value has {value_bytes} bytes; the limit is {state.limits.value_bytes_max}.",
            "split it over several keys, or raise limits.value_bytes_max for a new cluster.",
        )
    return (
        _check_deadline(request, now)
        or _check_start(state, request, now)
        or _check_key(state, request)
        or _check_count(state, request, "W", request.w)
    )


def check_get(state: NodeState, request: ClientGet, now: Instant) -> Failed | None:
    """The reason to refuse a get, or None."""
    if (
        now.wall_ms <= request.deadline_ms
        and 0 < len(request.key) <= state.limits.key_bytes_max
        and 0 <= request.r <= state.quorum.n
        and request.mode in _MODES
        and request.repair in _REPAIR_MODES
    ):
        return None
    return _why_not_get(state, request, now)


def _why_not_get(state: NodeState, request: ClientGet, now: Instant) -> Failed | None:
    if request.repair not in _REPAIR_MODES:
        return Failed(request.id, FailureKind.INVALID, f"{request.repair} is no repair mode.")
    return (
        _check_deadline(request, now)
        or _check_key(state, request)
        or _check_count(state, request, "R", request.r)
    )


def check_scan(state: NodeState, request: ClientScan, now: Instant) -> Failed | None:
    """The reason to refuse a scan, or None."""
    if 0 <= request.r <= state.quorum.n:
        return _check_deadline(request, now)
    return _out_of_range(request.id, "R", request.r, state.quorum.n)


def _check_deadline(request: ClientPut | ClientGet | ClientScan, now: Instant) -> Failed | None:
    """Nobody waits any more, and a retry may be under way: acting now could undo newer writes."""
    if now.wall_ms <= request.deadline_ms:
        return None
    late_ms = now.wall_ms - request.deadline_ms
    return Failed(
        request.id,
        FailureKind.UNAVAILABLE,
        f"the request came {late_ms} ms after its deadline; nothing was done.",
        "the node was stalled, or the clocks differ; try again.",
        now.wall_ms,
    )


def _check_start(state: NodeState, request: ClientPut, now: Instant) -> Failed | None:
    """A request from the future would be obeyed long after its client gave it up."""
    ahead_ms = request.started_ms - now.wall_ms
    if ahead_ms <= state.timing.clock_skew_ms:
        return None
    return Failed(
        request.id,
        FailureKind.UNAVAILABLE,
        f"the client's clock is {ahead_ms} ms ahead of the cluster's; nothing was done.",
        "set the clock of the client's machine.",
        now.wall_ms,
    )


def _check_key(state: NodeState, request: ClientPut | ClientGet) -> Failed | None:
    if not request.key:
        return Failed(request.id, FailureKind.INVALID, "the key is empty.")
    if len(request.key) > state.limits.key_bytes_max:
        return Failed(
            request.id,
            FailureKind.TOO_LARGE,
            f"the key has {len(request.key)} bytes; the limit is {state.limits.key_bytes_max}.",
            "use a shorter key, for example a hash of it.",
        )
    return None


def _check_count(
    state: NodeState, request: ClientPut | ClientGet, letter: str, count: int
) -> Failed | None:
    if request.mode not in _MODES:
        return Failed(request.id, FailureKind.INVALID, f"{request.mode} is no quorum mode.")
    if 0 <= count <= state.quorum.n:
        return None
    return _out_of_range(request.id, letter, count, state.quorum.n)


def _out_of_range(request_id: int, letter: str, count: int, n: int) -> Failed:
    return Failed(
        request_id, FailureKind.INVALID, f"{letter} must be between 1 and N={n}, not {count}."
    )


_PUT_KINDS = frozenset(int(kind) for kind in PutKind)
_REPAIR_MODES = frozenset(int(mode) for mode in RepairMode)
_MODES = frozenset(int(mode) for mode in QuorumMode)
