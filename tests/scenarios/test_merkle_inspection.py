"""Descending two nodes' Merkle trees by hand finds the key that differs, and only that one."""

import pytest

from kvctl.view.merkle_descent import Level, Place, children_of, keys_of
from kvctl_node.causality.causal_context import EMPTY_CONTEXT
from kvctl_node.causality.siblings import EMPTY_OBJECT, encode_object, put_version
from kvctl_node.config import RepairConfig
from kvctl_node.errors import FailureKind
from kvctl_node.protocol.client_messages import (
    AdminDone,
    ClientAdmin,
    Failed,
)
from tests.virtual_cluster import VirtualCluster

PAIR = ("n1", "n2")


def ask(cluster, via, command, **arguments):
    number = 6_000_000 + len(cluster.replies)
    cluster.send(via, ClientAdmin(number, command, arguments))
    return cluster.answer(number)


def content(value):
    stored, _ = put_version(
        EMPTY_OBJECT, value, actor="n1#1", seen=EMPTY_CONTEXT, stamp_ms=1_700_000_000_000
    )
    return encode_object(stored)


def store(cluster, name, key):
    """Put an object on one node's disk, past the network."""
    node = cluster.node(name)
    node.state.replica.apply(node.state.map.partition_of(key), key, content(b"x"), b"", b"")


@pytest.fixture
def cluster():
    """Three nodes that hold the same, but for `cart:7`, which n2 lacks."""
    made = VirtualCluster(3, repair=RepairConfig(compare_interval_ms=0))
    made.run_for(5)
    for number in range(20):
        for name in ("n1", "n2", "n3"):
            if (name, number) != ("n2", 7):
                store(made, name, b"cart:%d" % number)
    for host in made.hosts.values():
        host.storage.commit()
    return made


def level_of(cluster, place):
    """What both nodes say of a place, as the dashboard asks it."""
    one, other = place.pair
    question = {"level": int(place.level), "parents": [place.parent]}
    answers = [
        ask(cluster, one, "merkle_hashes", peer=other, **question),
        ask(cluster, other, "merkle_hashes", peer=one, **question),
    ]
    assert all(isinstance(answer, AdminDone) and answer.result["ready"] for answer in answers)
    return children_of([answer.result for answer in answers])


def test_a_person_descends_along_what_differs_to_the_key(cluster):
    place = Place(PAIR)
    while place.level is not Level.KEYS:
        differing = [child for child in level_of(cluster, place) if not child.is_equal]
        assert len(differing) == 1, place
        place = place.entered(differing[0].number)
    listings = [
        ask(cluster, via, "merkle_keys", peer=peer, leaf=place.parent).result["keys"]
        for via, peer in (PAIR, PAIR[::-1])
    ]
    differing = [key for key in keys_of(listings) if not key.is_equal]
    assert [(key.key, key.clocks) for key in differing] == [("cart:7", ("n1:1", None))]


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("merkle_hashes", {"peer": "n1", "level": 0}),
        ("merkle_hashes", {"peer": "n9", "level": 0}),
        ("merkle_hashes", {"peer": "n2"}),
        ("merkle_hashes", {"peer": "n2", "level": 4}),
        ("merkle_hashes", {"peer": "n2", "level": True}),
        ("merkle_hashes", {"peer": "n2", "level": 3, "parents": "all"}),
        ("merkle_hashes", {"peer": "n2", "level": 3, "parents": [True]}),
        ("merkle_hashes", {"peer": "n2", "level": 3, "parents": list(range(65))}),
        ("merkle_keys", {"peer": "n2", "leaf": -1}),
        ("merkle_keys", {"peer": "n2", "leaf": 1 << 40}),
        ("merkle_keys", {"peer": "n2", "leaf": 1, "start": "text"}),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_with_a_sentence(cluster, command, arguments):
    reply = ask(cluster, "n1", command, **arguments)
    assert isinstance(reply, Failed) and reply.kind == FailureKind.INVALID
    assert reply.message.endswith(".")


def test_parents_that_the_pair_does_not_share_have_no_children(cluster):
    reply = ask(cluster, "n1", "merkle_hashes", peer="n2", level=3, parents=[1 << 30])
    assert reply.result == {"ready": True, "children": [], "hashes": ""}
