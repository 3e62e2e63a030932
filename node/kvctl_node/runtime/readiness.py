"""Waiting for many ZeroMQ sockets and descriptors at the price of one system call.

`zmq.Poller` asks every socket how it is, before it waits and after: a system call each, most of
them about sockets on which nothing ever happens, such as monitors. This waits on the sockets'
descriptors (ZMQ_FD) alone. Such a descriptor becomes readable when a socket's I/O thread has told
it something, most often that a message came; and it is *edge-triggered*: what the socket has been
told is taken in with the next call on it, whatever that call was for, and then the descriptor is
silent about it. So there are two duties:

* whoever takes messages from a socket goes on until it has no more, or says `ask_again`;
* whoever sends through a socket that also receives says `ask_again`, too.

A descriptor that is readable does not promise a message.
"""

from __future__ import annotations

import select

import zmq

# Plain integers: combining two members of an enum costs as much as receiving a frame.
_EVENTS, _ZMQ_POLLIN = int(zmq.EVENTS), int(zmq.POLLIN)


class Readiness:
    """What there is to read. Everything is known by its descriptor."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._sockets: dict[int, zmq.Socket[bytes]] = {}
        self._doubtful: set[int] = set()
        """Sockets whose descriptor may be silent though messages wait."""

    def add_socket(self, socket: zmq.Socket[bytes]) -> int:
        """Watch a socket; its descriptor, by which `wait` speaks of it."""
        descriptor = int(socket.getsockopt(zmq.FD))
        self._poll.register(descriptor, select.POLLIN)
        self._sockets[descriptor] = socket
        self._doubtful.add(descriptor)
        return descriptor

    def add(self, descriptor: int) -> None:
        """Watch a descriptor that is no socket's."""
        self._poll.register(descriptor, select.POLLIN)

    def remove(self, descriptor: int) -> None:
        """Watch it no longer."""
        self._poll.unregister(descriptor)
        self._sockets.pop(descriptor, None)
        self._doubtful.discard(descriptor)

    def ask_again(self, descriptor: int) -> None:
        """Before waiting, ask this socket, if it is watched, whether a message waits."""
        if descriptor in self._sockets:
            self._doubtful.add(descriptor)

    def wait(self, timeout_ms: int) -> set[int]:
        """Descriptors of all on which something may wait; empty if the time passed before."""
        ready: set[int] = set()
        if self._doubtful:
            for descriptor in self._doubtful:
                if int(self._sockets[descriptor].get(_EVENTS)) & _ZMQ_POLLIN:
                    ready.add(descriptor)
            self._doubtful.clear()
        for descriptor, _ in self._poll.poll(0 if ready else timeout_ms):
            ready.add(descriptor)
        return ready
