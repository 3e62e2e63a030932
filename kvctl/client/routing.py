"""Which node to ask: any that answers, and better an owner of the key.

Any node coordinates any request, so a wrong choice costs a hop and never a wrong answer. A one-shot
client knows no map and asks a random member. A client that lives longer knows the partition map:
puts go to the key's first healthy owner, gets are spread over its healthy owners. With many
requests in flight, one goes to the owner where least waits if far more does at the one that it
would go to: a node that is busy with a flush, or was paused, would else hold nearly all of them
before long. Only an overwrite stays: two of one key that are under way together meet at one node,
and leave one value; at two they might leave siblings.

`quick` is the path of a healthy cluster: one hash and one list index. `choose` weighs what is left:
nodes that are connected, then ones to connect to, then those that failed a while ago.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from random import Random
from typing import TYPE_CHECKING

from kvctl.client.connection import Connection, ConnectionState
from kvctl.client.request import Pending
from kvctl_node.protocol.client_messages import ClientPut, PutKind

if TYPE_CHECKING:
    from kvctl.client.cluster_map import ClusterMap

CONNECT_PATIENCE_S = 0.25
"""A connection not made after this long is worth less than another (RFC 8305 waits as long)."""
RECONNECT_AFTER_S = 0.25
"""A node that failed during a request is asked again by that request after this long."""
CROWDED_FROM = 32
"""With fewer requests than this a node is never too busy for the next one..."""
CROWDED_FACTOR = 2
"""...and with more it is if it has so many times what the least busy node has."""

_OVERWRITE = int(PutKind.OVERWRITE)
_HEALTHY, _TO_CONNECT, _FAILED_BEFORE, _STUCK, _SILENT = range(5)


class Router:
    """Chooses connections; opens none."""

    def __init__(self, rng: Random) -> None:
        self.connections: dict[str, Connection] = {}
        self.map: ClusterMap | None = None
        self._rng = rng
        self._partition_of: Callable[[bytes], int] | None = None
        self._healthy_owners: list[tuple[Connection, ...] | None] = []
        self.wanted: set[Connection] = set()
        """Owners that requests were routed around because they are not connected."""

    def set_map(self, known: ClusterMap) -> None:
        """Route by this map from now on."""
        self.map = known
        self._partition_of = known.ring.partition_of
        self.forget_health()

    def forget_health(self) -> None:
        """To be called whenever a connection's health changed."""
        if self.map is not None:
            self._healthy_owners = [None] * len(self.map.ring.owners)

    def quick(self, pending: Pending, rotation: int) -> Connection | None:
        """A healthy owner of the key; None if there is none or no map. HOT PATH.

        `rotation`: any number that differs from request to request.
        """
        if self._partition_of is None:
            return None
        partition = self._partition_of(pending.key)
        owners = self._healthy_owners[partition]
        if owners is None:
            owners = self._find_healthy_owners(partition)
        if not owners:
            return None
        owner = owners[0] if pending.writes else owners[rotation % len(owners)]
        if owner.crowded and _may_move(pending):
            return min(owners, key=_outstanding_at)
        return owner

    def choose(
        self, pending: Pending, now: float, *, besides: Connection | None = None
    ) -> Connection | None:
        """The best node that may still be asked, None if there is none at the moment."""
        best: Connection | None = None
        best_rank = _SILENT + 1
        for connection in self._candidates(pending):
            if connection in pending.avoided or connection is besides:
                continue
            rank = _rank(connection, pending, now)
            if rank is not None and rank < best_rank:
                best, best_rank = connection, rank
        return best

    def better_than_waiting(self, pending: Pending, now: float) -> Connection | None:
        """Another node for a request whose connection does not come about; None: stay."""
        other = self.choose(pending, now, besides=pending.connection)
        if other is None:
            return None
        rank = _rank(other, pending, now)
        return other if rank is not None and rank < _STUCK else None

    def others_left(self, pending: Pending) -> bool:
        """Whether a node is left that this request did not try."""
        return any(
            connection is not pending.connection and connection not in pending.avoided
            for connection in self._candidates(pending)
        )

    def count_under_way(self, in_flight: Iterable[Pending]) -> None:
        """Set each connection's count of requests that were sent and not answered."""
        counts = Counter(pending.connection for pending in in_flight)
        for connection in self.connections.values():
            connection.under_way = counts[connection] - len(connection.unsent)

    def note_crowds(self) -> None:
        """Find out where so much waits that other owners are better asked: once in a pass."""
        counts = [(one.outstanding, one) for one in self.connections.values() if one.healthy]
        if counts:
            least = min([count for count, _ in counts])
            crowded_from = max(CROWDED_FROM, CROWDED_FACTOR * least)
            for count, one in counts:
                one.crowded = count >= crowded_from

    def circumstances(self, pending: Pending) -> str:
        """What each node that could have been asked did, for an error's sentence."""
        return ", ".join(_describe(connection) for connection in self._in_order(pending))

    def _in_order(self, pending: Pending) -> Iterable[Connection]:
        return sorted(self._candidates(pending), key=_by_name)

    def _candidates(self, pending: Pending) -> list[Connection]:
        """Who may be asked at all, owners first, everybody else in random order."""
        if pending.via is not None:
            only = self.connections.get(pending.via)
            return [] if only is None else [only]
        owners: list[Connection] = []
        if self.map is not None and pending.key:
            owners = [
                self.connections[name]
                for name in self.map.owners_of(pending.key)
                if name in self.connections
            ]
        others = [one for one in self.connections.values() if one not in owners]
        self._rng.shuffle(others)
        return owners + others

    def _find_healthy_owners(self, partition: int) -> tuple[Connection, ...]:
        assert self.map is not None
        healthy: list[Connection] = []
        for name in self.map.ring.owners_of(partition):
            connection = self.connections.get(name)
            if connection is None:
                continue
            if connection.healthy:
                healthy.append(connection)
            elif connection.state is ConnectionState.IDLE:
                self.wanted.add(connection)
        self._healthy_owners[partition] = found = tuple(healthy)
        return found


def _rank(connection: Connection, pending: Pending, now: float) -> int | None:
    """How good an idea it is to ask this node; None: none at all, for this request, for now."""
    state = connection.state
    if state is ConnectionState.READY:
        return _SILENT if connection.silent else _HEALTHY
    if state is ConnectionState.IDLE:
        return _TO_CONNECT
    age_s = now - connection.changed_at
    if state is ConnectionState.CONNECTING:
        return _TO_CONNECT if age_s < CONNECT_PATIENCE_S else _STUCK
    failed_before = connection.changed_at < pending.started_at
    return _FAILED_BEFORE if failed_before or age_s >= RECONNECT_AFTER_S else None


def _may_move(pending: Pending) -> bool:
    """Whether any owner serves the request as well as its usual one."""
    request = pending.request
    return not isinstance(request, ClientPut) or request.kind != _OVERWRITE


def _outstanding_at(connection: Connection) -> int:
    return connection.outstanding


def _describe(connection: Connection) -> str:
    if connection.state is ConnectionState.BROKEN:
        return f"{connection.name} {connection.failure}"
    if connection.state is ConnectionState.CONNECTING:
        return f"{connection.name} does not complete the connection"
    return f"{connection.name} {'did not answer' if connection.silent else 'is connected'}"


def _by_name(connection: Connection) -> str:
    return connection.name
