"""One request at a time against scripted nodes: results, arguments, scans, administration."""

from __future__ import annotations

from pathlib import Path

import pytest

from kvctl.client.client import Client
from kvctl.errors import ConflictError
from kvctl_node.config import ClusterConfig, NodeSpec
from kvctl_node.errors import ConfigError, InvalidRequestError, TooLargeError, WrongContextError
from kvctl_node.protocol.client_messages import (
    ClientGet,
    ClientPut,
    ClientSetQuorum,
    PutKind,
    RepairMode,
)
from tests.unit.client.scripted_node import CLUSTER_ID, ScriptedCluster


def test_a_value_put_is_read_back(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    put = client.put("greeting", "grüß dich")
    assert put.acked == (put.coordinator,)
    assert put.siblings == 1
    found = client.get("greeting")
    assert found.found
    assert found.value == "grüß dich".encode()
    assert found.text == "greeting"


def test_a_key_never_written_is_not_found_and_has_a_context_to_create_it_with(
    cluster: ScriptedCluster,
) -> None:
    client = cluster.client()
    missing = client.get("k")
    assert not missing.found
    assert missing.value is None
    assert missing.siblings == ()
    client.put("k", b"v", context=missing.context)
    assert client.get("k").value == b"v"


def test_a_deleted_key_is_not_found(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    client.put("k", b"v")
    client.delete("k")
    gone = client.get("k")
    assert not gone.found
    client.put("k", b"again", context=gone.context)
    assert client.get("k").value == b"again"


def test_siblings_are_all_shown_and_value_refuses_to_choose(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    client.put("k", b"one")
    client.put("k", b"two", blind=True)
    found = client.get("k")
    assert {version.value for version in found.siblings} == {b"one", b"two"}
    with pytest.raises(ConflictError) as caught:
        _ = found.value
    assert "2 conflicting versions" in caught.value.message


def test_a_put_with_the_context_of_a_read_resolves_the_siblings_it_saw(
    cluster: ScriptedCluster,
) -> None:
    client = cluster.client()
    client.put("k", b"one")
    client.put("k", b"two", blind=True)
    context = client.get("k").context
    client.put("k", b"three", blind=True)
    client.put("k", b"settled", context=context)
    assert {one.value for one in client.get("k").siblings} == {b"settled", b"three"}


def test_options_travel_as_asked(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    client.put("k", b"v", w=3, mode="strict", via="n2")
    client.get("k", r=1, mode="sloppy", repair="blocking", via="n2", explain=True)
    put, get = cluster.nodes["n2"].requests
    assert isinstance(put, ClientPut)
    assert (put.w, put.mode, put.kind, put.attempt) == (3, 1, PutKind.OVERWRITE, 0)
    assert 2000 < put.deadline_ms - put.started_ms < 5000
    assert isinstance(get, ClientGet)
    assert (get.r, get.mode, get.repair, get.explain) == (1, 2, RepairMode.BLOCKING, True)


@pytest.mark.parametrize(
    ("key", "error"),
    [
        ("", InvalidRequestError),
        (b"\xff", InvalidRequestError),
        ("x" * 1025, TooLargeError),
        ("\ud800", InvalidRequestError),
    ],
)
def test_a_wrong_key_is_refused_before_anything_is_sent(
    cluster: ScriptedCluster, key: str | bytes, error: type[InvalidRequestError]
) -> None:
    client = cluster.client()
    with pytest.raises(error):
        client.get(key)
    with pytest.raises(error):
        client.put(key, b"v")
    assert not any(node.requests for node in cluster.nodes.values())


def test_the_largest_key_and_value_pass_and_one_byte_more_does_not(
    cluster: ScriptedCluster,
) -> None:
    client = cluster.client()
    client.put("k" * 1024, b"v" * 1024 * 1024)
    assert len(client.get("k" * 1024).value or b"") == 1024 * 1024
    with pytest.raises(TooLargeError, match="1048577 bytes"):
        client.put("k", b"v" * (1024 * 1024 + 1))


@pytest.mark.parametrize("bad", [0, -1, 4])
def test_an_r_or_w_outside_one_to_n_is_refused(cluster: ScriptedCluster, bad: int) -> None:
    client = cluster.client()
    with pytest.raises(InvalidRequestError, match="between 1 and N=3"):
        client.get("k", r=bad)
    with pytest.raises(InvalidRequestError, match="between 1 and N=3"):
        client.put("k", b"v", w=bad)


def test_other_contradictions_are_refused(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    context = client.get("k").context
    with pytest.raises(InvalidRequestError, match="strict or sloppy"):
        client.get("k", mode="eventual")
    with pytest.raises(InvalidRequestError, match="async or blocking"):
        client.get("k", repair="never")
    with pytest.raises(InvalidRequestError, match="cannot have a context"):
        client.put("k", b"v", context=context, blind=True)
    with pytest.raises(InvalidRequestError, match="no node 'n9'"):
        client.get("k", via="n9")
    with pytest.raises(InvalidRequestError, match="timeout"):
        client.get("k", timeout_s=0)


def test_a_context_of_another_key_or_a_damaged_one_is_refused(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    client.put("a", b"v")
    context = client.get("a").context
    with pytest.raises(WrongContextError):
        client.put("b", b"v", context=context)
    with pytest.raises(WrongContextError):
        client.put("a", b"v", context=context[:-4])
    with pytest.raises(WrongContextError):
        client.put("a", b"v", context="ü")
    assert client.get("b").found is False


def test_a_scan_pages_through_everything_under_a_prefix(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    with client.batch() as batch:
        for number in range(1200):
            batch.put(f"a{number}", str(number))
        batch.put("b", b"other")
    client.delete("a7")
    seen = {entry.text: entry.value for entry in client.scan("a")}
    assert seen == {f"a{n}": str(n).encode() for n in range(1200) if n != 7}
    assert len(list(client.scan("a", limit=10))) == 10
    assert list(client.scan("a", limit=0)) == []
    assert all(entry.found and not entry.siblings for entry in client.scan(keys_only=True))


def test_a_scan_for_conflicts_yields_only_keys_with_several_versions(
    cluster: ScriptedCluster,
) -> None:
    client = cluster.client()
    client.put("calm", b"1")
    client.put("torn", b"1")
    client.put("torn", b"2", blind=True)
    assert [entry.text for entry in client.scan(conflicts_only=True)] == ["torn"]


def test_a_status_is_asked_of_the_named_node(cluster: ScriptedCluster) -> None:
    assert cluster.client().status("n3") == {"name": "n3"}


def test_describe_names_members_owners_and_quorum(cluster: ScriptedCluster) -> None:
    known = cluster.client().describe()
    assert known.members == ("n1", "n2", "n3")
    assert sorted(known.owners_of(b"k")) == ["n1", "n2", "n3"]
    assert (known.quorum.n, known.quorum.r, known.quorum.w) == (3, 2, 2)
    assert known.epoch == 1


def test_a_quorum_is_set_on_every_node_that_answers(cluster: ScriptedCluster) -> None:
    cluster.nodes["n2"].stop()
    client = cluster.client(timeout_s=1.0)
    assert client.set_quorum(r=1, w=3, mode="strict") == ("n1", "n3")
    request = cluster.nodes["n1"].requests[0]
    assert isinstance(request, ClientSetQuorum)
    assert (request.r, request.w, request.mode) == (1, 3, "strict")
    with pytest.raises(InvalidRequestError):
        client.set_quorum(r=4, w=1, mode="strict")


def test_a_client_without_keys_is_told_so_before_it_connects(tmp_path: Path) -> None:
    config = ClusterConfig((NodeSpec("n1", client_port=1),), cluster_id=CLUSTER_ID)
    with pytest.raises(ConfigError, match="cannot read the key"):
        Client(config, tmp_path / "keys")


def test_a_closed_client_refuses_requests(cluster: ScriptedCluster) -> None:
    client = cluster.client()
    client.close()
    client.close()
    with pytest.raises(InvalidRequestError, match="closed"):
        client.get("k")
