"""The client: one request at a time, blocking, failures as exceptions.

What a caller may conclude from an exception is its type (`kvctl_node.errors`): `UnavailableError`
and `InvalidRequestError` (and their kin): definitely not applied; `IndeterminateError`: may have
been applied, now or later; `ClusterUnreachableError`: no node could be asked.

Retries happen below, within the timeout and under one request identity, so a put that succeeds was
applied once however many attempts it took. See `request` for the rules.

A client belongs to one thread: it has no lock, and its sockets live where they are used. It reads
`cluster.json` and the keys of its cluster, and opens its first socket with its first request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kvctl.client.batch import Batch
from kvctl.client.client_clock import monotonic
from kvctl.client.connection import Credentials
from kvctl.client.request import GRACE_SHARE, Pending, PendingQuorum, plan_attempt
from kvctl.client.request_builder import RequestBuilder, check_timeout
from kvctl.client.request_loop import RequestLoop
from kvctl.client.results import GetResult, KeyOnly, PutResult
from kvctl.cluster.directory import open_cluster
from kvctl_node.config import ClusterConfig, QuorumConfig
from kvctl_node.errors import ConfigError, InvalidRequestError, ProtocolError
from kvctl_node.protocol.client_messages import (
    ClientDescribe,
    ClientRequest,
    ClientScan,
    ClientSetQuorum,
    ClientStatus,
    Description,
    ScanDone,
    StatusDone,
)
from kvctl_node.runtime.open_files import allow_open_files, client_files

if TYPE_CHECKING:
    from kvctl.client.cluster_map import ClusterMap

DEFAULT_TIMEOUT_S = 5.0
SCAN_PAGE_KEYS = 500
_REQUESTS_WITHOUT_MAP = 3
"""From this many requests on a client is no one-shot, and a map pays."""


def connect(
    cluster: str | None = None, *, home: Path | None = None, timeout_s: float = DEFAULT_TIMEOUT_S
) -> Client:
    """A client of a cluster on this machine; opens no socket yet.

    `cluster`: its name; None means `KVCTL_CLUSTER`, else the only one. `home`: where clusters are
    kept, by default `$KVCTL_HOME` or the platform's state directory. `timeout_s`: the budget of a
    request, retries included. Raises `ClusterNotFoundError` or `ConfigError`.
    """
    directory, config = open_cluster(cluster, home)
    return Client(config, directory.keys, timeout_s=timeout_s)


class Client:
    """A blocking client; a context manager; not thread-safe."""

    def __init__(
        self, config: ClusterConfig, keys_dir: Path, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> None:
        """`keys_dir` holds `client.key` and the nodes' public keys. Raises `ConfigError`,
        `OpenFilesError`."""
        allow_open_files(client_files(len(config.nodes)), f"a client of {len(config.nodes)} nodes")
        credentials = Credentials(keys_dir)
        credentials.own_pair()
        self.cluster = config.name
        """The cluster's name."""
        self._config = config
        self._timeout_s = check_timeout(timeout_s)
        self._loop = RequestLoop(config, credentials)
        self._builder = RequestBuilder(config, self._loop, timeout_s)
        self._requests = 0

    def get(
        self,
        key: str | bytes,
        *,
        r: int | None = None,
        mode: str | None = None,
        repair: str = "async",
        via: str | None = None,
        timeout_s: float | None = None,
        explain: bool = False,
    ) -> GetResult:
        """All current versions of a key, from at least `r` replicas.

        `mode`: strict or sloppy; `repair`: `blocking` mends replicas that differ before it answers,
        so that reads are monotonic; `via`: ask exactly this node; `explain`: let the coordinator
        say what each replica answered. Whatever is None is the cluster's default.
        Raises `UnavailableError`, `ClusterUnreachableError` or `InvalidRequestError`.
        """
        self._loop.catch_up()
        pending = self._builder.get(
            key,
            r=r,
            mode=mode,
            repair=repair,
            via=self._node(via),
            timeout_s=timeout_s,
            explain=explain,
        )
        self._begin(pending)
        return pending.result()

    def put(
        self,
        key: str | bytes,
        value: bytes | str,
        *,
        w: int | None = None,
        mode: str | None = None,
        context: str | None = None,
        blind: bool = False,
        via: str | None = None,
        timeout_s: float | None = None,
    ) -> PutResult:
        """Write a value and wait until `w` replicas have stored it durably.

        Without more it supersedes what a read quorum holds now. With `context`, from an earlier
        get or put of this key, it supersedes exactly what that one saw; with `blind` it supersedes
        nothing. Raises `UnavailableError` (not applied), `IndeterminateError` (may have been
        applied), `ClusterUnreachableError`, `InvalidRequestError` or `WrongContextError`.
        """
        if value is None:
            raise InvalidRequestError("a value is bytes or text.", hint="delete removes a key.")
        self._loop.catch_up()
        pending = self._builder.put(
            key,
            value,
            w=w,
            mode=mode,
            context=context,
            blind=blind,
            via=self._node(via),
            timeout_s=timeout_s,
        )
        self._begin(pending)
        return pending.result()

    def delete(
        self,
        key: str | bytes,
        *,
        context: str | None = None,
        blind: bool = False,
        w: int | None = None,
        mode: str | None = None,
        via: str | None = None,
        timeout_s: float | None = None,
    ) -> PutResult:
        """Put a tombstone: the key reads as not found. Otherwise as `put`."""
        self._loop.catch_up()
        pending = self._builder.put(
            key,
            None,
            w=w,
            mode=mode,
            context=context,
            blind=blind,
            via=self._node(via),
            timeout_s=timeout_s,
        )
        self._begin(pending)
        return pending.result()

    def scan(
        self,
        prefix: str | bytes = "",
        *,
        keys_only: bool = False,
        conflicts_only: bool = False,
        limit: int | None = None,
        r: int | None = None,
        via: str | None = None,
    ) -> Iterator[GetResult]:
        """All keys that begin with `prefix`, in the order of the ring, a page at a time.

        Not a snapshot: a key written meanwhile may or may not be seen. Deleted keys are left out.
        `keys_only` fetches no versions (`found` is True, `siblings` empty); `conflicts_only` keeps
        keys with several versions; `limit` ends after so many keys. Raises as `get`, at any page.
        """
        wanted = prefix.encode("utf-8") if isinstance(prefix, str) else prefix
        replicas = 0 if r is None else self._builder.replicas("r", r)
        if limit is not None and limit < 0:
            raise InvalidRequestError(f"a limit cannot be negative: {limit}.")
        pages = self._pages(
            wanted,
            r=replicas,
            keys_only=keys_only,
            conflicts_only=conflicts_only,
            limit=limit,
            via=self._node(via),
        )
        return self._entries(pages, keys_only, conflicts_only, limit)

    def batch(
        self,
        in_flight: int = 256,
        *,
        ordered: bool = False,
        collect: bool = False,
        on_done: Callable[[Pending], None] | None = None,
    ) -> Batch:
        """A context manager that keeps up to `in_flight` requests going; see `Batch`.

        `ordered`: never two requests of one key in flight. `on_done` is called with each request
        that is done; with `collect`, `Batch.completed` yields them instead.
        Learns the ring first, and raises nothing if it cannot.
        """
        self._loop.upkeep.begin()
        self._loop.upkeep.await_map()
        return Batch(
            self._loop, self._builder, in_flight, ordered=ordered, collect=collect, on_done=on_done
        )

    def status(self, node: str, *, timeout_s: float | None = None) -> dict[str, Any]:
        """A node's snapshot of itself. Raises `UnavailableError` or `ClusterUnreachableError`."""
        request = ClientStatus(self._loop.next_id())
        pending = self._pending(request, self._node(node), timeout_s)
        reply = pending.answered()
        assert isinstance(reply, StatusDone)
        return reply.snapshot

    def describe(self, *, via: str | None = None) -> ClusterMap:
        """Who the members are and who owns what, as one node knows it. Raises as `status`."""
        from kvctl.client.cluster_map import map_from_description

        pending = self._pending(ClientDescribe(self._loop.next_id()), self._node(via), None)
        reply = pending.answered()
        assert isinstance(reply, Description)
        return map_from_description(reply)

    def set_quorum(
        self, *, r: int, w: int, mode: str, nodes: Sequence[str] = ()
    ) -> tuple[str, ...]:
        """Change the defaults of the running nodes (all, or those named); who now uses them.

        Nodes that do not answer are left out of the result: they keep what they had. Live only:
        kvctl keeps the durable copy. Raises `InvalidRequestError` on numbers that contradict.
        """
        try:
            QuorumConfig(n=self._config.quorum.n, r=r, w=w, mode=mode).validate()
        except ConfigError as error:
            raise InvalidRequestError(error.message, hint=error.hint) from error
        names = [self._node(name) for name in nodes] or list(self._loop.router.connections)
        asked: list[tuple[str, Pending]] = []
        for name in names:
            assert name is not None
            request = ClientSetQuorum(self._loop.next_id(), r, w, mode)
            asked.append((name, self._submit(PendingQuorum, request, name, None)))
        for _, pending in asked:
            pending.wait()
        return tuple(name for name, pending in asked if pending.error is None)

    def close(self) -> None:
        """Close the sockets; idempotent."""
        self._loop.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # ------------------------------------------------------------ one request

    def _begin(self, pending: Pending) -> None:
        self._requests += 1
        if self._requests == _REQUESTS_WITHOUT_MAP:
            self._loop.upkeep.begin()
        self._loop.submit(pending)

    def _pending(self, request: ClientRequest, via: str | None, timeout_s: float | None) -> Pending:
        return self._submit(Pending, request, via, timeout_s)

    def _submit(
        self,
        kind: type[Pending],
        request: ClientRequest,
        via: str | None,
        timeout_s: float | None,
    ) -> Pending:
        self._loop.catch_up()
        budget_s = self._timeout_s if timeout_s is None else check_timeout(timeout_s)
        now = monotonic()
        left_s = budget_s * (1 + GRACE_SHARE)
        attempt_s, _ = plan_attempt(left_s, writes=False, skew_s=0)
        pending = kind(
            self._loop, request, b"", now, now + left_s, attempt_ends=now + attempt_s, via=via
        )
        self._loop.submit(pending)
        return pending

    def _node(self, name: str | None) -> str | None:
        if name is None or name in self._loop.router.connections:
            return name
        known = ", ".join(sorted(self._loop.router.connections))
        raise InvalidRequestError(f"there is no node {name!r}.", hint=f"the nodes are {known}.")

    # ------------------------------------------------------------ scans

    def _pages(
        self,
        prefix: bytes,
        *,
        r: int,
        keys_only: bool,
        conflicts_only: bool,
        limit: int | None,
        via: str | None,
    ) -> Iterator[ScanDone]:
        partition, key = 0, b""
        page = SCAN_PAGE_KEYS if limit is None else max(1, min(limit, SCAN_PAGE_KEYS))
        while partition >= 0:
            request = ClientScan(
                self._loop.next_id(),
                partition,
                key,
                prefix,
                page,
                self._builder.deadline_ms(self._timeout_s),
                r,
                keys_only,
                conflicts_only,
            )
            reply = self._pending(request, via, None).answered()
            assert isinstance(reply, ScanDone)
            if (reply.next_partition, reply.next_key) == (partition, key):
                raise ProtocolError("a node answered a scan with the place it began at.")
            yield reply
            partition, key = reply.next_partition, reply.next_key

    def _entries(
        self, pages: Iterator[ScanDone], keys_only: bool, conflicts_only: bool, limit: int | None
    ) -> Iterator[GetResult]:
        left = -1 if limit is None else limit
        if left == 0:
            return
        kind = KeyOnly if keys_only else GetResult
        for page in pages:
            for key, content in page.entries:
                result = kind(key, content, cluster_id=self._config.cluster_id)
                if not result.found or (
                    # Siblings of one retried request are no conflict, which the nodes cannot see.
                    conflicts_only and not keys_only and len(result.siblings) < 2
                ):
                    continue
                yield result
                left -= 1
                if left == 0:
                    return
