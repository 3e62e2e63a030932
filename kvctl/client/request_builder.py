"""Arguments into requests: checked here, so that a mistake costs no round trip.

Keys are UTF-8 text of 1 to `key_bytes_max` bytes, values any bytes up to `value_bytes_max` (text is
encoded as UTF-8). A causal context is decoded and checked against key and cluster before it
travels. Everything wrong raises `InvalidRequestError` or its kin: definitely nothing was sent.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from random import SystemRandom

import msgspec

from kvctl.client.client_clock import monotonic
from kvctl.client.request import GRACE_SHARE, Pending, PendingGet, PendingPut, plan_attempt
from kvctl.client.request_loop import RequestLoop
from kvctl_node.causality.context_token import decode_token, token_from_text
from kvctl_node.config import ClusterConfig, QuorumMode
from kvctl_node.errors import ConfigError, InvalidRequestError, TooLargeError
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    PutKind,
    RepairMode,
)

# Plain integers: reading an enum member costs a tenth of a whole request.
_OVERWRITE, _CONTEXT, _BLIND = (int(kind) for kind in PutKind)
_STAMP_S = 0.001
"""Requests made one right after the other share a stamp, which is in milliseconds."""
_REPAIRS = {"async": int(RepairMode.ASYNC), "blocking": int(RepairMode.BLOCKING)}


SIBLING_BYTES = 256
"""More than a sibling takes besides its value."""


class RequestBuilder:
    """Makes the requests of one client instance, numbered and stamped."""

    def __init__(self, config: ClusterConfig, loop: RequestLoop, timeout_s: float) -> None:
        """`timeout_s`: for requests that name none. Raises `InvalidRequestError`."""
        self._loop = loop
        self._next_id = loop.next_id
        self._cluster_id = config.cluster_id
        self._key_bytes_max = config.limits.key_bytes_max
        self._value_bytes_max = config.limits.value_bytes_max
        self._limits = config.limits
        self._n = config.quorum.n
        self._timeout_s = check_timeout(timeout_s)
        self._skew_s = config.timing.clock_skew_ms / 1000
        self._clock = loop.clock
        # What every request with the usual timeout is given, worked out once.
        self._usual_put = self._budget(timeout_s, writes=True)
        self._usual_get = self._budget(timeout_s, writes=False)
        self._client = SystemRandom().getrandbits(63)

    def put(
        self,
        key: str | bytes,
        value: bytes | str | None,
        *,
        w: int | None = None,
        mode: str | None = None,
        context: str | None = None,
        blind: bool = False,
        via: str | None = None,
        timeout_s: float | None = None,
    ) -> PendingPut:
        """A put, or with the value None a delete. HOT PATH."""
        key = self.key_bytes(key)
        if value is None:
            size = 0
        else:
            value = self.value_bytes(value)
            size = len(value)
        token = b""
        kind = _BLIND if blind else _OVERWRITE
        if context is not None:
            token = self._token(key, context, blind)
            kind = _CONTEXT
        if timeout_s is None:
            budget_s, attempt_s, node_s = self._usual_put
        else:
            budget_s, attempt_s, node_s = self._budget(check_timeout(timeout_s), writes=True)
        number = self._next_id()
        started_ms = int(self._clock.wall_s() * 1000)
        started_at = monotonic()
        request = ClientPut(
            number,
            key,
            value,
            kind,
            started_ms + int(node_s * 1000),
            self._client,
            number,
            started_ms,
            0,
            token,
            0 if w is None else self.replicas("w", w),
            0 if mode is None else _mode(mode),
        )
        return PendingPut(
            self._loop,
            request,
            key,
            started_at,
            started_at + budget_s,
            attempt_ends=started_at + attempt_s,
            via=via,
            content_bytes=size + len(key) + len(token),
        )

    def puts(
        self,
        pairs: Iterable[tuple[str | bytes, bytes | str]],
        *,
        w: int | None = None,
        mode: str | None = None,
        blind: bool = False,
    ) -> Iterator[PendingPut]:
        """A put for each key and value, made when it is asked for. HOT PATH."""
        loop, client, next_id = self._loop, self._client, self._next_id
        kind = _BLIND if blind else _OVERWRITE
        replicas = 0 if w is None else self.replicas("w", w)
        mode_number = 0 if mode is None else _mode(mode)
        budget_s, attempt_s, node_s = self._usual_put
        stamped_at, started_ms, deadline_ms = -math.inf, 0, 0
        for text, content in pairs:
            key, value = self.key_bytes(text), self.value_bytes(content)
            number = next_id()
            started_at = monotonic()
            if started_at - stamped_at >= _STAMP_S:
                stamped_at, started_ms = started_at, int(self._clock.wall_s() * 1000)
                deadline_ms = started_ms + int(node_s * 1000)
            yield PendingPut(
                loop,
                ClientPut(
                    number,
                    key,
                    value,
                    kind,
                    deadline_ms,
                    client,
                    number,
                    started_ms,
                    w=replicas,
                    mode=mode_number,
                ),
                key,
                started_at,
                started_at + budget_s,
                started_at + attempt_s,
                content_bytes=len(key) + len(value),
            )

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
    ) -> PendingGet:
        """A get. HOT PATH."""
        key = self.key_bytes(key)
        if timeout_s is None:
            timeout_s = self._timeout_s
            budget_s, attempt_s, _ = self._usual_get
        else:
            budget_s, attempt_s, _ = self._budget(check_timeout(timeout_s), writes=False)
        request = ClientGet(
            self._next_id(),
            key,
            int((self._clock.wall_s() + timeout_s) * 1000),
            0 if r is None else self.replicas("r", r),
            0 if mode is None else _mode(mode),
            _repair_mode(repair),
            explain,
        )
        started_at = monotonic()
        return PendingGet(
            self._loop,
            request,
            key,
            started_at,
            started_at + budget_s,
            attempt_ends=started_at + attempt_s,
            via=via,
            content_bytes=len(key),
        )

    def gets(
        self,
        keys: Iterable[str | bytes],
        *,
        r: int | None = None,
        mode: str | None = None,
        repair: str = "async",
    ) -> Iterator[PendingGet]:
        """A get of each key, made when it is asked for. HOT PATH."""
        loop, next_id = self._loop, self._next_id
        replicas = 0 if r is None else self.replicas("r", r)
        mode_number = 0 if mode is None else _mode(mode)
        repair_mode = _repair_mode(repair)
        budget_s, attempt_s, _ = self._usual_get
        stamped_at, deadline_ms = -math.inf, 0
        for text in keys:
            key = self.key_bytes(text)
            started_at = monotonic()
            if started_at - stamped_at >= _STAMP_S:
                stamped_at, deadline_ms = started_at, self.deadline_ms(self._timeout_s)
            yield PendingGet(
                loop,
                ClientGet(next_id(), key, deadline_ms, replicas, mode_number, repair_mode),
                key,
                started_at,
                started_at + budget_s,
                started_at + attempt_s,
                content_bytes=len(key),
            )

    def _budget(self, timeout_s: float, *, writes: bool) -> tuple[float, float, float]:
        """(seconds in all, for the first attempt, until the node must not act any more)."""
        budget_s = timeout_s * (1 + GRACE_SHARE)
        return budget_s, *plan_attempt(budget_s, writes=writes, skew_s=self._skew_s)

    def restart_clock(self, pending: Pending) -> None:
        """Stamp a request again that had to wait before its first attempt."""
        now = monotonic()
        delay_s = now - pending.started_at
        pending.started_at = now
        pending.deadline += delay_s
        pending.attempt_ends += delay_s
        delay_ms = int(delay_s * 1000)
        request = pending.request
        if isinstance(request, ClientPut):
            pending.request = msgspec.structs.replace(
                request,
                deadline_ms=request.deadline_ms + delay_ms,
                started_ms=request.started_ms + delay_ms,
            )
        elif isinstance(request, ClientGet):
            pending.request = msgspec.structs.replace(
                request, deadline_ms=request.deadline_ms + delay_ms
            )

    def key_bytes(self, key: str | bytes) -> bytes:
        """The key as bytes. Raises `InvalidRequestError` or `TooLargeError`. HOT PATH."""
        if isinstance(key, str):
            key = _encode(key, "a key")
        elif not key.isascii():
            check_key(key, self._key_bytes_max)
        if not 0 < len(key) <= self._key_bytes_max:
            check_key(key, self._key_bytes_max)
        return key

    def value_bytes(self, value: str | bytes) -> bytes:
        """The value as bytes. Raises `InvalidRequestError` or `TooLargeError`."""
        if isinstance(value, str):
            value = _encode(value, "a value")
        if len(value) > self._value_bytes_max:
            raise TooLargeError(
                f"the value has {len(value)} bytes, the limit is {self._value_bytes_max}.",
                hint="limits.value_bytes_max in the cluster's configuration sets it.",
            )
        return value

    def check_siblings(self, values: Sequence[bytes | None]) -> None:
        """Raises `TooLargeError` for more siblings than one key can have."""
        limits = self._limits
        if len(values) > limits.siblings_max:
            raise TooLargeError(
                f"the key would have {len(values)} siblings, the limit is {limits.siblings_max}."
            )
        size_bytes = sum(len(value) + SIBLING_BYTES for value in values if value is not None)
        if size_bytes > limits.record_bytes_max:
            raise TooLargeError(
                f"the key's siblings would have {size_bytes} bytes together, the limit is "
                f"{limits.record_bytes_max}."
            )

    def replicas(self, letter: str, count: int) -> int:
        """An R or W of one request. Raises `InvalidRequestError` unless 1 <= count <= N."""
        if not 1 <= count <= self._n:
            raise InvalidRequestError(
                f"{letter} must be between 1 and N={self._n}, not {count}.",
                hint=f"choose {letter} from 1 to {self._n}.",
            )
        return count

    def deadline_ms(self, timeout_s: float) -> int:
        """The wall-clock deadline of a request that starts now."""
        return int((self._clock.wall_s() + timeout_s) * 1000)

    def _token(self, key: bytes, context: str, blind: bool) -> bytes:
        if blind:
            raise InvalidRequestError(
                "a blind put supersedes nothing, so it cannot have a context.",
                hint="give either the context or blind.",
            )
        token = token_from_text(context)
        decode_token(token, cluster_id=self._cluster_id, key=key)
        return token


def check_key(key: bytes, bytes_max: int) -> None:
    """Raises `InvalidRequestError` or `TooLargeError` for what cannot be a key."""
    try:
        key.decode("utf-8")
    except UnicodeDecodeError as error:
        raise InvalidRequestError(
            "a key must be valid UTF-8 text.",
            hint="encode binary keys, for example as hex or base64.",
        ) from error
    if not key:
        raise InvalidRequestError("a key cannot be empty.")
    if len(key) > bytes_max:
        raise TooLargeError(
            f"the key has {len(key)} bytes, the limit is {bytes_max}.",
            hint="limits.key_bytes_max in the cluster's configuration sets it.",
        )


def check_timeout(timeout_s: float) -> float:
    """Raises `InvalidRequestError` unless the timeout is more than a millisecond and finite."""
    if not 0.001 <= timeout_s <= 86_400:
        raise InvalidRequestError(
            f"a timeout must be from 1 millisecond to a day, not {timeout_s} seconds."
        )
    return timeout_s


def _mode(text: str) -> int:
    try:
        return int(QuorumMode.parse(text))
    except ConfigError as error:
        raise InvalidRequestError(error.message) from error


def _repair_mode(text: str) -> int:
    number = _REPAIRS.get(text)
    if number is None:
        raise InvalidRequestError(f"repair must be async or blocking, not {text!r}.")
    return number


def _encode(text: str, what: str) -> bytes:
    try:
        return text.encode("utf-8")
    except UnicodeEncodeError as error:
        raise InvalidRequestError(
            f"{what} must be valid Unicode text.",
            hint="it holds half of a surrogate pair; give bytes instead.",
        ) from error
