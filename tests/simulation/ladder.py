"""Ladder diagrams: the messages about one key, as a person would draw them.

       time       n1      n2      n3
      1.2034       *       :       :    client put c1:4 overwrite v1.4
      1.2034       o------>:       :    ReplicaPut ... (arrives 1.2101)
      1.2034       o-------:------>X    ReplicaPut ... (lost)

Read downwards; `o` sends, `>` receives, `X` never does, `*` happens in one place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from kvctl_node.causality.causal_context import CausalContext
from kvctl_node.causality.siblings import StoredObject, decode_object
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientReply,
    Failed,
    GetDone,
    PutDone,
    PutKind,
)
from kvctl_node.protocol.messages import (
    Forward,
    ForwardReply,
    PeerMessage,
    ReplicaGet,
    ReplicaGetReply,
    ReplicaGets,
    ReplicaPut,
    ReplicaPutAck,
    ReplicaPutReport,
    ReplicaPuts,
    ReplicaRefused,
    ReplicaSame,
    ReplicaState,
)
from kvctl_node.protocol.repair_messages import (
    HandoffAck,
    HandoffPut,
    RepairKeys,
    RepairKeysReply,
)

COLUMN = 8
RUNGS_SHOWN_MAX = 160


@dataclass(frozen=True)
class Rung:
    """One line. `receiver` "" is an event in one place; `arrives_s` None: lost."""

    time_s: float
    place: str
    receiver: str
    arrives_s: float | None
    text: str


class Ladder:
    """Collects what concerns one key."""

    def __init__(self, key: bytes) -> None:
        self.key = key
        self.rungs: list[Rung] = []
        self._asked: set[tuple[str, int]] = set()
        """(coordinator or forwarder, id) of requests about the key: answers carry the id only."""

    def on_message(
        self,
        time_s: float,
        sender: str,
        receiver: str,
        message: PeerMessage,
        arrives_s: float | None,
    ) -> None:
        """A message was sent."""
        if self._concerns(sender, receiver, message):
            text = f"{type(message).__name__} {describe(message, self.key)}".rstrip()
            self.rungs.append(Rung(time_s, sender, receiver, arrives_s, text))

    def _concerns(self, sender: str, receiver: str, message: PeerMessage) -> bool:
        match message:
            case ReplicaPut(key=key) | ReplicaGet(key=key) | HandoffPut(key=key):
                return self._ask(sender, message.id, key)
            case Forward(request=request):
                return self._ask(sender, message.id, request.key)
            case RepairKeys() | RepairKeysReply():
                return any(key == self.key for key, _, _ in message.copies)
            case ReplicaPuts(puts=items) | ReplicaGets(gets=items):
                return self._ask(sender, message.id, self.key if self._is_in(items) else b"")
            case (
                ReplicaPutAck()
                | ReplicaSame()
                | ReplicaPutReport()
                | ReplicaRefused()
                | ReplicaGetReply()
                | HandoffAck()
                | ForwardReply()
            ):
                return (receiver, message.id) in self._asked
        return False

    def _is_in(self, items: Sequence[tuple[Any, ...]]) -> bool:
        return any(item[0] == self.key for item in items)

    def _ask(self, sender: str, message_id: int, key: bytes) -> bool:
        if key == self.key:
            self._asked.add((sender, message_id))
        return key == self.key

    def note(self, time_s: float, place: str, text: str) -> None:
        """Something happened in one place ("": everywhere)."""
        self.rungs.append(Rung(time_s, place, "", None, text))

    def draw(self, names: list[str]) -> str:
        """The diagram; of a long one, the end."""
        head = " " * 12 + "".join(f"{name:^{COLUMN}}" for name in names)
        rungs = sorted(self.rungs, key=lambda one: one.time_s)
        shown = rungs[-RUNGS_SHOWN_MAX:]
        lines = [head]
        if len(rungs) > len(shown):
            lines.append(f"      ({len(rungs) - len(shown)} earlier lines are left out)")
        lines += [_line(rung, names) for rung in shown]
        return "\n".join(lines)


def _line(rung: Rung, names: list[str]) -> str:
    lane = list((" " * (COLUMN // 2) + ":" + " " * (COLUMN - COLUMN // 2 - 1)) * len(names))
    column = {name: index * COLUMN + COLUMN // 2 for index, name in enumerate(names)}
    text = rung.text
    if not rung.receiver:
        for name in names:
            if rung.place in ("", name):
                lane[column[name]] = "*" if rung.place else "="
    else:
        start, end = column[rung.place], column[rung.receiver]
        step = 1 if end > start else -1
        for at in range(start + step, end, step):
            lane[at] = ":" if lane[at] == ":" else "-"
        lane[start] = "o"
        lane[end] = "X" if rung.arrives_s is None else lane[end]
        lane[end - step] = ">" if step > 0 else "<"
        text += " (lost)" if rung.arrives_s is None else f" (arrives {rung.arrives_s:.4f})"
    return f"{rung.time_s:10.4f}  {''.join(lane)}  {text}"


def describe(message: PeerMessage, key: bytes) -> str:
    """What a message says, in few words."""
    match message:
        case ReplicaPut() | HandoffPut():
            stands_for = getattr(message, "stands_for", "")
            hint = f" hint for {stands_for}" if stands_for else ""
            return f"#{message.id & 0xFFFF}{hint} {describe_content(message.content)}"
        case ReplicaGetReply(state=state) | ReplicaPutReport(state=state):
            content = f" {describe_content(message.content)}" if message.content else ""
            return f"#{message.id & 0xFFFF} {ReplicaState(state).name}{content}"
        case Forward(request=request):
            return f"#{message.id & 0xFFFF} {describe_request(request)}"
        case ForwardReply(reply=reply):
            return f"#{message.id & 0xFFFF} {describe_reply(reply)}"
        case RepairKeys() | RepairKeysReply():
            contents = [content for one, content, _ in message.copies if one == key]
            return " ".join(describe_content(content) for content in contents)
        case ReplicaRefused(reason=reason):
            return f"#{message.id & 0xFFFF} {reason}"
        case ReplicaPuts(puts=puts):
            contents = [describe_content(item[1]) for item in puts if item[0] == key]
            return f"#{message.id & 0xFFFF} {len(puts)} puts, {' '.join(contents)}"
        case ReplicaGets(gets=gets):
            places = [str(at) for at, item in enumerate(gets) if item[0] == key]
            return f"#{message.id & 0xFFFF} {len(gets)} gets, at {' '.join(places)}"
        case ReplicaPutAck(but=but) | ReplicaSame(but=but):
            return f"#{message.id & 0xFFFF}" + (f" but {but}" if but else "")
        case ReplicaGet() | HandoffAck():
            return f"#{message.id & 0xFFFF}"
    return ""


def describe_request(request: ClientPut | ClientGet) -> str:
    """A client's request."""
    if isinstance(request, ClientGet):
        return f"get R={request.r}" + (" blocking" if request.repair else "")
    value = "delete" if request.value is None else request.value.decode()
    attempt = f" attempt {request.attempt}" if request.attempt else ""
    kind = PutKind(request.kind).name.lower()
    return f"put c{request.client}:{request.sequence}{attempt} {kind} {value} W={request.w}"


