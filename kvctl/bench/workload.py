"""What one client of a benchmark does, and how it verifies every answer.

Every key belongs to one client and has at most one request in flight, so that client knows what a
read may return. A value carries its sequence number and a checksum over run, key, number and
padding:

    4 bytes sequence | 4 bytes CRC-32 of (run, key, sequence, padding) | padding

A get must return a value that this run wrote for that very key, no newer than the last one sent,
and no older than the last acknowledged one where R + W > N promises that (a sloppy quorum with a
primary missing does not, and such answers say `degraded`). Whatever falls short is an error.

* `overwrite` puts go round the client's keys, which exist already;
* `blind` puts supersede nothing, so each makes a key of its own: anything else would pile up
  siblings. Nobody reads those, so they all get one value;
* gets pick a key at random; `mixed` alternates.

All keys begin with `bench/` and the run's id; they are left in the store.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Iterator
from itertools import count
from random import Random

import msgspec

from kvctl.bench.histogram import LatencyHistogram
from kvctl.client.batch import Batch
from kvctl.client.client import Client
from kvctl.client.request import Pending
from kvctl.client.results import GetResult
from kvctl_node.errors import InvalidRequestError, ProtocolError
from kvctl_node.protocol.client_messages import GetDone

KEY_PREFIX = "bench/"
VALUE_BYTES_MIN = 8
_SEQUENCE_BYTES = 4
_PRELOAD_IN_FLIGHT = 256
_ERROR_SAMPLES = 5
_DRAWN_TOGETHER = 64
"""Keys to read are drawn by so many, which costs less than one at a time."""


class WorkloadOptions(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What every client of a run does. Sizes in bytes, times in seconds."""

    workload: str = "put"
    put_kind: str = "overwrite"
    in_flight: int = 64
    """Requests outstanding, per client."""
    seconds: float = 10.0
    """Measured time; the warm-up comes before it."""
    warm_up_s: float = 1.0
    value_bytes: int = 100
    keys: int = 10_000
    """Keys per client."""
    run: int = 0
    """Random; tells this run's keys and values from another's."""

    def validate(self) -> None:
        """Raises `InvalidRequestError` on the first option that cannot be."""
        if self.workload not in ("put", "get", "mixed"):
            raise InvalidRequestError(f"the workload is put, get or mixed, not {self.workload!r}.")
        if self.put_kind not in ("overwrite", "blind"):
            raise InvalidRequestError(f"puts are overwrite or blind, not {self.put_kind!r}.")
        if self.in_flight < 1:
            raise InvalidRequestError("at least one request has to be in flight.")
        if not 0 < self.seconds <= 86_400:
            raise InvalidRequestError(f"the time must be positive, not {self.seconds} seconds.")
        if self.value_bytes < VALUE_BYTES_MIN:
            raise InvalidRequestError(
                f"a value needs {VALUE_BYTES_MIN} bytes at least to be verified, "
                f"not {self.value_bytes}."
            )
        if self.keys < 2 * self.in_flight:
            raise InvalidRequestError(
                f"{self.keys} keys are too few for {self.in_flight} requests in flight.",
                hint=f"use at least {2 * self.in_flight}: one request at a time goes to a key.",
            )


class Measurement(msgspec.Struct):
    """What one client measured, as it travels to the process that sums up."""

    ops: int = 0
    """Verified answers within the measured time."""
    errors: int = 0
    """Failures and wrong answers, warm-up included."""
    seconds: float = 0.0
    histogram: tuple[int, ...] = ()
    samples: list[str] = []
    """The first few errors, for people."""


class _OwnedKey:
    """What the client knows of one of its keys."""

    __slots__ = ("acked", "busy", "key", "newest", "seed", "sent", "verified")

    def __init__(self, key: bytes, seed_of_run: int) -> None:
        self.key = key
        self.seed = zlib.crc32(key, seed_of_run)
        self.sent = 0
        self.acked = 0
        self.busy = False
        self.verified: bytes | None = None
        """The stored object that was last found whole, and the newest value in it: bytes that come
        back as they were need no second look inside."""
        self.newest = 0

    @property
    def text(self) -> str:
        """The key as text."""
        return self.key.decode()


