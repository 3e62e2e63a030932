"""Which owner of each partition comes first.

The first owner is the one clients and coordinators turn to when all are up, so primaries are load
and are balanced like replicas: a server that owns q replicas is primary of q/N partitions, rounded
down or up. That is always possible (every owner of every partition being primary to 1/N is a
fractional solution of a flow problem with integer bounds). Changing the order of owners moves no
data, but a primary is kept where balance allows, since its caches are warm.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence


def balance_primaries(rows: list[list[int]], servers: int, *, n: int, keep: bool) -> None:
    """Reorder each row of owners (server numbers below `servers`) in place, its primary first.

    With `keep`, the present first owners are the starting point, else a choice that is even along
    the whole circle. The other owners keep their order.
    """
    held = [0] * servers
    for row in rows:
        for server in row:
            held[server] += 1
    order = [tuple(row) for row in rows]
    if not keep:
        _choose_evenly(rows, held, n)
    _PrimaryBalance(rows, held, n).settle()
    for row, original in zip(rows, order, strict=True):
        row[1:] = [server for server in original if server != row[0]]


def _choose_evenly(rows: list[list[int]], held: Sequence[int], n: int) -> None:
    """Make the owner that lags furthest behind its share the primary of each partition in turn."""
    chosen = [0] * len(held)
    slots = n * len(rows)
    for done, row in enumerate(rows, start=1):
        # share so far minus primaries so far, times N·Q to stay in integers
        primary = max(row, key=lambda server: held[server] * done - chosen[server] * slots)
        _promote(row, primary)
        chosen[primary] += 1


def _promote(row: list[int], primary: int) -> None:
    row.remove(primary)
    row.insert(0, primary)


class _PrimaryBalance:
    """Primaries per server, and the chains of promotions that even them out."""

    def __init__(self, rows: list[list[int]], held: Sequence[int], n: int) -> None:
        self._rows = rows
        self._low = [count // n for count in held]
        self._high = [-(-count // n) for count in held]
        self._led: list[dict[int, None]] = [{} for _ in held]
        for partition, row in enumerate(rows):
            self._led[row[0]][partition] = None

    def settle(self) -> None:
        """Bring everyone down to its upper bound, then everyone up to its lower bound."""
        for server, led in enumerate(self._led):
            while len(led) > self._high[server]:
                self._hand_on(server, self._below_high)
        for server, led in enumerate(self._led):
            while len(led) < self._low[server]:
                self._draw_to(server)

    def _below_high(self, server: int) -> bool:
        return len(self._led[server]) < self._high[server]

    def _hand_on(self, start: int, accepts: Callable[[int], bool]) -> None:
        """Shift one primary from `start` along a shortest chain of co-owners to an acceptor."""
        step_of: dict[int, tuple[int, int]] = {}
        queue = deque([start])
        while queue:
            leader = queue.popleft()
            for partition in self._led[leader]:
                for owner in self._rows[partition]:
                    if owner == start or owner in step_of:
                        continue
                    step_of[owner] = (leader, partition)
                    if accepts(owner):
                        self._promote_along(step_of, owner, start)
                        return
                    queue.append(owner)
        raise AssertionError("primaries can always be balanced")

    def _draw_to(self, target: int) -> None:
        """Shift one primary to `target` from some server that has more than its lower bound."""
        for server, led in enumerate(self._led):
            if len(led) > self._low[server] and self._reaches(server, target):
                self._hand_on(server, lambda owner: owner == target)
                return
        raise AssertionError("primaries can always be balanced")

    def _reaches(self, start: int, target: int) -> bool:
        """Whether a chain of promotions leads from `start` to `target`."""
        seen = {start: None}
        queue = deque([start])
        while queue:
            for partition in self._led[queue.popleft()]:
                for owner in self._rows[partition]:
                    if owner not in seen:
                        seen[owner] = None
                        queue.append(owner)
        return target in seen

    def _promote_along(self, step_of: dict[int, tuple[int, int]], last: int, start: int) -> None:
        while last != start:
            leader, partition = step_of[last]
            _promote(self._rows[partition], last)
            del self._led[leader][partition]
            self._led[last][partition] = None
            last = leader
