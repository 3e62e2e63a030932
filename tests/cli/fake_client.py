"""A client whose answers the test wrote down; it remembers what it was asked."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

from kvctl.client import GetResult, PutResult
from kvctl_node.causality.causal_context import CausalContext
from kvctl_node.causality.siblings import (
    EMPTY_OBJECT,
    StoredObject,
    encode_context,
    encode_object,
    put_version,
)
from kvctl_node.errors import StoreError, TooLargeError
from kvctl_node.protocol.client_messages import (
    PutDone,
)

CLUSTER_ID = "c" * 32
NOTHING = CausalContext()
OnDone = Callable[[Any], None]


def stored(*values: bytes | None, actor: str = "n1#1") -> StoredObject:
    """An object whose versions were all written blindly: as many siblings as values."""
    made = EMPTY_OBJECT
    for value in values:
        made = put_version(made, value, actor=actor, seen=NOTHING, stamp_ms=1)[0]
    return made


VALUE_BYTES_MAX = 1024 * 1024
SIBLINGS_MAX = 4


class FakeClient:
    """Keeps objects by key; failures by key are raised instead."""

    def __init__(self) -> None:
        self.objects: dict[str, StoredObject] = {}
        self.failures: dict[str, StoreError] = {}
        self.calls: list[tuple[str, str, dict[str, Any]]] = []
        self.connected: dict[str, Any] = {}

    def connect(self, cluster: str | None = None, **options: Any) -> FakeClient:
        self.connected = {"cluster": cluster, **options}
        return self

    def __enter__(self) -> FakeClient:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def get(self, key: str | bytes, **options: Any) -> GetResult:
        text = self._record("get", key, options)
        found = self.objects.get(text)
        return GetResult(
            text.encode(),
            b"" if found is None else encode_object(found),
            cluster_id=CLUSTER_ID,
            coordinator="n1",
            replied=("n1", "n2"),
        )

    def put(self, key: str | bytes, value: bytes | str, **options: Any) -> PutResult:
        content = value.encode() if isinstance(value, str) else value
        return self._write("put", key, content, options)

    def delete(self, key: str | bytes, **options: Any) -> PutResult:
        return self._write("delete", key, None, options)

    def _write(
        self, call: str, key: str | bytes, value: bytes | None, options: dict[str, Any]
    ) -> PutResult:
        text = self._record(call, key, {"value": value, **options})
        before = self.objects.get(text, EMPTY_OBJECT)
        seen = NOTHING if options.get("blind") else before.context
        after = put_version(before, value, actor="n1#1", seen=seen, stamp_ms=1)[0]
        self.objects[text] = after
        reply = PutDone(
            1, encode_context(after.context), len(after.siblings), "n1", ("n1", "n2"), {"n4": "n3"}
        )
        return PutResult(text.encode(), reply, cluster_id=CLUSTER_ID)

    def scan(self, prefix: str | bytes = "", **options: Any) -> Iterator[GetResult]:
        start = self._record("scan", prefix, options)
        for key in sorted(self.objects):
            result = self.get(key)
            if not key.startswith(start) or not result.found:
                continue
            if not options.get("conflicts_only") or len(result.siblings) > 1:
                yield result

    def batch(self, in_flight: int, **options: Any) -> FakeBatch:
        self.calls.append(("batch", "", {"in_flight": in_flight, **options}))
        return FakeBatch(self)

    def of(self, call: str) -> list[tuple[str, dict[str, Any]]]:
        """(key, options) of every call of one kind, in order."""
        return [(key, options) for name, key, options in self.calls if name == call]

    def _record(self, call: str, key: str | bytes, options: dict[str, Any]) -> str:
        text = key.decode() if isinstance(key, bytes) else key
        self.calls.append((call, text, options))
        if text in self.failures:
            raise self.failures[text]
        return text


class FakeBatch:
    """Does at once what a batch does some time."""

    def __init__(self, client: FakeClient) -> None:
        self._client = client

    def __enter__(self) -> FakeBatch:
        return self

    def __exit__(self, *exception: object) -> None:
        return None

    def check(self, key: str, value: bytes | None) -> None:
        if value is not None and len(value) > VALUE_BYTES_MAX:
            raise TooLargeError(f"the value has {len(value)} bytes.")

    def check_siblings(self, values: Sequence[bytes | None]) -> None:
        if len(values) > SIBLINGS_MAX:
            raise TooLargeError(f"the key would have {len(values)} siblings.")

    def put(
        self, key: str, value: bytes, *, on_done: Callable[[Any], None], **options: Any
    ) -> None:
        self._submit(lambda: self._client.put(key, value, **options), key, on_done)

    def delete(self, key: str, *, on_done: OnDone, **options: Any) -> None:
        self._submit(lambda: self._client.delete(key, **options), key, on_done)

    @staticmethod
    def _submit(call: Callable[[], object], key: str, on_done: OnDone) -> None:
        error = None
        try:
            call()
        except StoreError as raised:
            error = raised
        on_done(SimpleNamespace(key=key.encode(), done=True, error=error))