class WorkloadClient:
    """One client of a run: `preload`, then `run`."""

    def __init__(self, client: Client, options: WorkloadOptions, number: int) -> None:
        """`number` tells the clients of a run apart."""
        options.validate()
        self._client = client
        self._options = options
        self._prefix = f"{KEY_PREFIX}{options.run:x}/{number}/".encode()
        self._seed = zlib.crc32(options.run.to_bytes(8, "big"))
        """Of all checksums of this run."""
        self._padding = b"." * (options.value_bytes - VALUE_BYTES_MIN)
        self._unread = self._value(self._seed, 1)
        """The value of all blind puts."""
        self._rng = Random(options.run + number)
        self._keys = [
            _OwnedKey(b"%s%d" % (self._prefix, index), self._seed) for index in range(options.keys)
        ]
        self._by_key = {owned.key: owned for owned in self._keys}
        self._fresh = count()
        self._histogram = LatencyHistogram()
        self._measured = Measurement()
        self._measure_from = self._measure_until = float("inf")
        quorum = client.describe().quorum
        self._reads_see_acks = quorum.r + quorum.w > quorum.n
        self._may_miss_when_degraded = quorum.mode == "sloppy"

    def preload(self) -> None:
        """Write every key once, unless the workload makes its own. Raises the first failure."""
        if self._options.workload == "put" and self._options.put_kind == "blind":
            return
        with self._client.batch(_PRELOAD_IN_FLIGHT, on_done=self._on_put) as batch:
            for owned in self._keys:
                pending = batch.put(owned.key, self._next_value(owned), blind=True)
        for sample in self._measured.samples:
            raise ProtocolError(f"cannot write the keys to measure with: {sample}")
        assert pending.done

    def run(self) -> Measurement:
        """Warm up, measure for the given time, take back what is in flight."""
        options = self._options
        began = time.monotonic()
        self._measure_from = began + options.warm_up_s
        self._measure_until = ends = self._measure_from + options.seconds
        with self._client.batch(options.in_flight) as batch:
            if options.workload == "get":
                batch.get_all(self._keys_to_read(ends), on_done=self._on_get)
            elif options.workload == "mixed":
                self._submit_both(ends, batch)
            elif options.put_kind == "blind":
                batch.put_all(self._fresh_puts(ends), blind=True, on_done=self._count_put)
            else:
                batch.put_all(self._overwrites(ends), on_done=self._on_put)
        self._measured.seconds = options.seconds
        self._measured.histogram = self._histogram.counts
        return self._measured

    # ------------------------------------------------------------ submitting

    def _submit_both(self, ends: float, batch: Batch) -> None:
        """A get and a put in turn."""
        draws, rounds = self._idle_by_chance(), self._idle_in_turn()
        while time.monotonic() < ends:
            batch.get(self._to_read(next(draws)), on_done=self._on_get)
            if self._options.put_kind == "blind":
                batch.put(self._fresh_key(), self._unread, blind=True, on_done=self._count_put)
            else:
                written = next(rounds)
                batch.put(written.key, self._next_value(written), on_done=self._on_put)

    def _keys_to_read(self, ends: float) -> Iterator[bytes]:
        for owned in self._idle_by_chance():
            yield self._to_read(owned)
            if time.monotonic() >= ends:
                break

    def _to_read(self, owned: _OwnedKey) -> bytes:
        owned.busy = True
        return owned.key

    def _fresh_key(self) -> bytes:
        return b"%sb%d" % (self._prefix, next(self._fresh))

    def _fresh_puts(self, ends: float) -> Iterator[tuple[bytes, bytes]]:
        while time.monotonic() < ends:
            yield self._fresh_key(), self._unread

    def _overwrites(self, ends: float) -> Iterator[tuple[bytes, bytes]]:
        for owned in self._idle_in_turn():
            yield owned.key, self._next_value(owned)
            if time.monotonic() >= ends:
                break

    def _idle_in_turn(self) -> Iterator[_OwnedKey]:
        while True:
            for owned in self._keys:
                if not owned.busy:
                    yield owned

    def _idle_by_chance(self) -> Iterator[_OwnedKey]:
        while True:
            for owned in self._rng.choices(self._keys, k=_DRAWN_TOGETHER):
                if not owned.busy:
                    yield owned

    def _next_value(self, owned: _OwnedKey) -> bytes:
        owned.sent += 1
        owned.busy = True
        return self._value(owned.seed, owned.sent)

    def _value(self, seed: int, number: int) -> bytes:
        sequence = number.to_bytes(_SEQUENCE_BYTES, "big")
        checksum = zlib.crc32(self._padding, zlib.crc32(sequence, seed))
        return sequence + checksum.to_bytes(4, "big") + self._padding

    # ------------------------------------------------------------ verifying

    def _on_put(self, pending: Pending) -> None:
        owned = self._by_key[pending.key]
        owned.busy = False
        if pending.error is None:
            owned.acked = owned.sent
        self._count_put(pending)

    def _count_put(self, pending: Pending) -> None:
        """All there is to a blind put: nobody reads it again, so there is nothing to remember."""
        self._count(pending, "" if pending.error is None else pending.error.message)

    def _on_get(self, pending: Pending) -> None:
        owned = self._by_key[pending.key]
        owned.busy = False
        reply = pending.reply
        if not isinstance(reply, GetDone):
            assert pending.error is not None
            self._count(pending, pending.error.message)
        elif reply.content == owned.verified and owned.newest == owned.sent:
            self._count(pending, "")  # nothing can be wrong with what was sent last
        else:
            self._count(pending, self._look_closely(owned, reply, pending))

    def _look_closely(self, owned: _OwnedKey, reply: GetDone, pending: Pending) -> str:
        """What is wrong with an answer, "" if nothing is."""
        complaint = ""
        if reply.content != owned.verified:
            complaint = self._look_inside(owned, reply.content, pending.result())
        return complaint or self._complaint(owned, reply.degraded)

    def _look_inside(self, owned: _OwnedKey, content: bytes, result: GetResult) -> str:
        """What is wrong with the values in an answer, "" if nothing is."""
        newest = 0
        try:
            for value in result.values:
                sequence = self._sequence_of(owned, value)
                if sequence is None:
                    return f"{result.text} holds a value that this run did not write there"
                newest = max(newest, sequence)
        except ProtocolError as error:
            return f"{result.text} cannot be decoded: {error.message}"
        owned.verified, owned.newest = content, newest
        return ""

    def _complaint(self, owned: _OwnedKey, degraded: bool) -> str:
        """What is wrong with the newest value of an answer, "" if nothing is."""
        newest = owned.newest
        if newest > owned.sent:
            return f"{owned.text} holds value {newest} of {owned.sent} that were written"
        promised = self._reads_see_acks and not (degraded and self._may_miss_when_degraded)
        if newest < owned.acked and promised:
            return f"{owned.text} reads as value {newest}, but {owned.acked} was acknowledged"
        return ""

    def _sequence_of(self, owned: _OwnedKey, value: bytes | None) -> int | None:
        """The sequence number in a value; None unless it is whole and of this key and run."""
        if value is None or len(value) != self._options.value_bytes:
            return None
        checksum = zlib.crc32(value[VALUE_BYTES_MIN:], zlib.crc32(value[:4], owned.seed))
        if checksum != int.from_bytes(value[4:8], "big"):
            return None
        return int.from_bytes(value[:4], "big")

    def _count(self, pending: Pending, complaint: str) -> None:
        measured = self._measured
        if complaint:
            measured.errors += 1
            if len(measured.samples) < _ERROR_SAMPLES:
                measured.samples.append(complaint)
        elif self._measure_from <= pending.finished_at <= self._measure_until:
            measured.ops += 1
            self._histogram.record(pending.finished_at - pending.started_at)
