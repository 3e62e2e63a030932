"""Many requests in flight at once: throughput without threads.

    with client.batch() as batch:
        for key, value in records:
            batch.put(key, value, on_done=report)      # blocks while 256 are outstanding
        batch.put_all(more_records)                    # the same for each, at less cost
        batch.get_all(keys, on_done=report)

Submitting queues a request and returns a `Pending`; requests queued in one pass travel together,
and wait for more of them while their node is busy with as many (`Connection.gathers`).
A slot frees when a request is done, so a batch is also a closed loop of fixed depth.

Callbacks run between passes, in this thread. They may submit (the slot of the request that is done
is free already) but not wait. A failure is kept in its `Pending` and counted in `failed`: nothing
is raised on leaving the block, which waits for everything that is outstanding.

With `ordered`, two requests of one key are never in flight together: the second waits, and is sent
when the first is done, whatever its outcome. Requests of different keys overtake each other freely.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import TracebackType

from kvctl.client.request import Pending, PendingGet, PendingPut
from kvctl.client.request_builder import RequestBuilder
from kvctl.client.request_loop import RequestLoop
from kvctl_node.errors import InvalidRequestError

IN_FLIGHT_MAX = 65_536
IN_FLIGHT_BYTES_MAX = 64 * 1024 * 1024
"""Keys and values outstanding in one batch; large values lower the number in flight."""


class Batch:
    """Keeps up to `in_flight` requests going. Made by `Client.batch`; belongs to its thread."""

    def __init__(
        self,
        loop: RequestLoop,
        builder: RequestBuilder,
        in_flight: int,
        *,
        ordered: bool = False,
        collect: bool = False,
        on_done: Callable[[Pending], None] | None = None,
    ) -> None:
        if not 1 <= in_flight <= IN_FLIGHT_MAX:
            raise InvalidRequestError(
                f"a batch can have from 1 to {IN_FLIGHT_MAX} requests in flight, not {in_flight}."
            )
        self.failed = 0
        """How many requests have failed so far."""
        self.outstanding = 0
        """How many are submitted and not done."""
        self._outstanding_bytes = 0
        self._in_flight = in_flight
        self._loop = loop
        self._builder = builder
        self._on_done = on_done
        self._last_of_key: dict[bytes, Pending] | None = {} if ordered else None
        self._completed: deque[Pending] | None = deque() if collect else None
        self._settle_bound = self._settle

    def put(
        self,
        key: str | bytes,
        value: bytes | str,
        *,
        w: int | None = None,
        mode: str | None = None,
        context: str | None = None,
        blind: bool = False,
        on_done: Callable[[Pending], None] | None = None,
    ) -> PendingPut:
        """Submit a put; blocks while the batch is full. Options as in `Client.put`.

        Raises `InvalidRequestError` for wrong arguments; every other failure is in the `Pending`.
        """
        if self.outstanding >= self._in_flight:
            self._make_room(0)
        pending = self._builder.put(key, value, w=w, mode=mode, context=context, blind=blind)
        self._submit(pending, on_done)
        return pending

    def put_all(
        self,
        pairs: Iterable[tuple[str | bytes, bytes | str]],
        *,
        w: int | None = None,
        mode: str | None = None,
        blind: bool = False,
        on_done: Callable[[Pending], None] | None = None,
    ) -> None:
        """Submit a put for each (key, value); blocks whenever the batch is full.

        What `put` does, at less cost for each. Raises `InvalidRequestError` at the first pair that
        is wrong; those before it are submitted. Should a callback raise, the pair that was taken
        last, and waited, is not.
        """
        self._submit_all(self._builder.puts(pairs, w=w, mode=mode, blind=blind), on_done)

    def delete(
        self,
        key: str | bytes,
        *,
        context: str | None = None,
        blind: bool = False,
        w: int | None = None,
        mode: str | None = None,
        on_done: Callable[[Pending], None] | None = None,
    ) -> PendingPut:
        """Submit a delete; otherwise as `put`."""
        if self.outstanding >= self._in_flight:
            self._make_room(0)
        pending = self._builder.put(key, None, w=w, mode=mode, context=context, blind=blind)
        self._submit(pending, on_done)
        return pending

    def get(
        self,
        key: str | bytes,
        *,
        r: int | None = None,
        mode: str | None = None,
        repair: str = "async",
        on_done: Callable[[Pending], None] | None = None,
    ) -> PendingGet:
        """Submit a get; otherwise as `put`. Options as in `Client.get`."""
        if self.outstanding >= self._in_flight:
            self._make_room(0)
        pending = self._builder.get(key, r=r, mode=mode, repair=repair)
        self._submit(pending, on_done)
        return pending

    def get_all(
        self,
        keys: Iterable[str | bytes],
        *,
        r: int | None = None,
        mode: str | None = None,
        repair: str = "async",
        on_done: Callable[[Pending], None] | None = None,
    ) -> None:
        """Submit a get of each key; to `get` what `put_all` is to `put`."""
        self._submit_all(self._builder.gets(keys, r=r, mode=mode, repair=repair), on_done)

    def check(self, key: str | bytes, value: str | bytes | None) -> None:
        """Raise what `put` would raise about the key and the value, and submit nothing."""
        self._builder.key_bytes(key)
        if value is not None:
            self._builder.value_bytes(value)

    def check_siblings(self, values: Sequence[bytes | None]) -> None:
        """Raise what a node would raise if a key had these siblings."""
        self._builder.check_siblings(values)

    def wait(self) -> None:
        """Block until nothing is outstanding."""
        while self.outstanding:
            self._loop.turn()

    def completed(self) -> Iterator[Pending]:
        """Requests in the order in which they finished, until none is outstanding; blocking.

        Only for a batch made with `collect=True`, which keeps finished requests for it.
        """
        if self._completed is None:
            raise InvalidRequestError(
                "this batch does not collect finished requests.",
                hint="make it with collect=True, or give on_done.",
            )
        while self._completed or self.outstanding:
            if self._completed:
                yield self._completed.popleft()
            else:
                self._loop.turn()

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self.wait()
        else:
            self._loop.abandon(self._settle_bound)

    def _submit_all(
        self, requests: Iterable[Pending], on_done: Callable[[Pending], None] | None
    ) -> None:
        """Submit each request as it is made; blocks whenever the batch is full."""
        for pending in requests:
            if self.outstanding >= self._in_flight:
                self._make_room(0)
                self._builder.restart_clock(pending)
            self._submit(pending, on_done)

    def _submit(self, pending: Pending, on_done: Callable[[Pending], None] | None) -> None:
        size = pending.content_bytes
        if self._outstanding_bytes + size > IN_FLIGHT_BYTES_MAX:
            self._make_room(size)
            self._builder.restart_clock(pending)
        self.outstanding += 1
        self._outstanding_bytes += size
        pending.on_settled = self._settle_bound
        pending.on_done = on_done if on_done is not None else self._on_done
        if self._last_of_key is not None:
            before = self._last_of_key.get(pending.key)
            self._last_of_key[pending.key] = pending
            if before is not None:
                before.next = pending
                return
        self._loop.submit(pending)

    def _make_room(self, size: int) -> None:
        """Turn until there is a slot, and room for so many bytes more.

        A request larger than the whole allowance still goes, alone.
        """
        while self.outstanding >= self._in_flight or (
            self.outstanding and self._outstanding_bytes + size > IN_FLIGHT_BYTES_MAX
        ):
            self._loop.turn()

    def _settle(self, pending: Pending) -> None:
        self.outstanding -= 1
        self._outstanding_bytes -= pending.content_bytes
        if pending.error is not None:
            self.failed += 1
        if self._completed is not None:
            self._completed.append(pending)
        if self._last_of_key is None:
            return
        following = pending.next
        if following is not None:
            pending.next = None
            self._builder.restart_clock(following)
            self._loop.submit(following)
        else:
            del self._last_of_key[pending.key]
