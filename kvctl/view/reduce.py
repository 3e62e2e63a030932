"""`reduce(view, observation)`: the next view. A pure function, and the only way a view changes.

Laws (tests hold them):

* an observation that brings nothing new, a duplicate or one older than what is known, gives back
  the very same view;
* a part of the view that an observation says nothing about is the same object afterwards;
* replaying the events after a snapshot leads to what the next snapshot says, wherever an event
  says as much: beliefs, hints, quorum, generation.

Trace clocks. Nodes stamp their events with vector clocks that travel on every frame. Of nodes that
do not, and of old recordings, what happened before what is told only where it is certain: a node's
own events in their order, and an event that names a member's generation after the `node_started` of
that generation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from msgspec.structs import replace

from kvctl.view.answer import beliefs_in, faults_in, figures_in, hints_in, merkle_in, operations_in
from kvctl.view.event_sequence import Place, is_news, missed_before
from kvctl.view.observation import (
    ClusterSeen,
    ConflictsSeen,
    EventsMissed,
    NodeAnswered,
    NodeEvent,
    NodeSilent,
    Observation,
    OperationSeen,
    ProcessWord,
)
from kvctl.view.state import (
    EVENTS_MAX,
    HISTORY_MAX,
    OPERATIONS_MAX,
    Belief,
    ClusterView,
    FaultView,
    HintQueueView,
    NodeView,
    OperationView,
    TimelineEvent,
)
from kvctl_node.config import QuorumConfig
from kvctl_node.ring.ownership import ownership
from kvctl_node.ring.partition_map import PartitionMap
from kvctl_node.ring.server import Server

CLOCK_SLACK_MS = 5
"""How far two stamps of one moment on one machine may be apart."""

_Part = TypeVar("_Part")


def reduce(view: ClusterView, observation: Observation) -> ClusterView:
    """The view after an observation. Raises `ProtocolError` if a ring document is malformed."""
    return _REDUCERS[type(observation)](view, observation)


def _on_cluster(view: ClusterView, seen: ClusterSeen) -> ClusterView:
    ring = view.ring
    if ring is None or ring.to_document() != seen.ring:
        ring = PartitionMap.from_document(seen.ring)
    servers = [Server(one.name, one.capacity, one.zone) for one in seen.nodes]
    known = {server.name for server in servers}
    shares: Mapping[str, float] = {}
    if known.issuperset(ring.members):
        shares = {row.node: row.share for row in ownership(ring, servers)}
    nodes = {}
    for declared in seen.nodes:
        node = view.nodes.get(declared.name, NodeView(declared=declared))
        nodes[declared.name] = replace(
            node, declared=declared, share=shares.get(declared.name, 0.0)
        )
    return replace(
        view,
        cluster=seen.cluster,
        at_ms=max(view.at_ms, seen.at_ms),
        ring=ring,
        quorum=_same_or(view.quorum, QuorumConfig(seen.n, seen.r, seen.w, seen.mode)),
        nodes=view.nodes if nodes == view.nodes else nodes,
    )


# ---------------------------------------------------------------- answers and silence


def _on_answer(view: ClusterView, answer: NodeAnswered) -> ClusterView:
    name = answer.node
    node = view.nodes.get(name)
    if node is None or answer.at_ms <= node.seen_ms:
        return view
    view = replace(view, beliefs={**view.beliefs, name: beliefs_in(answer.snapshot)})
    faults_at = {**view.faults_at, name: faults_in(answer.faults)}
    if faults_at == view.faults_at:
        faults_at = dict(view.faults_at)
    seen = replace(
        node,
        process=ProcessWord.RUNNING,
        answers=True,
        seen_ms=answer.at_ms,
        answered_ms=answer.at_ms,
        rtt_ms=answer.rtt_ms,
        figures=figures_in(answer.snapshot, node.figures, answer.at_ms - node.answered_ms),
        heartbeat_ages_ms=_push(node.heartbeat_ages_ms, _freshest_age_ms(view, name)),
    )
    view = replace(
        view,
        at_ms=max(view.at_ms, answer.at_ms),
        nodes={**view.nodes, name: seen},
        quorum=_quorum_in(view.quorum, answer.snapshot),
        hints=_same_or(view.hints, hints_in(view.hints, answer)),
        merkle=_same_or(view.merkle, {**view.merkle, **merkle_in(answer.repair)}),
        faults_at=_same_or(view.faults_at, faults_at),
        faults=_same_or(view.faults, _union_of_faults(faults_at)),
    )
    for operation in operations_in(answer):
        view = _on_operation(view, operation)
    return view


def _on_silence(view: ClusterView, silence: NodeSilent) -> ClusterView:
    node = view.nodes.get(silence.node)
    if node is None or silence.at_ms <= node.seen_ms:
        return view
    seen = replace(
        node,
        process=silence.process,
        answers=False,
        seen_ms=silence.at_ms,
        heartbeat_ages_ms=_push(node.heartbeat_ages_ms, _freshest_age_ms(view, silence.node)),
    )
    return replace(
        view, at_ms=max(view.at_ms, silence.at_ms), nodes={**view.nodes, silence.node: seen}
    )


def _freshest_age_ms(view: ClusterView, name: str) -> int:
    """The age of a node's newest heartbeat at the freshest of its answering peers."""
    ages = [
        row[name].age_ms
        for viewer, row in view.beliefs.items()
        if viewer != name and name in row and viewer in view.nodes and view.nodes[viewer].answers
    ]
    return min(ages, default=0)


