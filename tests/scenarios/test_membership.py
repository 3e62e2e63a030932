"""Who believes what of whom, on whole virtual clusters: kills, pauses, cuts, splits."""

import pytest

from kvctl_node.membership.failure_detector import Belief
from kvctl_node.node import Node
from kvctl_node.protocol.client_messages import (
    PutDone,
)
from kvctl_node.protocol.messages import (
    GossipDeltas,
    GossipReply,
    PingAck,
)
from tests.virtual_cluster import VirtualCluster

UP, SUSPECT, DOWN = Belief.UP, Belief.SUSPECT, Belief.DOWN
DETECTION_MAX_S = 5.0


def settled(nodes, **options):
    """A cluster whose members all believe each other up."""
    cluster = VirtualCluster(nodes, **options)
    assert cluster.run_until(lambda: everybody_up(cluster), 10)
    cluster.run_for(3)
    cluster.events.clear()
    return cluster


def running(cluster):
    return [name for name, host in cluster.hosts.items() if host.node is not None]


def believed(cluster, observer, member):
    return cluster.node(observer).state.believed(member)


def everybody_up(cluster):
    names = running(cluster)
    return all(believed(cluster, one, other) == UP for one in names for other in names)


def in_every_row(cluster, member, belief):
    return all(
        believed(cluster, one, member) == belief for one in running(cluster) if one != member
    )


def kinds_about(cluster, member):
    return [kind for _, kind, fields in cluster.events if fields.get("member") == member]


def verdicts(cluster):
    """Every (observer, accused) of a `member_down` event so far."""
    return {(who, told["member"]) for who, kind, told in cluster.events if kind == "member_down"}


def cut_link(cluster, one, other):
    cluster.cut.update([(one, other), (other, one)])


def test_everybody_is_up_in_every_row_soon_after_the_start():
    cluster = VirtualCluster(5)
    assert cluster.run_until(lambda: everybody_up(cluster), 2)
    for name in running(cluster):
        row = cluster.node(name).membership.row(cluster.now)
        assert set(row) == set(cluster.hosts)
        assert all(one["state"] == "up" for one in row.values())


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_node_is_suspect_at_once_and_down_in_every_row_within_five_seconds(seed):
    cluster = settled(5, seed=seed)
    killed_s = cluster.time_s
    cluster.kill("n5")
    cluster.run_for(0.01)
    assert in_every_row(cluster, "n5", SUSPECT), "its connections closed"
    assert cluster.run_until(lambda: in_every_row(cluster, "n5", DOWN), DETECTION_MAX_S)
    assert cluster.time_s - killed_s < DETECTION_MAX_S
    assert verdicts(cluster) == {(name, "n5") for name in ("n1", "n2", "n3", "n4")}
    row = cluster.node("n1").membership.row(cluster.now)["n5"]
    assert row["state"] == "down" and row["observers"][0] == "n1" and len(row["observers"]) >= 2


@pytest.mark.parametrize("seed", range(5))
def test_a_paused_node_is_down_in_every_row_within_five_seconds(seed):
    cluster = settled(3, seed=seed)
    cluster.pause("n2")
    others = ("n1", "n3")
    assert cluster.run_until(
        lambda: all(believed(cluster, one, "n2") == DOWN for one in others), DETECTION_MAX_S
    )


def test_a_restarted_node_is_up_again_in_every_row_under_its_new_generation():
    cluster = settled(3)
    cluster.kill("n2")
    assert cluster.run_until(lambda: in_every_row(cluster, "n2", DOWN), DETECTION_MAX_S)
    cluster.start("n2")
    assert cluster.run_until(lambda: everybody_up(cluster), 1)
    assert cluster.node("n1").membership.row(cluster.now)["n2"]["generation"] == 2
    assert kinds_about(cluster, "n2")[-1] == "member_alive"


def test_a_quick_restart_is_never_taken_for_a_death():
    cluster = settled(3)
    for _ in range(5):
        cluster.kill("n2")
        cluster.run_for(0.5)
        cluster.start("n2")
        cluster.run_for(3)
    assert not verdicts(cluster) and everybody_up(cluster)


