"""What injected faults do to each message of a peer: the policy, without sockets, files or time.

The transport asks, message by message; chance comes from the `random.Random` it was made with, so a
seed replays every decision. `kvctl_node.protocol.link_fault` says what faults there are and how
several on one link combine.

A cut link is silence, not a closed connection: the sockets stay open and nothing is heard. So the
core finds out as it would with a real network, by waiting in vain.

Invariants:

* `active` is False exactly when no fault is set: all that traffic without faults pays is to look;
* a fault counts each message at most once at each end, and one that a cut stopped at the sender
  never reaches the receiver, so the sum over all nodes is the number of messages touched.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from typing import Generic, TypeVar

import msgspec

from kvctl_node.errors import InvalidRequestError
from kvctl_node.protocol.link_fault import FAULTS_MAX, LinkFault

Message = TypeVar("Message")


class ActiveFault:
    """A fault in force and how often it hit something."""

    __slots__ = ("fault", "hits")

    def __init__(self, fault: LinkFault) -> None:
        self.fault = fault
        self.hits = fault.hits

    def report(self) -> LinkFault:
        """The fault as it stands."""
        return msgspec.structs.replace(self.fault, hits=self.hits)


class Departures(Generic[Message]):
    """What becomes of the messages of one turn to one peer."""

    __slots__ = ("at_once", "delayed", "lost")

    def __init__(self) -> None:
        self.at_once: list[Message] = []
        self.delayed: dict[int, list[Message]] = {}
        """Milliseconds to wait → messages, in their order."""
        self.lost = 0


class LinkFaults:
    """The faults in force at one node, by link."""

    def __init__(self, node: str, rng: random.Random) -> None:
        self.active = False
        """Whether there is any fault at all: the one question the hot path asks."""
        self._node = node
        self._rng = rng
        self._by_id: dict[str, ActiveFault] = {}
        self._outgoing: dict[str, list[ActiveFault]] = {}
        """Peer → faults on the link from here to it, in the order they were set."""
        self._cut_incoming: dict[str, list[ActiveFault]] = {}
        """Peer → faults that cut the link from it to here."""

    # ------------------------------------------------------------ setting

    def set(self, fault: LinkFault) -> None:
        """Put a fault in force; one of the same id is replaced.

        Raises `InvalidRequestError` beyond `FAULTS_MAX`.
        """
        if fault.id not in self._by_id and len(self._by_id) >= FAULTS_MAX:
            raise InvalidRequestError(
                f"{self._node} already has {FAULTS_MAX} faults.", hint="kvctl heal lifts them."
            )
        self._by_id[fault.id] = ActiveFault(fault)
        self._index()

    def lift(self, fault_id: str) -> LinkFault | None:
        """End a fault; its last report, None if there was none of that id."""
        ended = self._by_id.pop(fault_id, None)
        self._index()
        return None if ended is None else ended.report()

    def _index(self) -> None:
        self._outgoing, self._cut_incoming = {}, {}
        for active in self._by_id.values():
            for sender, receiver in dict.fromkeys(active.fault.links):
                if sender == self._node:
                    self._outgoing.setdefault(receiver, []).append(active)
                elif receiver == self._node and active.fault.drop:
                    self._cut_incoming.setdefault(sender, []).append(active)
        self.active = bool(self._by_id)

    # ------------------------------------------------------------ asking

    def reports(self) -> list[LinkFault]:
        """Every fault in force, with its hits, in the order they were set."""
        return [active.report() for active in self._by_id.values()]

    def find(self, fault_id: str) -> LinkFault | None:
        """The fault of that id, None if there is none."""
        active = self._by_id.get(fault_id)
        return None if active is None else active.report()

    def next_expiry_ms(self) -> int | None:
        """The wall-clock time at which the next fault expires, None if none does."""
        due = [it.fault.expires_ms for it in self._by_id.values() if it.fault.expires_ms]
        return min(due, default=None)

    def expired(self, wall_ms: int) -> list[str]:
        """Ids of the faults whose time is over."""
        return [
            fault_id
            for fault_id, active in self._by_id.items()
            if active.fault.expires_ms is not None and active.fault.expires_ms <= wall_ms
        ]

    def cut_peers(self) -> list[str]:
        """Peers with whom nothing can be exchanged in at least one direction, sorted."""
        cut = {
            peer for peer, faults in self._outgoing.items() if any(it.fault.cuts for it in faults)
        }
        return sorted(cut.union(self._cut_incoming))

    # ------------------------------------------------------------ messages

    def outgoing(self, peer: str, messages: Sequence[Message]) -> Departures[Message] | None:
        """What becomes of messages to a peer; None: nothing special, send them."""
        faults = self._outgoing.get(peer)
        if faults is None:
            return None
        departures: Departures[Message] = Departures()
        if _stopped(faults, len(messages)):
            departures.lost = len(messages)
            return departures
        for message in messages:
            waits_ms = self._fate(faults)
            if not waits_ms:
                departures.lost += 1
            for wait_ms in waits_ms:
                if wait_ms:
                    departures.delayed.setdefault(wait_ms, []).append(message)
                else:
                    departures.at_once.append(message)
        return departures

    def stops(self, peer: str, messages: int) -> bool:
        """Whether a cut stops messages to a peer now, when their delay is over; counts them."""
        return _stopped(self._outgoing.get(peer, ()), messages)

    def refuses(self, peer: str, messages: int) -> bool:
        """Whether the link from a peer to here is cut; counts the messages that arrived."""
        return _stopped(self._cut_incoming.get(peer, ()), messages)

    def _fate(self, faults: Iterable[ActiveFault]) -> list[int]:
        """How long each copy of a message waits, in ms; no copy: it is lost."""
        rng = self._rng
        for active in faults:
            if active.fault.loss and rng.random() < active.fault.loss:
                active.hits += 1
                return []
        waits_ms = [0]
        for active in faults:
            fault = active.fault
            touched = bool(fault.delay_ms)
            if fault.duplicate and rng.random() < fault.duplicate:
                waits_ms.append(waits_ms[0])
                touched = True
            if fault.delay_ms:
                waits_ms = [wait_ms + self._delay_ms(fault) for wait_ms in waits_ms]
            active.hits += touched
        return waits_ms

    def _delay_ms(self, fault: LinkFault) -> int:
        if not fault.jitter_ms:
            return fault.delay_ms
        return fault.delay_ms + self._rng.randint(-fault.jitter_ms, fault.jitter_ms)


def _stopped(faults: Iterable[ActiveFault], messages: int) -> bool:
    """Whether one of the faults is a cut; each that is counts the messages."""
    stopped = False
    for active in faults:
        if active.fault.drop:
            active.hits += messages
            stopped = True
    return stopped
