"""Whom a round talks to."""

import random

from kvctl_node.membership.gossip_targets import PROBES_PER_ROUND, ProbeOrder, gossip_targets


def test_a_round_talks_to_one_live_peer_when_all_are_live() -> None:
    rng = random.Random(1)
    for _ in range(100):
        targets = gossip_targets(["n2", "n3"], [], ["n2"], rng)
        assert len(targets) == 1 and targets[0] in ("n2", "n3")


def test_unreachable_members_are_gossiped_to_for_ever_but_not_every_round() -> None:
    rng = random.Random(1)
    hits = sum("n9" in gossip_targets(["n2", "n3", "n4"], ["n9"], [], rng) for _ in range(1000))
    assert 200 < hits < 300, "one in (live + 1)"


def test_an_isolated_node_turns_to_the_seeds() -> None:
    rng = random.Random(1)
    peers = [f"n{index}" for index in range(2, 30)]
    for _ in range(100):
        assert set(gossip_targets([], peers, ["n2", "n3"], rng)) & {"n2", "n3"}


def test_a_node_alone_talks_to_nobody() -> None:
    assert gossip_targets([], [], [], random.Random(1)) == []


def test_every_peer_is_probed_once_in_each_turn_round_the_circle() -> None:
    order = ProbeOrder(random.Random(1))
    peers = [f"n{index}" for index in range(31)]
    order.set_peers(peers)
    rounds = -(-len(peers) // PROBES_PER_ROUND)
    for _ in range(5):
        taken = [peer for _ in range(rounds) for peer in order.take()]
        assert sorted(taken) == sorted(peers)


def test_a_small_cluster_is_probed_as_a_whole_every_round() -> None:
    order = ProbeOrder(random.Random(1))
    order.set_peers(["n2", "n3", "n4"])
    for _ in range(5):
        assert sorted(order.take()) == ["n2", "n3", "n4"]
