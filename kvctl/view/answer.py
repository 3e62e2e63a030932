"""Reading a node's answer: from the plain data of its snapshot to the typed parts of a view.

A snapshot comes from a node that may be older or newer than this program, or from an old recording.
What it does not say is left at its default; nothing it says beyond is looked at. Rates are the
difference to the answer before, over the time between the two.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from kvctl.view.observation import NodeAnswered, OperationSeen
from kvctl.view.state import (
    HISTORY_MAX,
    Belief,
    FaultView,
    Figures,
    HintQueueView,
    MerklePairView,
)

_RATE_MEMORY = 0.6
"""How much of a queue's former drain rate is kept with each answer: a jerky rate has no ETA."""
_FAULT_FIELDS = frozenset(("id", "kind", "links", "hits", "expires_ms"))


def figures_in(snapshot: Mapping[str, Any], before: Figures, elapsed_ms: int) -> Figures:
    """The node's figures; rates since `before`, unless the node was restarted in between."""
    transport = snapshot.get("transport", {})
    messages = sum(
        int(transport.get(kind, {}).get("messages_in", 0)) for kind in ("peers", "clients")
    )
    generation = int(snapshot.get("generation", 0))
    cpu_s, turns = float(snapshot.get("cpu_s", 0.0)), int(snapshot.get("turns", 0))
    same_life = before.generation == generation and elapsed_ms > 0 and turns >= before.turns
    elapsed_s = elapsed_ms / 1000 if same_life else float("inf")
    peers = snapshot.get("peers", {})
    return Figures(
        state=str(snapshot.get("state", "ok")),
        generation=generation,
        pid=int(snapshot.get("pid", 0)),
        keys=int(snapshot.get("keys", 0)),
        hints=int(snapshot.get("hints", 0)),
        conflicts=int(snapshot.get("conflicts", 0)),
        in_flight=int(snapshot.get("in_flight", 0)),
        accepts_writes=bool(snapshot.get("accepts_writes", True)),
        ring_epoch=int(snapshot.get("ring_epoch", 0)),
        ring_hash=str(snapshot.get("ring_hash", "")),
        uptime_s=float(snapshot.get("uptime_s", 0.0)),
        cpu_s=cpu_s,
        cpu_share=(cpu_s - before.cpu_s) / elapsed_s,
        rss_bytes=int(snapshot.get("rss_bytes", 0)),
        turns=turns,
        turns_per_s=(turns - before.turns) / elapsed_s,
        messages=messages,
        messages_per_s=(messages - before.messages) / elapsed_s,
        storage=snapshot.get("storage", {}),
        peers_reachable=tuple(sorted(name for name, one in peers.items() if one.get("reachable"))),
    )


def beliefs_in(snapshot: Mapping[str, Any]) -> dict[str, Belief]:
    """The node's row of the belief matrix."""
    return {
        name: Belief(
            state=str(said.get("state", "")),
            generation=int(said.get("generation", 0)),
            heartbeat=int(said.get("heartbeat", 0)),
            age_ms=int(said.get("age_ms", 0)),
            phi=float(said.get("phi", 0.0)),
            observers=tuple(said.get("observers", ())),
        )
        for name, said in snapshot.get("members", {}).items()
    }


def hints_in(
    known: Mapping[tuple[str, str], HintQueueView], answer: NodeAnswered
) -> dict[tuple[str, str], HintQueueView]:
    """All queues, those of the answering node as it says; one it does not name is empty."""
    hints = {place: queue for place, queue in known.items() if place[0] != answer.node}
    for said in answer.hints:
        target, count = str(said["target"]), int(said["count"])
        if not count:
            continue
        before = known.get((answer.node, target))
        delivered = int(said.get("delivered", 0))
        hints[answer.node, target] = HintQueueView(
            holder=answer.node,
            target=target,
            count=count,
            bytes=int(said.get("bytes", 0)),
            oldest_ms=int(said.get("oldest_ms", 0)),
            delivered=delivered,
            held=bool(said.get("held", False)),
            at_ms=answer.at_ms,
            drained_per_s=_drain_rate(before, delivered, answer.at_ms),
            history=(*(before.history if before else ())[-(HISTORY_MAX - 1) :], count),
        )
    return hints


def _drain_rate(before: HintQueueView | None, delivered: int, at_ms: int) -> float:
    if before is None or not before.at_ms or at_ms <= before.at_ms or delivered < before.delivered:
        return 0.0
    rate = (delivered - before.delivered) * 1000 / (at_ms - before.at_ms)
    if not before.drained_per_s:
        return rate
    smoothed = _RATE_MEMORY * before.drained_per_s + (1 - _RATE_MEMORY) * rate
    return smoothed if smoothed >= 0.1 else 0.0


def merkle_in(pairs: Iterable[Mapping[str, Any]]) -> dict[tuple[str, str], MerklePairView]:
    """The comparisons a node asked for, by pair."""
    known = MerklePairView.__struct_fields__
    return {
        (str(said["a"]), str(said["b"])): MerklePairView(
            **{name: said[name] for name in known if name in said}
        )
        for said in pairs
    }


def faults_in(faults: Iterable[Mapping[str, Any]]) -> dict[str, FaultView]:
    """The faults a node knows of, by id."""
    return {
        str(said["id"]): FaultView(
            id=str(said["id"]),
            kind=str(said.get("kind", "")),
            links=tuple((str(link[0]), str(link[1])) for link in said.get("links", ())),
            hits=int(said.get("hits", 0)),
            expires_ms=int(said.get("expires_ms") or 0),
            parameters={name: value for name, value in said.items() if name not in _FAULT_FIELDS},
        )
        for said in faults
    }


def operations_in(answer: NodeAnswered) -> list[OperationSeen]:
    """The operations the node coordinated, as it reports them."""
    return [
        OperationSeen(
            at_ms=int(said["at_ms"]),
            op=str(said["op"]),
            key=str(said["key"]),
            coordinator=answer.node,
            answered=tuple(said.get("answered", ())),
            hinted=dict(said.get("hinted", {})),
            outcome=str(said.get("outcome", "ok")),
            took_ms=float(said.get("took_ms", 0.0)),
            asked=tuple(said.get("asked", ())),
            partition=int(said.get("partition", -1)),
            missing=tuple(said.get("missing", ())),
        )
        for said in answer.operations
    ]