@pytest.mark.parametrize("nodes", [3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_a_single_cut_link_never_makes_anybody_down(nodes, seed):
    cluster = settled(nodes, seed=seed)
    cut_link(cluster, "n1", "n2")
    cluster.run_for(60)
    assert not verdicts(cluster)
    assert believed(cluster, "n1", "n2") == SUSPECT == believed(cluster, "n2", "n1")
    assert not cluster.node("n1").state.can_reach("n2")
    assert believed(cluster, "n3", "n1") == UP == believed(cluster, "n3", "n2")
    cluster.heal()
    assert cluster.run_until(lambda: everybody_up(cluster), 3)


def test_a_link_cut_one_way_is_avoided_from_both_ends():
    cluster = settled(3)
    cluster.cut.add(("n1", "n2"))
    cluster.run_for(6)
    assert not cluster.node("n1").state.can_reach("n2"), "n2 is heard, but does not hear"
    assert not cluster.node("n2").state.can_reach("n1")
    assert not verdicts(cluster)


def test_of_three_the_majority_declares_and_the_isolated_one_only_suspects():
    cluster = settled(3)
    cluster.isolate(["n3"])
    cluster.run_for(DETECTION_MAX_S)
    assert believed(cluster, "n1", "n3") == DOWN == believed(cluster, "n2", "n3")
    cluster.run_for(60)
    assert verdicts(cluster) == {("n1", "n3"), ("n2", "n3")}
    assert believed(cluster, "n3", "n1") == SUSPECT == believed(cluster, "n3", "n2")


def test_two_nodes_alone_never_get_past_suspect():
    cluster = settled(2, r=1, w=2)
    cluster.kill("n2")
    cluster.run_for(120)
    assert believed(cluster, "n1", "n2") == SUSPECT
    assert not verdicts(cluster)


def test_a_verdict_falls_back_to_suspicion_when_its_second_observer_is_gone():
    cluster = settled(3)
    cluster.kill("n3")
    assert cluster.run_until(lambda: in_every_row(cluster, "n3", DOWN), DETECTION_MAX_S)
    cluster.kill("n2")
    cluster.run_for(20)
    assert believed(cluster, "n1", "n3") == SUSPECT == believed(cluster, "n1", "n2")


@pytest.mark.parametrize("paused_s", [8.0, 60.0])
def test_a_resumed_node_accuses_nobody_and_is_taken_back(paused_s):
    cluster = settled(3)
    cluster.pause("n2")
    cluster.run_for(paused_s)
    assert believed(cluster, "n1", "n2") == DOWN
    cluster.events.clear()
    cluster.resume("n2")
    assert cluster.run_until(lambda: everybody_up(cluster), 2)
    cluster.run_for(10)
    assert everybody_up(cluster) and not verdicts(cluster)
    for observer in ("n1", "n3"):
        told = [kind for who, kind, told in cluster.events if who == observer and "member" in told]
        assert told == ["member_refuted", "member_alive"]
    assert not [one for one in cluster.events if one[0] == "n2" and one[1] == "member_suspected"]
    assert [told for who, kind, told in cluster.events if kind == "was_stalled"]


def test_two_minutes_of_split_heal_without_any_restart():
    cluster = settled(5)
    cluster.isolate(["n1", "n2"])
    cluster.run_for(120)
    for one, other in (("n1", "n4"), ("n4", "n1")):
        assert believed(cluster, one, other) == DOWN, "each side has two observers"
    assert believed(cluster, "n1", "n2") == UP == believed(cluster, "n4", "n5")
    cluster.heal()
    assert cluster.run_until(lambda: everybody_up(cluster), 5)
    done = cluster.put("n1", "k", "v", w=3)
    assert isinstance(done, PutDone)


def test_a_bridge_between_two_halves_keeps_everybody_from_being_down():
    cluster = settled(5)
    for left in ("n1", "n2"):
        for right in ("n4", "n5"):
            cut_link(cluster, left, right)
    cluster.run_for(60)
    assert not verdicts(cluster), "n3 passes the heartbeats on"
    assert believed(cluster, "n1", "n4") == SUSPECT


def test_nobody_is_ever_down_without_another_node_that_misses_it_itself(monkeypatch):
    """Invariant 16 from outside: each verdict names a second observer that really observed."""
    cluster = settled(5, seed=3)
    observed: dict[str, set[str]] = {name: set() for name in cluster.hosts}
    check = Node.check_invariants

    def look_on(node):
        check(node)
        observed[node.state.name].update(node.state.detector.accused())

    monkeypatch.setattr(Node, "check_invariants", look_on)
    links = [(one, other) for one in cluster.hosts for other in cluster.hosts if one != other]
    for _ in range(60):
        cluster.heal()
        cluster.cut.update(link for link in links if cluster.rng.random() < 0.5)
        cluster.run_for(2)
        for who, kind, told in cluster.events:
            if kind == "member_down":
                others = [one for one in told["observers"] if one != who]
                assert others and told["member"] not in told["observers"]
                assert all(told["member"] in observed[one] for one in others)
    assert verdicts(cluster), "the cuts were heavy enough to mean something"
    cluster.heal()
    assert cluster.run_until(lambda: everybody_up(cluster), 5)


def test_stalls_of_two_seconds_never_make_anybody_down():
    cluster = settled(5, seed=7)
    for _ in range(60):
        name = cluster.rng.choice(list(cluster.hosts))
        cluster.pause(name)
        cluster.run_for(cluster.rng.uniform(0.5, 2.0))
        cluster.resume(name)
        cluster.run_for(cluster.rng.uniform(0.0, 2.0))
    assert not verdicts(cluster)
    assert not [one for one in cluster.events if one[1] == "member_suspected"]


def test_without_gossip_a_cut_link_would_make_its_ends_accuse_each_other():
    """The control: it is the path through others that keeps heartbeats fresh."""
    cluster = settled(3)
    cut_link(cluster, "n1", "n2")
    cluster.tap = lambda _a, _b, message: not isinstance(message, GossipReply | GossipDeltas)
    cluster.run_for(6)
    assert cluster.node("n1").state.detector.accused() == {"n2": 1}


def test_a_restored_old_disk_learns_from_its_peers_that_it_is_old():
    cluster = settled(3)
    host = cluster.hosts["n2"]
    backup = host.storage.image()
    for _ in range(3):
        cluster.kill("n2")
        cluster.start("n2")
        cluster.run_for(1)
    cluster.kill("n2")
    cluster.restore("n2", backup)
    host.known_generation = host.known_actor_epoch = 0
    cluster.start("n2")
    assert cluster.node("n2").identity.generation == 2
    cluster.run_for(0.1)
    identity = cluster.node("n2").identity
    assert identity.generation > 4 and identity.actor_epoch > 1
    assert [told for who, kind, told in cluster.events if kind == "disk_is_older" and who == "n2"]
    assert cluster.run_until(lambda: everybody_up(cluster), 5)
    row = cluster.node("n1").membership.row(cluster.now)
    assert row["n2"]["generation"] == identity.generation


def test_a_removed_disk_is_refused_for_good_by_everybody():
    cluster = settled(3)
    uuid = cluster.node("n3").identity.storage_uuid
    cluster.node("n1").membership.refuse({uuid})
    cluster.run_for(12)
    for name in ("n1", "n2"):
        assert uuid in cluster.node(name).membership.removed, "removals spread by gossip"
        assert not cluster.node(name).state.can_reach("n3")
        assert cluster.node(name).membership.row(cluster.now)["n3"]["uuid"] == ""
    assert [who for who, kind, _ in cluster.events if kind == "removed_from_cluster"] == ["n3"]
    cluster.kill("n2")
    cluster.start("n2")
    cluster.run_for(5)
    assert uuid in cluster.node("n2").membership.removed, "and are durable"
    assert not cluster.node("n2").state.can_reach("n3")


def test_the_same_seed_gives_the_same_beliefs_at_the_same_moments():
    def run():
        cluster = settled(4, seed=11)
        cluster.kill("n4")
        cluster.run_for(8)
        return cluster.time_s, cluster.events

    assert run() == run()


def test_nodes_that_start_together_find_each_other_at_once():
    """n1's link came up first, so n2 could not answer; when n2's comes up, n1 asks once more."""
    cluster = VirtualCluster(3)
    cluster.tap = lambda sender, receiver, message: (
        not ((sender, receiver) == ("n2", "n1") and isinstance(message, PingAck))
    )
    for name, peer in (("n1", "n2"), ("n2", "n1")):
        cluster._notice_link(name, peer, False)
    cluster._notice_link("n1", "n2", True)
    cluster.run_for(0.01)
    cluster.tap = None
    assert "n2" not in cluster.node("n1").state.liveness.reachable
    cluster._notice_link("n2", "n1", True)
    for name, peer in (("n1", "n2"), ("n2", "n1")):
        reachable = cluster.node(name).state.liveness.reachable
        assert cluster.run_until(lambda r=reachable, p=peer: p in r, 0.02)