def _push(history: tuple[int, ...], sample: int) -> tuple[int, ...]:
    return (*history[-(HISTORY_MAX - 1) :], sample)


def _quorum_in(known: QuorumConfig, snapshot: Mapping[str, Any]) -> QuorumConfig:
    said = snapshot.get("quorum")
    if not isinstance(said, dict):
        return known
    return _same_or(known, QuorumConfig(said["n"], said["r"], said["w"], said["mode"]))


def _union_of_faults(faults_at: Mapping[str, Mapping[str, FaultView]]) -> dict[str, FaultView]:
    """Every fault once; its hits are counted by each node at its own end of a link."""
    union: dict[str, FaultView] = {}
    for faults in faults_at.values():
        for fault in faults.values():
            known = union.get(fault.id)
            if known is None:
                union[fault.id] = fault
            else:
                links = tuple(dict.fromkeys((*known.links, *fault.links)))
                union[fault.id] = replace(known, hits=known.hits + fault.hits, links=links)
    return union


# ---------------------------------------------------------------- events


def _on_event(view: ClusterView, event: NodeEvent) -> ClusterView:
    node = view.nodes.get(event.node)
    place = Place(event.generation, event.seq)
    if node is None or not is_news(node.last_event, place):
        return view
    missed = missed_before(node.last_event, place)
    nodes = {**view.nodes, event.node: replace(node, last_event=place)}
    view = replace(
        view,
        at_ms=max(view.at_ms, event.at_ms),
        nodes=nodes,
        events_missed=view.events_missed + missed if missed else view.events_missed,
    )
    view = _with_trace(view, event)
    effect = _EFFECTS.get(event.kind)
    return view if effect is None else effect(view, event)


def _with_trace(view: ClusterView, event: NodeEvent) -> ClusterView:
    """Append to the timeline, with the trace clock."""
    if event.clock:
        return _with_entry(view, event, event.clock)
    clock = dict(view.clocks.get(event.node, {}))
    member, generation = event.fields.get("member"), event.fields.get("generation")
    if isinstance(member, str) and isinstance(generation, int):
        for name, count in view.starts.get((member, generation), {}).items():
            clock[name] = max(clock.get(name, 0), count)
    clock[event.node] = clock.get(event.node, 0) + 1
    if event.kind == "node_started":
        starts = {**view.starts, (event.node, event.generation): clock}
        view = replace(view, starts=starts)
    return _with_entry(view, event, clock)


def _with_entry(view: ClusterView, event: NodeEvent, clock: Mapping[str, int]) -> ClusterView:
    entry = TimelineEvent(
        event.at_ms, event.node, event.generation, event.seq, event.kind, event.fields, clock
    )
    return replace(
        view,
        events=(*view.events[-(EVENTS_MAX - 1) :], entry),
        clocks={**view.clocks, event.node: clock},
    )


def _belief_becomes(state: str) -> Callable[[ClusterView, NodeEvent], ClusterView]:
    def effect(view: ClusterView, event: NodeEvent) -> ClusterView:
        member = event.fields.get("member")
        row = view.beliefs.get(event.node, {})
        if not isinstance(member, str):
            return view
        known = row.get(member, Belief(state))
        believed = replace(
            known,
            state=state,
            generation=event.fields.get("generation", known.generation),
            observers=tuple(event.fields.get("observers", ())),
        )
        return replace(view, beliefs={**view.beliefs, event.node: {**row, member: believed}})

    return effect


