"""The loop that moves requests: send what is queued, wait once, take in every answer, sweep.

One pass (`turn`):

1. `flush`: everything queued for a node leaves in one frame, unless it had better gather;
2. poll all sockets once;
3. drain every socket that has something; an answer finishes its request;
4. monitors: a broken connection gives back what it had, unsent requests as they were, sent ones
   as attempts without an answer;
5. a few times a second, a sweep over all requests instead of a timer for each: deadlines, nodes
   that stay silent, connections that do not come about, and in long-lived use the `upkeep`. What
   was gathered leaves then at the latest.

Nothing happens between passes: the loop runs while somebody waits (`wait`) or submits into a full
batch. It belongs to one thread.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable

import msgspec
import zmq

from kvctl.client.client_clock import ClientClock, monotonic
from kvctl.client.connection import Connection, ConnectionState, Credentials
from kvctl.client.request import (
    Pending,
    error_of_refusal,
    error_of_silence,
    may_try_another,
    plan_attempt,
)
from kvctl.client.routing import CONNECT_PATIENCE_S, Router
from kvctl.client.upkeep import Upkeep
from kvctl_node.config import ClusterConfig
from kvctl_node.errors import ConfigError, InvalidRequestError, ProtocolError, StoreError
from kvctl_node.protocol.client_messages import (
    ClientPut,
    ClientReply,
    Failed,
    PutsDone,
)
from kvctl_node.protocol.codec import decode_replies

SWEEP_INTERVAL_S = 0.05
REFUSALS_MAX = 5
"""So many nodes may refuse a request before the refusal is final."""

# Plain integers: comparing with a member of an enum costs as much as a frame does.
_NOBLOCK, _EVENTS = int(zmq.NOBLOCK), int(zmq.EVENTS)
_POLLIN, _POLLOUT = int(zmq.POLLIN), int(zmq.POLLOUT)


class RequestLoop:
    """All connections of one client, and all its requests in flight."""

    def __init__(self, config: ClusterConfig, credentials: Credentials) -> None:
        self.cluster_id = config.cluster_id
        self._skew_s = config.timing.clock_skew_ms / 1000
        self.clock = ClientClock(skew_s=self._skew_s)
        self._frame_bytes_max = config.limits.frame_bytes_max // 2
        self._credentials = credentials
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._poller = zmq.Poller()
        self._by_socket: dict[object, Connection] = {}
        self._in_flight: dict[int, Pending] = {}
        self._settled: deque[Pending] = deque()
        """Finished requests whose callbacks wait for the end of the pass."""
        self._last_id = 0
        self._sweep_at = 0.0
        self._turning = False
        self._closed = False
        self.router = Router(random.Random())
        self.upkeep = Upkeep(self)
        """The map, and nodes that are gone or silent; for long-lived use."""
        for spec in config.nodes:
            self.add_connection(spec.name, spec.client_endpoint)

    # ------------------------------------------------------------ for the client and batches

    def next_id(self) -> int:
        """A number for the next request: its wire id and its sequence."""
        self._last_id += 1
        return self._last_id

    def submit(self, pending: Pending) -> None:
        """Send the request in the next pass. It may fail at once, if nobody can be asked."""
        if self._closed:
            raise InvalidRequestError("the client is closed.", hint="connect again.")
        number = pending.request.id
        self._in_flight[number] = pending
        if pending.via is None:
            connection = self.router.quick(pending, number)
            if connection is not None:
                pending.connection = connection
                connection.unsent.append(pending)
                return
        self._assign(pending, pending.started_at)

    def wait(self, pending: Pending) -> None:
        """Turn until `pending` is done. Not from within a callback."""
        while not pending.done:
            self.turn()

    def turn(self) -> None:
        """One pass; blocks until something arrives or the next sweep is due."""
        if self._turning:
            raise InvalidRequestError(
                "a callback cannot wait for another request.",
                hint="submit from a callback, and wait outside of it.",
            )
        self._turning = True
        try:
            self._turn()
        finally:
            self._turning = False

    def catch_up(self) -> None:
        """Notice what happened while nobody turned the loop, above all connections that closed: a
        node that was restarted meanwhile is asked anew, not taken for gone. Does not block.
        """
        if self._by_socket and not self._turning:
            self._sweep_at = 0.0
            self.turn()

    def abandon(self, settled_by: Callable[[Pending], None]) -> None:
        """Forget the requests of a batch that nobody waits for any more; answers are ignored."""
        for pending in list(self._in_flight.values()):
            if pending.on_settled == settled_by:
                del self._in_flight[pending.request.id]
                self._take_back(pending)

    def add_connection(self, name: str, endpoint: str) -> None:
        """Know a node, without connecting to it yet."""
        self.router.connections[name] = Connection(
            name, endpoint, self._context, self._credentials, self._frame_bytes_max
        )

    def open(self, connection: Connection, now: float) -> bool:
        """Begin to connect; False when that is not possible, because a key is missing."""
        try:
            connection.open(now)
        except ConfigError:
            connection.close(now, "has no readable key here")
            return False
        self._poller.register(connection.socket, zmq.POLLIN | zmq.POLLOUT)
        self._poller.register(connection.monitor, zmq.POLLIN)
        self._by_socket[connection.socket] = connection
        self._by_socket[connection.monitor] = connection
        return True

    def close(self) -> None:
        """Close all sockets. Requests in flight stay unanswered. Idempotent."""
        if self._closed:
            return
        self._closed = True
        now = monotonic()
        for connection in self.router.connections.values():
            connection.close(now)
        self._context.term()

    # ------------------------------------------------------------ one pass

    def _turn(self) -> None:
        if self.router.wanted:
            self._connect_wanted()
        self.router.note_crowds()
        for one in self.router.connections.values():
            if one.unsent and one.state is ConnectionState.READY and not one.gathers:
                self._flush(one)
        wait_s = self._sweep_at - monotonic()
        wait_ms = 0 if wait_s <= 0 or self._settled else int(wait_s * 1000) + 1
        events = self._poller.poll(wait_ms)
        now = monotonic()
        changed: list[Connection] = []
        for socket, flags in events:
            connection = self._by_socket.get(socket)
            if connection is None:
                continue  # broke a moment ago, in this very pass
            if socket is connection.monitor:
                changed.append(connection)
                continue
            if flags & _POLLOUT:
                self._on_writable(connection, now)
            if flags & _POLLIN:
                self._drain(connection, now)
        for connection in changed:
            failure = connection.read_monitor()
            if failure:
                self._drain(connection, now)
                self._break(connection, failure, now)
        if now >= self._sweep_at:
            self._sweep(now)
            self._sweep_at = now + SWEEP_INTERVAL_S
        self._call_back()

    def _call_back(self) -> None:
        """Last in a pass, so that a callback that raises leaves nothing half done."""
        settled = self._settled
        while settled:
            pending = settled.popleft()
            if pending.on_settled is not None:
                pending.on_settled(pending)
            if pending.on_done is not None:
                pending.on_done(pending)

    def _flush(self, connection: Connection) -> None:
        if not connection.flush():
            # The other side is gone (its monitor will say so) or its buffers are full.
            self._poller.modify(connection.socket, zmq.POLLIN | zmq.POLLOUT)

    def _on_writable(self, connection: Connection, now: float) -> None:
        """The handshake is done, or there is room again."""
        self._poller.modify(connection.socket, zmq.POLLIN)
        if connection.state is ConnectionState.CONNECTING:
            connection.ready(now)
            self.router.forget_health()
        self._flush(connection)

    def _drain(self, connection: Connection, now: float) -> None:
        """Take in what has come. HOT PATH."""
        while (socket := connection.socket) is not None and int(socket.get(_EVENTS)) & _POLLIN:
            data = socket.recv(_NOBLOCK)
            if connection.silent:
                connection.silent = False
                self.router.forget_health()
            try:
                replies = decode_replies(data)
            except ProtocolError:
                self._break(connection, "sent something that is not an answer", now)
                return
            answers = sum([len(one.ids) if isinstance(one, PutsDone) else 1 for one in replies])
            # Not below zero: an answer to an attempt that was given up is counted off already.
            connection.under_way = max(0, connection.under_way - answers)
            for reply in replies:
                if isinstance(reply, PutsDone):
                    for number in reply.ids:
                        self._take(connection, number, reply.done, now)
                else:
                    self._take(connection, reply.id, reply, now)

    def _take(self, connection: Connection, number: int, reply: ClientReply, now: float) -> None:
        """Take in the reply to one request. HOT PATH."""
        pending = self._in_flight.get(number)
        if pending is None:
            return  # the answer to an attempt that was given up; the request is finished
        if type(reply) in pending.answer:
            pending.reply = reply
            self._finish(pending, now)
        elif type(reply) is not Failed:
            self._break(connection, "sent an answer of another kind", now)
        elif connection is pending.connection:
            # By a node that is no longer waited for it would say nothing about the others.
            self._on_failed(pending, reply, now)

    def _on_failed(self, pending: Pending, failed: Failed, now: float) -> None:
        if failed.wall_ms and self._was_wrong(pending, failed.wall_ms):
            self._assign(pending, now)
        elif (
            may_try_another(failed)
            and len(pending.avoided) < REFUSALS_MAX - 1
            and self.router.others_left(pending)
        ):
            assert pending.connection is not None
            pending.refusal = failed
            pending.avoided = (*pending.avoided, pending.connection)
            self._assign(pending, now)
        else:
            self._fail(pending, error_of_refusal(pending, failed), now)

    def _was_wrong(self, pending: Pending, wall_ms: int) -> bool:
        """Whether a request was refused for a wrong clock here, and not for its age.

        What is under way is stamped again then, for its next attempt.
        """
        wrong_s = self.clock.learn(wall_ms)
        if wrong_s:
            for each in self._in_flight.values():
                each.shift_clock(int(wrong_s * 1000))
        return pending.fits(wall_ms, skew_ms=int(self._skew_s * 1000))

    def _finish(self, pending: Pending, now: float) -> None:
        del self._in_flight[pending.request.id]
        pending.done = True
        pending.finished_at = now
        if pending.on_settled is not None or pending.on_done is not None:
            self._settled.append(pending)

    def _fail(self, pending: Pending, error: StoreError, now: float) -> None:
        pending.error = error
        self._finish(pending, now)

    # ------------------------------------------------------------ choosing and losing nodes

    def _assign(self, pending: Pending, now: float) -> None:
        """Queue the request at the best node there is; fail it if none will ever do."""
        connection = self.router.choose(pending, now)
        while connection is not None and connection.socket is None:
            if self.open(connection, now):
                break
            connection = self.router.choose(pending, now)
        pending.connection = connection
        if connection is None:
            self._without_node(pending, now)
            return
        self._plan_attempt(pending, now)
        connection.unsent.append(pending)

    def _plan_attempt(self, pending: Pending, now: float) -> None:
        """Give the attempt that begins now its share of the time that is left."""
        attempt_s, node_s = plan_attempt(
            pending.deadline - now, writes=pending.writes, skew_s=self._skew_s
        )
        pending.attempt_ends = now + attempt_s
        if isinstance(pending.request, ClientPut):
            pending.request = msgspec.structs.replace(
                pending.request, deadline_ms=int((self.clock.wall_s() + node_s) * 1000)
            )

    def _without_node(self, pending: Pending, now: float) -> None:
        """Nobody is left to ask. A put that may have been applied waits for a node to come back
        until its deadline, because its answer is worth having; anything else ends here.
        """
        worth_waiting = pending.writes and pending.uncertain and pending.refusal is None
        if not worth_waiting:
            circumstances = self.router.circumstances(pending)
            self._fail(pending, error_of_silence(pending, False, circumstances), now)

    def _break(self, connection: Connection, failure: str, now: float) -> None:
        """The connection is gone: requests it had not taken are as good as new, those it had are
        attempts without an answer."""
        if connection.socket is None:
            return
        for socket in (connection.socket, connection.monitor):
            self._poller.unregister(socket)
            del self._by_socket[socket]
        unsent = connection.unsent
        connection.unsent = []
        connection.close(now, failure)
        self.router.forget_health()
        self.upkeep.on_broken(now)
        fresh = {pending.request.id for pending in unsent}
        lost = [one for one in self._in_flight.values() if one.connection is connection]
        for pending in lost:
            if pending.done:
                continue
            if pending.request.id not in fresh:
                pending.give_up_attempt()
            self._assign(pending, now)

    def _connect_wanted(self) -> None:
        now = monotonic()
        for connection in self.router.wanted:
            if connection.state is ConnectionState.IDLE:
                self.open(connection, now)
        self.router.wanted.clear()

    # ------------------------------------------------------------ the sweep

    def _sweep(self, now: float) -> None:
        self.router.count_under_way(self._in_flight.values())
        for pending in list(self._in_flight.values()):
            if pending.done:
                continue
            if now >= pending.deadline:
                self._on_deadline(pending, now)
            elif pending.connection is None:
                self._assign(pending, now)
            elif now >= pending.attempt_ends:
                self._on_attempt_over(pending, now)
        for connection in list(self.router.connections.values()):
            if (
                connection.unsent
                and connection.state is ConnectionState.CONNECTING
                and now - connection.changed_at >= CONNECT_PATIENCE_S
            ):
                self._move_unsent(connection, now)
            if connection.unsent and connection.state is ConnectionState.READY:
                self._flush(connection)
        self.upkeep.on_sweep(now)

    def _on_deadline(self, pending: Pending, now: float) -> None:
        connection = pending.connection
        sent = connection is not None and not self._take_back(pending)
        if sent and connection is not None:
            self._note_silence(connection)
        error = error_of_silence(pending, sent, self.router.circumstances(pending))
        self._fail(pending, error, now)

    def _on_attempt_over(self, pending: Pending, now: float) -> None:
        """The node had its part of the time: ask another one, if there is one."""
        connection = pending.connection
        assert connection is not None
        if pending in connection.unsent:
            # The connection does not come about; `_move_unsent` looks for another one.
            self._plan_attempt(pending, now)
            return
        self._note_silence(connection)
        other = self.router.choose(pending, now, besides=connection)
        if other is None and not pending.writes:
            pending.attempt_ends = pending.deadline
            return
        # A put without another node goes to the same one again: its last attempt has expired.
        pending.give_up_attempt()
        if other is not None:
            pending.avoided = (*pending.avoided, connection)
        self._assign(pending, now)

    def _note_silence(self, connection: Connection) -> None:
        if connection.state is ConnectionState.READY and not connection.silent:
            connection.silent = True
            self.router.forget_health()

    def _move_unsent(self, connection: Connection, now: float) -> None:
        for pending in list(connection.unsent):
            if self.router.better_than_waiting(pending, now) is not None:
                connection.unsent.remove(pending)
                self._assign(pending, now)

    def _take_back(self, pending: Pending) -> bool:
        """Remove the request from its connection's queue; False if it was sent already."""
        connection = pending.connection
        if connection is None or pending not in connection.unsent:
            return False
        connection.unsent.remove(pending)
        return True
