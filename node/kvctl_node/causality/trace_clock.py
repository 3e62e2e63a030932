"""A trace clock: the vector clock of a node's events, which travels on every peer frame.

Every event of a node is stamped with {node: number of its events known here}, itself included. One
event led to another, possibly, exactly if its clock is nowhere greater; two events neither of which
did are concurrent, whatever the wall clocks said. The dashboard draws its arrows from this, and the
format is that of ShiViz: the own entry advances with every event, and with nothing else.

    n1  hint_stored {n1: 5, n2: 3} ──frame──▶ n2  hint_taken {n1: 5, n2: 4}

This is not the causality of the data: versions have clocks of their own (`causal_context`), of
writes, and no decision is ever taken by a trace clock. So it may be bounded more simply:

* a frame carries the own entry and the `FRAME_ENTRIES_MAX - 1` others that changed last. In larger
  clusters an arrow from a node that has long told nothing can be missing; none is ever false;
* at most `ENTRIES_MAX` nodes are remembered, those that changed last.

It costs next to nothing while nothing is told: the encoded clock is kept until an entry changes,
and a receiver looks no further when the bytes are the last ones from that sender.

A node's count starts at (generation - 1) * 2**20: it is not durable, and an event of a later life
must not look like one of an earlier. Source: Mattern, "Virtual Time and Global States of
Distributed Systems", 1989; Fidge 1988.
"""

from __future__ import annotations

from itertools import islice

import msgspec

from kvctl_node.errors import ProtocolError

FRAME_ENTRIES_MAX = 16
"""Some 130 bytes a frame in the largest clusters, and 30 among five nodes."""
ENTRIES_MAX = 512
"""Twice the largest cluster: nodes that have left are forgotten some time."""
ENCODED_BYTES_MAX = 2048
EVENTS_PER_LIFE = 1 << 20

_encode = msgspec.msgpack.Encoder().encode
_decoder = msgspec.msgpack.Decoder(dict[str, int])


class TraceClock:
    """The clock of one node. Nameless, as in a node that is being made, it counts nothing."""

    __slots__ = ("_counters", "_encoded", "_last_of", "name")

    def __init__(self, name: str = "", *, generation: int = 1) -> None:
        self.name = name
        # The latest changed last, so that what a frame has no room for is what changed long ago.
        self._counters: dict[str, int] = {}
        if name:
            self._counters[name] = (generation - 1) * EVENTS_PER_LIFE
        self._encoded: bytes | None = None
        self._last_of: dict[str, bytes] = {}
        """Sender → the bytes merged last."""

    def advance(self) -> dict[str, int]:
        """An event happens: its stamp."""
        if self.name:
            self._counters[self.name] += 1
            self._encoded = None
        return dict(self._counters)

    def encoded(self) -> bytes:
        """The clock as a frame carries it."""
        if self._encoded is None:
            latest = islice(reversed(self._counters.items()), FRAME_ENTRIES_MAX)
            carried = dict(latest)
            if self.name and self.name not in carried:
                carried.popitem()
                carried[self.name] = self._counters[self.name]
            self._encoded = _encode(carried) if carried else b""
        return self._encoded

    def merge(self, sender: str, encoded: bytes) -> None:
        """A frame came: its sender's events up to now came before whatever happens next here.

        Raises `ProtocolError` on bytes that are no clock.
        """
        if not encoded or self._last_of.get(sender) == encoded:
            return
        counters = self._counters
        for name, count in decode_trace_clock(encoded).items():
            known = counters.get(name)
            if known is None or known < count:
                if known is not None and name != self.name:
                    del counters[name]
                counters[name] = count
                self._encoded = None
        self._last_of[sender] = encoded
        while len(counters) > ENTRIES_MAX:
            del counters[next(name for name in counters if name != self.name)]
        if len(self._last_of) > ENTRIES_MAX:
            del self._last_of[next(iter(self._last_of))]

    def check_invariants(self) -> None:
        """Assert that the own entry is there and all bounds are kept."""
        assert not self.name or self.name in self._counters
        assert len(self._counters) <= ENTRIES_MAX
        assert len(self.encoded()) <= ENCODED_BYTES_MAX


def decode_trace_clock(encoded: bytes) -> dict[str, int]:
    """{node: events}. Raises `ProtocolError` on bytes that are no clock, or one over the bounds."""
    if len(encoded) > ENCODED_BYTES_MAX:
        raise ProtocolError(f"a trace clock of {len(encoded)} bytes is over {ENCODED_BYTES_MAX}.")
    try:
        counters = _decoder.decode(encoded)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ProtocolError(f"not a trace clock: {error}.") from error
    if len(counters) > FRAME_ENTRIES_MAX:
        raise ProtocolError(f"a trace clock of {len(counters)} entries.")
    if any(count < 0 for count in counters.values()):
        raise ProtocolError("a trace clock with a negative count.")
    return counters
