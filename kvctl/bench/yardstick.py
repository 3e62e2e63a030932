"""What this machine's sockets and this Python can do, with no store behind them.

A bare echo between two processes over TCP loopback: a ROUTER that sends back what it gets, a
DEALER that keeps 64 messages of 150 bytes in flight, and then one. No CURVE, no codec, one message
a frame; each side waits in a `zmq.Poller` and drains its socket. Operations per second divided by
echoes per second say something about the store; operations per second alone say something about
the machine, too.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from typing import NamedTuple

import zmq

from kvctl.errors import KvctlError

MESSAGE_BYTES = 150
IN_FLIGHT = 64
_PATIENCE_MS = 5_000
"""Nothing for so long means that the other process is gone."""


class Yardstick(NamedTuple):
    """The result of `measure_echo`."""

    echo_per_s: float
    """Echoes per second with 64 in flight."""
    echo_ms: float
    """Median round trip with one in flight."""

    def mean_with(self, other: Yardstick) -> Yardstick:
        """The mean of two measurements."""
        return Yardstick(
            (self.echo_per_s + other.echo_per_s) / 2, (self.echo_ms + other.echo_ms) / 2
        )


def measure_echo(seconds: float = 1.0) -> Yardstick:
    """Start an echo process and measure it for `seconds` at each depth. Raises `KvctlError`."""
    server = subprocess.Popen(
        [sys.executable, "-P", "-m", "kvctl.bench.yardstick"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise KvctlError("the echo process of the yardstick did not start.")
        return _measure(f"tcp://127.0.0.1:{port}", seconds)
    finally:
        server.kill()
        server.communicate()


def _measure(endpoint: str, seconds: float) -> Yardstick:
    with zmq.Context() as context, context.socket(zmq.DEALER) as socket:
        socket.linger = 0
        socket.connect(endpoint)
        _exchange(socket, IN_FLIGHT, min(0.2, seconds))  # connects and warms up
        began = time.perf_counter()
        echoes = len(_exchange(socket, IN_FLIGHT, seconds))
        per_s = echoes / (time.perf_counter() - began)
        round_trips_s = _exchange(socket, 1, seconds)
        return Yardstick(per_s, statistics.median(round_trips_s) * 1000)


def _exchange(socket: zmq.Socket[bytes], in_flight: int, seconds: float) -> list[float]:
    """Keep `in_flight` messages going for a while and take them all back; seconds since the answer
    before, for each answer: its round trip when there is one in flight."""
    message = b"x" * MESSAGE_BYTES
    poller = zmq.Poller()
    poller.register(socket, zmq.POLLIN)
    before = time.perf_counter()
    ends = before + seconds
    intervals_s: list[float] = []
    outstanding = in_flight
    for _ in range(in_flight):
        socket.send(message)
    while outstanding:
        if not poller.poll(_PATIENCE_MS):
            raise KvctlError("the echo process of the yardstick stopped answering.")
        while outstanding:
            try:
                socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                break
            now = time.perf_counter()
            intervals_s.append(now - before)
            before = now
            if now < ends:
                socket.send(message)
            else:
                outstanding -= 1
    return intervals_s


def serve_echo() -> None:
    """The other process: print the port, echo until killed or until nobody asks any more."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.linger = 0
        port = socket.bind_to_random_port("tcp://127.0.0.1")
        sys.stdout.write(f"{port}\n")
        sys.stdout.flush()
        poller = zmq.Poller()
        poller.register(socket, zmq.POLLIN)
        while poller.poll(_PATIENCE_MS):
            while True:
                try:
                    frames = socket.recv_multipart(zmq.NOBLOCK)
                except zmq.Again:
                    break
                socket.send_multipart(frames)


if __name__ == "__main__":
    serve_echo()
