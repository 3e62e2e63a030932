"""Writers for soaks: they remember what was acknowledged, and tell afterwards what is missing."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence

import kvctl
from kvctl.client.request import Pending
from kvctl_node.errors import IndeterminateError, StoreError
from kvctl_node.protocol.client_messages import ClientPut

KEYS_PER_WRITER = 2000


class Writer(threading.Thread):
    """Overwrites its own keys with rising numbers and remembers what was acknowledged."""

    def __init__(
        self,
        cluster: kvctl.Cluster,
        index: int,
        stop: threading.Event,
        via: Sequence[str] = (),
    ) -> None:
        """Asks the nodes of `via` in turn, or (none named) whichever its client chooses."""
        super().__init__(name=f"writer-{index}")
        self._cluster = cluster
        self._index = index
        self._stop_writing = stop
        self._via = via
        self.acknowledged: dict[str, int] = {}
        self.attempted: dict[str, int] = {}
        self.refused = 0
        self.indeterminate = 0
        self.failure: BaseException | None = None

    def run(self) -> None:
        rng = random.Random(self._index)
        number = 0
        with self._cluster.client() as client:
            while not self._stop_writing.is_set():
                number += 1
                via = self._via[number % len(self._via)] if self._via else None
                key = f"w{self._index}/k{rng.randrange(KEYS_PER_WRITER)}"
                self.attempted[key] = number
                try:
                    client.put(key, str(number), via=via)
                    self.acknowledged[key] = number
                except IndeterminateError:
                    self.indeterminate += 1
                except StoreError:
                    self.refused += 1


class BatchWriter(Writer):
    """Keeps many puts in flight, those of one key in their order, so that frames hold several."""

    def __init__(
        self, cluster: kvctl.Cluster, index: int, stop: threading.Event, in_flight: int
    ) -> None:
        super().__init__(cluster, index, stop)
        self._in_flight = in_flight

    def run(self) -> None:
        rng = random.Random(self._index)
        number = 0
        with (
            self._cluster.client() as client,
            client.batch(self._in_flight, ordered=True, on_done=self._on_done) as batch,
        ):
            while not self._stop_writing.is_set():
                number += 1
                key = f"w{self._index}/k{rng.randrange(KEYS_PER_WRITER)}"
                self.attempted[key] = number
                batch.put(key, str(number))

    def _on_done(self, pending: Pending) -> None:
        request = pending.request
        assert isinstance(request, ClientPut)
        assert request.value is not None
        if pending.error is None:
            self.acknowledged[pending.key.decode()] = int(request.value)
        elif isinstance(pending.error, IndeterminateError):
            self.indeterminate += 1
        else:
            self.refused += 1


def lost_writes(cluster: kvctl.Cluster, writers: list[Writer]) -> list[str]:
    """What the store holds less of than it acknowledged."""
    lost = []
    with cluster.client() as client:
        for writer in writers:
            for key, number in writer.acknowledged.items():
                result = client.get(key)
                values = [int(one.value) for one in result.siblings if one.value is not None]
                newest = max(values, default=0)
                if not number <= newest <= writer.attempted[key]:
                    lost.append(f"{key}: acknowledged {number}, read {values}")
    return lost


def account_of(writers: Sequence[Writer]) -> str:
    """What became of all their puts, in a few words."""
    acknowledged = sum(len(writer.acknowledged) for writer in writers)
    indeterminate = sum(writer.indeterminate for writer in writers)
    refused = sum(writer.refused for writer in writers)
    return (
        f"{acknowledged} keys acknowledged, {refused} puts refused, {indeterminate} indeterminate"
    )
