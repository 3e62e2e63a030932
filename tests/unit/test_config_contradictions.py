"""A configuration that cannot work is refused at the door, and the sentence names what is wrong."""

from __future__ import annotations

import pytest

from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig, parse_config
from kvctl_node.errors import ConfigError


def refusal(toml: str) -> str:
    """The sentence with which a file of one node, and what is added to it, is refused."""
    head = "[quorum]\nn = 1\nr = 1\nw = 1\n"
    with pytest.raises(ConfigError) as raised:
        parse_config(f"{head}{toml}".encode(), toml=True, source="shop.toml")
    assert raised.value.message.startswith("shop.toml")
    return raised.value.message


@pytest.mark.parametrize(
    ("toml", "words"),
    [
        ('[[nodes]]\nname = "client"', "the clients' key"),
        ('[[nodes]]\nname = "../x"', "not a node name"),
        ('[[nodes]]\nname = "n1"\nzone = "a\\nb"', "the zone of n1"),
        ('[[nodes]]\nname = "n1"\nzone = 3', "$.nodes[0].zone"),
        ('[[nodes]]\nname = "n1"\nhost = "example.invalid"', "the host of n1"),
        ('[[nodes]]\nname = "n1"\nhost = "127.0.0.256"', "the host of n1"),
        ('[[nodes]]\nname = "n1"\nclient_port = 7000\npeer_port = 7000', "one port twice"),
        ('[[nodes]]\nname = "n1"\n[[nodes]]\nname = "n1"', "n1 is used twice"),
        ('[[nodes]]\nname = "n1"\ncolour = "red"', "colour"),
        ('[[nodes]\nname = "n1"', "not a valid configuration"),
        ("", "nodes"),
    ],
)
def test_a_file_that_cannot_work_is_refused_by_name(toml: str, words: str) -> None:
    assert words in refusal(toml)


def test_two_nodes_of_one_host_cannot_have_one_port() -> None:
    one = NodeSpec("n1", client_port=7000)
    other = NodeSpec("n2", event_port=7000)
    quorum = QuorumConfig(1, 1, 1)
    with pytest.raises(ConfigError, match="n1 and n2 are both given port 7000"):
        ClusterConfig(nodes=(one, other), quorum=quorum).validate()
    elsewhere = NodeSpec("n2", host="127.0.0.2", event_port=7000)
    ClusterConfig(nodes=(one, elsewhere), quorum=quorum).validate()