def describe_reply(reply: ClientReply) -> str:
    """An answer to a client."""
    match reply:
        case PutDone(acked=acked, hinted=hinted):
            return f"done by {','.join(acked)}" + (f" hinted {hinted}" if hinted else "")
        case GetDone(content=content, replied=replied):
            return f"read {describe_content(content)} from {','.join(replied)}"
        case Failed(kind=kind, message=message):
            return f"failed ({kind}): {message}"
    return type(reply).__name__


def describe_content(content: bytes) -> str:
    """An object: its siblings, and what it has seen."""
    return describe_object(decode_object(content)) if content else "nothing"


def describe_object(stored: StoredObject) -> str:
    """`{n1#1:2=v}` the siblings, `[n1#1:2 n2#1:1]` the context."""
    siblings = " ".join(
        f"{one.actor}:{one.counter}={'deleted' if one.value is None else one.value.decode()}"
        for one in stored.siblings
    )
    return f"{{{siblings}}}{describe_context(stored.context)}"


def describe_context(context: CausalContext) -> str:
    """The entries of the vector, then the detached dots after a `+`."""
    vector = [f"{actor}:{counter}" for actor, counter, _ in context.vector]
    detached = [f"+{actor}:{counter}" for actor, counter, _ in context.detached]
    return f"[{' '.join(vector + detached)}]"
