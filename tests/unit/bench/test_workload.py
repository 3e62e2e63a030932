"""The workload of a benchmark: it notices every wrong answer, and only those."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from kvctl.bench.workload import Measurement, WorkloadClient, WorkloadOptions
from kvctl_node.errors import FailureKind, InvalidRequestError, ProtocolError
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientReply,
    ClientRequest,
    GetDone,
)
from tests.unit.client.scripted_node import ScriptedCluster, ScriptedNode

SMALL = WorkloadOptions(seconds=0.5, warm_up_s=0.02, keys=64, in_flight=16, run=0x2A)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ScriptedCluster]:
    """Three scripted nodes."""
    scripted = ScriptedCluster(tmp_path)
    scripted.start()
    try:
        yield scripted
    finally:
        scripted.stop()


def measure(cluster: ScriptedCluster, **changes: object) -> Measurement:
    """Preload and run with `SMALL` changed."""
    options = msgspec.structs.replace(SMALL, **changes)
    workload = WorkloadClient(cluster.client(timeout_s=1.0), options, 1)
    workload.preload()
    return workload.run()


def answer_gets(cluster: ScriptedCluster, change: object) -> None:
    """Let `change` alter the content of every get's answer."""
    assert callable(change)

    def rig(node: ScriptedNode) -> None:
        def on_request(request: ClientRequest) -> ClientReply:
            reply = node.answer(request)
            if isinstance(reply, GetDone) and isinstance(request, ClientGet):
                return msgspec.structs.replace(reply, content=change(request, reply.content))
            return reply

        node.on_request = on_request

    for node in cluster.nodes.values():
        rig(node)


@pytest.mark.parametrize("workload", ["put", "get", "mixed"])
@pytest.mark.parametrize("put_kind", ["overwrite", "blind"])
def test_a_correct_store_gives_operations_and_no_errors(
    cluster: ScriptedCluster, workload: str, put_kind: str
) -> None:
    measured = measure(cluster, workload=workload, put_kind=put_kind)
    assert measured.errors == 0, measured.samples
    assert measured.ops > 0
    assert sum(measured.histogram) == measured.ops
    kinds = {type(one) for node in cluster.nodes.values() for one in node.requests}
    if workload == "mixed":
        assert {ClientGet, ClientPut} <= kinds
    assert all(len(stored.siblings) == 1 for stored in cluster.store.objects.values())


def test_a_value_read_back_is_one_this_run_wrote_for_that_key(cluster: ScriptedCluster) -> None:
    others = {}

    def swap(request: ClientGet, content: bytes) -> bytes:
        others[request.key] = content
        return next(iter(others.values()))  # for all keys but one, another key's value

    answer_gets(cluster, swap)
    measured = measure(cluster, workload="get")
    assert measured.errors > 0
    assert "did not write there" in measured.samples[0]


def test_a_lost_write_is_an_error(cluster: ScriptedCluster) -> None:
    answer_gets(cluster, lambda request, content: b"")
    measured = measure(cluster, workload="get")
    assert measured.ops == 0
    assert "reads as value 0, but 1 was acknowledged" in measured.samples[0]


def test_a_stale_read_is_an_error(cluster: ScriptedCluster) -> None:
    first: dict[bytes, bytes] = {}
    answer_gets(cluster, lambda request, content: first.setdefault(request.key, content))
    measured = measure(cluster, workload="mixed", keys=32)
    assert measured.errors > 0
    assert "was acknowledged" in measured.samples[0]


def test_a_damaged_answer_is_an_error(cluster: ScriptedCluster) -> None:
    answer_gets(cluster, lambda request, content: content[:-3])
    measured = measure(cluster, workload="get")
    assert measured.ops == 0
    assert "cannot be decoded" in measured.samples[0]


def test_an_answer_that_is_damaged_after_a_good_one_is_an_error(cluster: ScriptedCluster) -> None:
    read: set[bytes] = set()

    def damage_the_second(request: ClientGet, content: bytes) -> bytes:
        if request.key in read:
            return content[:-3]
        read.add(request.key)
        return content

    answer_gets(cluster, damage_the_second)
    measured = measure(cluster, workload="get", warm_up_s=0.0)
    assert 0 < measured.ops <= SMALL.keys
    assert measured.errors > 0
    assert "cannot be decoded" in measured.samples[0]


def test_refusals_are_counted_as_errors(cluster: ScriptedCluster) -> None:
    workload = WorkloadClient(cluster.client(timeout_s=1.0), SMALL, 1)
    workload.preload()
    for node in cluster.nodes.values():
        node.refuse(FailureKind.INVALID, "no.")
    measured = workload.run()
    assert measured.ops == 0
    assert measured.errors > 0
    assert measured.samples[0] == "no."


def test_keys_that_cannot_be_preloaded_end_the_run(cluster: ScriptedCluster) -> None:
    for node in cluster.nodes.values():
        node.refuse(FailureKind.UNAVAILABLE, "too few replicas.")
    with pytest.raises(ProtocolError, match="too few replicas"):
        measure(cluster)


def test_no_key_has_two_requests_in_flight(cluster: ScriptedCluster) -> None:
    measure(cluster, workload="mixed", keys=32)
    for node in cluster.nodes.values():
        for frame in node.frames:
            keys = [one.key for one in frame if isinstance(one, ClientGet | ClientPut)]
            assert len(keys) == len(set(keys))


@pytest.mark.parametrize(
    "wrong",
    [
        {"workload": "scan"},
        {"put_kind": "context"},
        {"in_flight": 0},
        {"seconds": 0.0},
        {"value_bytes": 7},
        {"keys": 31},
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(InvalidRequestError):
        msgspec.structs.replace(SMALL, **wrong).validate()
    SMALL.validate()