def _on_hints_changed(view: ClusterView, event: NodeEvent) -> ClusterView:
    target, queued = event.fields.get("target"), event.fields.get("queued")
    if not isinstance(target, str) or not isinstance(queued, int):
        return view
    place = (event.node, target)
    hints = dict(view.hints)
    if queued:
        known = hints.get(place, HintQueueView(event.node, target, 0))
        hints[place] = replace(known, count=queued)
    else:
        hints.pop(place, None)
    return replace(view, hints=hints)


def _on_quorum_changed(view: ClusterView, event: NodeEvent) -> ClusterView:
    return replace(view, quorum=_quorum_in(view.quorum, {"quorum": event.fields}))


def _on_started(view: ClusterView, event: NodeEvent) -> ClusterView:
    node = view.nodes[event.node]
    figures = replace(node.figures, generation=event.generation)
    return replace(view, nodes={**view.nodes, event.node: replace(node, figures=figures)})


_EFFECTS: dict[str, Callable[[ClusterView, NodeEvent], ClusterView]] = {
    "node_started": _on_started,
    "member_suspected": _belief_becomes("suspect"),
    "member_down": _belief_becomes("down"),
    "member_alive": _belief_becomes("up"),
    "hint_stored": _on_hints_changed,
    "hint_delivered": _on_hints_changed,
    "quorum_changed": _on_quorum_changed,
}
"""What an event says about the picture itself, beside its place on the timeline."""


# ---------------------------------------------------------------- operations and gaps


def _on_operation(view: ClusterView, seen: OperationSeen) -> ClusterView:
    """Keep it, once: of a request that both its client and its coordinator tell of, the latter's
    account is kept, which says who was asked."""
    partition = seen.partition
    if partition < 0 and view.ring is not None:
        partition = view.ring.partition_of(seen.key.encode("utf-8"))
    operation = OperationView(
        seen.at_ms,
        seen.op,
        seen.key,
        partition,
        seen.coordinator,
        seen.answered,
        seen.hinted,
        seen.outcome,
        seen.took_ms,
        seen.asked,
        seen.missing,
    )
    if operation in view.operations:
        return view
    others = [one for one in view.operations if not _is_same_request(one, operation)]
    if len(others) < len(view.operations) and not operation.asked:
        return view
    operations = sorted((*others, operation), key=lambda one: one.at_ms)
    if len(operations) > OPERATIONS_MAX and operations[0] is operation:
        return view  # older than all that is kept
    return replace(
        view,
        at_ms=max(view.at_ms, seen.at_ms),
        operations=tuple(operations[-OPERATIONS_MAX:]),
    )


def _is_same_request(one: OperationView, other: OperationView) -> bool:
    """Whether one is a client's and the other its coordinator's account of the same request: the
    coordinator answered while the client waited."""
    if bool(one.asked) == bool(other.asked):
        return False
    client, coordinator = (other, one) if one.asked else (one, other)
    waited_ms = client.took_ms + CLOCK_SLACK_MS
    return (one.op, one.key, one.coordinator) == (
        other.op,
        other.key,
        other.coordinator,
    ) and client.at_ms - waited_ms <= coordinator.at_ms <= client.at_ms + CLOCK_SLACK_MS


def _on_conflicts(view: ClusterView, seen: ConflictsSeen) -> ClusterView:
    known = view.siblings
    if known is not None and seen.at_ms <= known.at_ms:
        return view
    return replace(view, siblings=seen)


def _on_missed(view: ClusterView, missed: EventsMissed) -> ClusterView:
    return replace(view, events_missed=view.events_missed + missed.count)


def _same_or(known: _Part, new: _Part) -> _Part:
    """The known object if the new one equals it, so that nothing seems to have changed."""
    return known if known == new else new


_REDUCERS: dict[type, Callable[[ClusterView, Any], ClusterView]] = {
    ClusterSeen: _on_cluster,
    NodeAnswered: _on_answer,
    NodeSilent: _on_silence,
    NodeEvent: _on_event,
    OperationSeen: _on_operation,
    EventsMissed: _on_missed,
    ConflictsSeen: _on_conflicts,
}
