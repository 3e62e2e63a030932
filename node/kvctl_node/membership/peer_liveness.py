"""Which peers this node can reach, from first-hand evidence only: a probe that was answered.

    disconnected ──connection opens──▶ unproven ──answer──▶ reachable
         ▲                                ▲                     │
         └──── connection closes ─────────┴── no answer in time ┘

A link is dead when its connection is closed (a killed process closes its sockets at once) or when a
probe stays unanswered for `link_dead_after_ms` (a paused process keeps its sockets open, and a link
may be cut without a word). It is alive again with the next direct answer, to a probe sent since.
Merely hearing from a peer proves one direction; only an answer proves both, so a link that is cut
one way is dead for both ends. A coordinator asks here *before* it stores anything, so that a write
that cannot reach W replicas is refused while refusing still means "definitely not stored".

Probes are sent by `membership`; this class keeps the evidence.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvctl_node.ports import Instant


class PeerLiveness:
    """First-hand liveness of every peer. All times in seconds of the monotonic clock."""

    def __init__(self, peers: Iterable[str], *, dead_after_ms: int) -> None:
        self.peers: tuple[str, ...] = tuple(peers)
        self._dead_after_s = dead_after_ms / 1000
        self._heard_s: dict[str, float] = {}
        self.connected: set[str] = set()
        """Peers with an open connection from here to them."""
        self.reachable: set[str] = set()
        """Peers believed reachable now; read on every request."""
        self.owed_s: dict[str, float] = {}
        """Connected peer → since when it owes an answer (its first unanswered probe)."""
        self._probed_s: dict[str, float] = {}
        """Peer → when it was last probed."""
        self._proof: dict[str, int] = {}
        """Peer → the least sequence number whose answer proves anything."""

    def set_peers(self, peers: Iterable[str]) -> None:
        """The ring has other members now; evidence about those that left is forgotten.

        Connections stay known: a peer may connect before the ring names it.
        """
        self.peers = tuple(peers)
        known = set(self.peers)
        self.reachable &= known
        for times in (self._heard_s, self.owed_s, self._probed_s):
            for gone in times.keys() - known:
                del times[gone]
        for gone in self._proof.keys() - known:
            del self._proof[gone]

    # ------------------------------------------------------------ evidence

    def on_link(self, peer: str, connected: bool, now: Instant) -> bool:
        """The connection was opened or lost; True if the peer was reachable until now."""
        self.owed_s.pop(peer, None)
        if connected:
            self.connected.add(peer)
        else:
            self.connected.discard(peer)
        was_reachable = peer in self.reachable
        self.reachable.discard(peer)
        return was_reachable

    def on_heard(self, peer: str, now: Instant) -> None:
        """A message arrived from the peer: a sign of life, no proof of reachability."""
        self._heard_s[peer] = now.monotonic_s

    def on_probe(self, peer: str, sequence: int, now: Instant) -> None:
        """A probe is being sent. Sequence numbers rise and are never used again."""
        self._probed_s[peer] = now.monotonic_s
        if peer in self.connected:
            self.owed_s.setdefault(peer, now.monotonic_s)
        if peer not in self.reachable:
            self._proof.setdefault(peer, sequence)

    def on_answer(self, peer: str, sequence: int, now: Instant) -> bool:
        """The peer answered a probe; True if that made it reachable again.

        While our own connection to it is down there is no way to send it anything more. An answer
        to a probe from before it became unreachable proves nothing about now.
        """
        if peer in self.reachable:
            self.owed_s.pop(peer, None)
            return False
        if peer not in self.connected or sequence < self._proof.get(peer, sequence + 1):
            return False
        self.owed_s.pop(peer, None)
        self._proof.pop(peer, None)
        self.reachable.add(peer)
        return True

    # ------------------------------------------------------------ judgement

    def overdue(self, now: Instant) -> list[str]:
        """Peers that just became unreachable because they owe an answer for too long."""
        oldest_s = now.monotonic_s - self._dead_after_s
        silent = [
            peer
            for peer, since_s in self.owed_s.items()
            if since_s <= oldest_s and peer in self.reachable
        ]
        self.reachable.difference_update(silent)
        return silent

    def distrust(self, peer: str) -> bool:
        """Demand a new answer before the peer counts as reachable; True if it did until now."""
        if peer not in self.reachable:
            return False
        self.reachable.remove(peer)
        return True

    def forgive(self, now: Instant) -> None:
        """This node was stalled itself: what it missed is not held against its peers."""
        for peer in self.owed_s:
            self.owed_s[peer] = now.monotonic_s

    def wants_probe(self, peer: str, now: Instant, *, pause_s: float) -> bool:
        """Whether the last probe of a connected peer was at least `pause_s` ago."""
        if peer not in self.connected:
            return False
        probed_s = self._probed_s.get(peer)
        return probed_s is None or now.monotonic_s - probed_s >= pause_s

    def heard_ms(self, peer: str, now: Instant) -> int | None:
        """Milliseconds since the peer was last heard, None if never."""
        heard_s = self._heard_s.get(peer)
        return None if heard_s is None else int((now.monotonic_s - heard_s) * 1000)

    def check_invariants(self) -> None:
        """Assert that belief follows from evidence."""
        assert self.reachable <= self.connected & set(self.peers)
        assert set(self.owed_s) <= self.connected
        assert self.reachable.isdisjoint(self._proof), "a reachable peer owes no proof"
