"""One page of a scan over the whole cluster, in (partition, key) order.

Every member holds the keys of many partitions, so a page is asked of all reachable members at once,
from the same place. Each answers with what it holds up to some point; the page reaches as far as
the answer that came least far, and up to there every key is merged over all who hold it. Every
partition of the page must have been answered for by R of its owners, or the scan is `unavailable`:
a page never leaves out a key silently. Keys that are all tombstones are left out.

A scan is not a snapshot: writes that happen meanwhile may or may not appear.
"""

from __future__ import annotations

from collections.abc import Sequence

from kvctl_node.causality.siblings import (
    Sibling,
    StoredObject,
    decode_object,
    encode_object,
    merge_objects,
)
from kvctl_node.errors import CorruptRecordError, FailureKind, RebuildingError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant, Position
from kvctl_node.protocol.client_messages import (
    ClientScan,
    ScanDone,
)
from kvctl_node.protocol.messages import (
    ReplicaScan,
    ReplicaScanReply,
)
from kvctl_node.replication.request import Origin, RequestCoordinator

PAGE_KEYS_MAX = 512
PAGE_BYTES_MAX = 1024 * 1024
KEYS_EXAMINED_MAX = 4096

Entry = tuple[int, bytes, bytes]
"""(partition, key, encoded object)."""


def scan_replica(
    state: NodeState, start: Position, prefix: bytes, limit: int
) -> tuple[list[Entry], Position | None]:
    """What this node holds from `start` on that begins with `prefix`, and where to go on.

    Examines a bounded number of keys, so a page may be empty and yet not the end. Raises
    `CorruptRecordError`.
    """
    if state.replica.unproven or state.replica.doubted:
        raise RebuildingError("this node has not got back all of what it once held.")
    found: list[Entry] = []
    examined = total_bytes = 0
    position: Position | None = start
    while position is not None and examined < KEYS_EXAMINED_MAX:
        page = state.storage.scan(
            position,
            state.map.partitions,
            limit=min(limit, PAGE_KEYS_MAX),
            bytes_max=PAGE_BYTES_MAX,
        )
        for entry in page.entries:
            if len(found) == limit or (found and total_bytes >= PAGE_BYTES_MAX):
                return found, Position(entry.partition, entry.key)
            if entry.key.startswith(prefix):
                found.append((entry.partition, entry.key, entry.record.content))
                total_bytes += len(entry.record.content)
        examined += len(page.entries)
        position = page.next
        if len(found) == limit or total_bytes >= PAGE_BYTES_MAX:
            break
    return found, position


class ScanCoordinator(RequestCoordinator):
    """Coordinates one page; any node can."""

    __slots__ = ("_limit", "_pages", "_request", "_waiting")

    def __init__(self, state: NodeState, request: ClientScan, origin: Origin, now: Instant) -> None:
        super().__init__(state, origin, request.deadline_ms, now)
        self._request = request
        self._limit = max(1, min(request.limit, PAGE_KEYS_MAX))
        self._pages: dict[str, tuple[Sequence[Entry], Position | None]] = {}
        self._waiting: set[str] = set()

    def start(self, now: Instant) -> None:
        state, request = self.state, self._request
        if not 0 <= request.partition < state.map.partitions:
            self.fail(FailureKind.INVALID, f"there is no partition {request.partition}.")
            return
        start = Position(request.partition, request.key)
        message = ReplicaScan(self.id, *start, request.prefix, self._limit, self.deadline_ms)
        for node in state.reachable_of(state.map.members):
            if node != state.name:
                self._waiting.add(node)
                state.outbox.send(node, message)
        try:
            self._pages[state.name] = scan_replica(state, start, request.prefix, self._limit)
        except CorruptRecordError as error:
            state.outbox.record("scan_incomplete", reason=error.message)
        self._consider()

    def on_replica_scan_reply(self, sender: str, message: ReplicaScanReply, now: Instant) -> None:
        if sender in self._waiting:
            self._waiting.remove(sender)
            after = Position(message.next_partition, message.next_key)
            self._pages[sender] = (message.entries, after if after.partition >= 0 else None)
            self._consider()

    def on_link_lost(self, peer: str, now: Instant) -> None:
        if peer in self._waiting:
            self._waiting.remove(peer)
            self._consider()

    def on_deadline(self, now: Instant) -> None:
        self._waiting.clear()
        self._consider()

    def _consider(self) -> None:
        if self._waiting or self.done:
            return
        horizon = self._horizon()
        short = self._partition_without_quorum(horizon)
        if short is not None:
            self.fail(
                FailureKind.UNAVAILABLE,
                f"fewer than R={self._r()} owners of partition {short} answered.",
                hint="`kvctl status` shows which nodes are down.",
            )
            return
        entries, horizon = self._merged_page(horizon)
        self.done = True
        self.answer(
            ScanDone(
                self.origin.request_id,
                tuple(entries),
                -1 if horizon is None else horizon.partition,
                b"" if horizon is None else horizon.key,
            )
        )

    def _r(self) -> int:
        return self._request.r or self.state.quorum.r

    def _horizon(self) -> Position | None:
        """As far as every answer is complete; None for the end of the circle."""
        ends = [after for _, after in self._pages.values() if after is not None]
        return min(ends) if ends else None

    def _partition_without_quorum(self, horizon: Position | None) -> int | None:
        owners, needed = self.state.map.owners, self._r()
        last = len(owners) - 1 if horizon is None else horizon.partition
        enough: set[tuple[str, ...]] = set()
        for partition in range(self._request.partition, last + 1):
            group = owners[partition]
            if group not in enough:
                if sum(node in self._pages for node in group) < needed:
                    return partition
                enough.add(group)
        return None

    def _merged_page(
        self, horizon: Position | None
    ) -> tuple[list[tuple[bytes, bytes]], Position | None]:
        """At most `limit` merged keys before the horizon, and where the next page starts."""
        copies: dict[Position, list[bytes]] = {}
        for entries, _ in self._pages.values():
            for partition, key, content in entries:
                place = Position(partition, key)
                if horizon is None or place < horizon:
                    copies.setdefault(place, []).append(content)
        page: list[tuple[bytes, bytes]] = []
        for place in sorted(copies):
            if len(page) == self._limit:
                return page, place
            content = self._shown(copies[place])
            if content:
                page.append((place.key, content))
        return page, horizon

    def _shown(self, contents: list[bytes]) -> bytes:
        """The merged copies as the client asked for them, b"" if they are not to be shown."""
        merged = decode_object(contents[0])
        for content in contents[1:]:
            if content != contents[0]:
                merged = merge_objects(merged, decode_object(content))
        if merged.deleted:
            return b""
        if self._request.conflicts_only and len(merged.siblings) < 2:
            return b""
        if self._request.keys_only:
            merged = _without_values(merged)
        return encode_object(merged)


def _without_values(stored: StoredObject) -> StoredObject:
    siblings = tuple(
        Sibling(one.actor, one.counter, None if one.value is None else b"", *one.request)
        for one in stored.siblings
    )
    return StoredObject(stored.context, siblings, stored.overtaken)
