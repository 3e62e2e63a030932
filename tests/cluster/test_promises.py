"""What a client may rely on, on real processes: versions, quorums, definite and indefinite failure.

The laws behind these are tested exhaustively on the pure classes and in simulation. Here they hold
between real nodes, through real sockets, by the public Python API.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

import pytest

from kvctl.client import Client
from kvctl.cluster.local_cluster import Cluster
from kvctl.errors import ConflictError
from kvctl_node.errors import IndeterminateError, UnavailableError, WrongContextError

NODES = ("n1", "n2", "n3", "n4", "n5")
Eventually = Callable[[Callable[[], object]], None]


@pytest.fixture(scope="module")
def five_nodes() -> Iterator[Cluster]:
    """Five nodes, N=3 R=2 W=2; every test leaves all of them up."""
    with Cluster(nodes=5) as cluster:
        yield cluster


@pytest.fixture
def client(five_nodes: Cluster) -> Client:
    """A client of those nodes; the cluster closes it."""
    return five_nodes.client()


def values_of(client: Client, key: str) -> list[bytes | None]:
    return sorted((version.value for version in client.get(key).siblings), key=lambda v: v or b"")


def owners_of(client: Client, key: str) -> list[str]:
    return [*client.describe().owners_of(key.encode())]


def sees(client: Client, observer: str, peer: str) -> bool:
    return bool(client.status(observer)["peers"][peer]["reachable"])


# ---------------------------------------------------------------------- versions


def test_one_user_overwriting_through_any_node_never_meets_a_sibling(client: Client) -> None:
    choose = random.Random(7)
    for number in range(100):
        put = client.put("diary", f"page {number}", via=choose.choice(NODES))
        assert put.siblings == 1
        if number % 10 == 0:
            assert client.get("diary", via=choose.choice(NODES)).value == f"page {number}".encode()
    assert client.get("diary").value == b"page 99"


def test_two_writers_who_saw_the_same_version_leave_two_siblings(client: Client) -> None:
    seen = client.put("cart", "empty").context
    assert client.put("cart", "milk", context=seen, via="n1").siblings == 1
    assert client.put("cart", "eggs", context=seen, via="n1").siblings == 2
    assert values_of(client, "cart") == [b"eggs", b"milk"]
    with pytest.raises(ConflictError):
        _ = client.get("cart").value


def test_two_blind_puts_leave_two_siblings(client: Client) -> None:
    client.put("blind", "one", blind=True)
    client.put("blind", "two", blind=True, via="n4")
    assert values_of(client, "blind") == [b"one", b"two"]


def test_two_clients_with_contexts_of_their_own_leave_exactly_the_two_newest(
    client: Client,
) -> None:
    contexts = {"a": client.put("duel", "start").context}
    contexts["b"] = contexts["a"]
    choose = random.Random(3)
    for number in range(100):
        for writer in ("a", "b"):
            put = client.put(
                "duel",
                f"{writer}{number}",
                context=contexts[writer],
                via=choose.choice(NODES),
            )
            contexts[writer] = put.context
            assert put.siblings <= 2
    assert values_of(client, "duel") == [b"a99", b"b99"]


def test_clients_that_read_before_each_write_leave_exactly_one(client: Client) -> None:
    choose = random.Random(5)
    for number in range(50):
        for writer in ("a", "b"):
            seen = client.get("turns", via=choose.choice(NODES)).context
            client.put("turns", f"{writer}{number}", context=seen, via=choose.choice(NODES))
    assert values_of(client, "turns") == [b"b49"]


def test_a_context_of_another_key_is_refused_and_changes_nothing(client: Client) -> None:
    client.put("mine", "untouched")
    foreign = client.put("yours", "x").context
    with pytest.raises(WrongContextError):
        client.put("mine", "overwritten", context=foreign)
    with pytest.raises(WrongContextError):
        client.put("mine", "overwritten", context=foreign[:-2])
    assert client.get("mine").value == b"untouched"


def test_a_delete_of_what_was_seen_spares_what_was_not(client: Client) -> None:
    seen = client.put("list", "old").context
    client.put("list", "new", blind=True)
    client.delete("list", context=seen)
    assert client.get("list").found
    assert b"new" in values_of(client, "list")
    assert b"old" not in values_of(client, "list")


# ---------------------------------------------------------------------- quorums


def test_a_strict_put_without_its_quorum_is_indefinite_until_the_dead_are_known_then_definite(
    five_nodes: Cluster, client: Client, eventually: Eventually
) -> None:
    client.put("ledger", "balanced")
    first, *dead = owners_of(client, "ledger")
    five_nodes.kill(*dead)
    try:
        # A closed connection is known at once; what a put may say before that is "may be".
        try:
            client.put("ledger", "early", mode="strict", via=first, timeout_s=1.0)
        except (IndeterminateError, UnavailableError):
            pass
        eventually(lambda: not any(sees(client, first, peer) for peer in dead))
        for number in range(20):
            with pytest.raises(UnavailableError):
                client.put("ledger", f"refused {number}", mode="strict", via=first)
        sloppy = client.put("beside", "accepted", mode="sloppy")
        assert len(sloppy.acked) >= 2
    finally:
        five_nodes.start(*dead)
    for node in NODES:
        read = client.get("ledger", r=3, via=node, repair="blocking")
        assert not [v for v in read.siblings if (v.value or b"").startswith(b"refused")]
    assert client.get("beside").value == b"accepted"


def test_all_replicas_of_three_cannot_acknowledge_while_one_is_dead(
    five_nodes: Cluster, client: Client, eventually: Eventually
) -> None:
    key = "trio"
    client.put(key, "three copies", w=3)
    first, _, last = owners_of(client, key)
    five_nodes.kill(last)
    try:
        eventually(lambda: not sees(client, first, last))
        with pytest.raises(UnavailableError):
            client.put(key, "two copies", w=3, mode="strict", via=first)
        put = client.put(key, "a stand-in", w=3, mode="sloppy", via=first)
        assert put.degraded
        assert list(put.hinted.values()) == [last]
    finally:
        five_nodes.start(last)
    eventually(lambda: not client.status(next(iter(put.hinted)))["hints"])
    assert client.get(key, r=3, mode="strict").value == b"a stand-in"


def test_a_client_that_was_idle_while_a_node_restarted_asks_it_anew(
    five_nodes: Cluster, client: Client
) -> None:
    client.put("anew", "value", w=3)
    for node in NODES:
        assert client.get("anew", via=node).found
    five_nodes.restart("n5")
    assert client.get("anew", via="n5", timeout_s=5.0).value == b"value"
