"""First-hand liveness: what makes a link dead, and what brings it back."""

from kvctl_node.membership.peer_liveness import PeerLiveness
from kvctl_node.ports import Instant


def at(seconds: float) -> Instant:
    return Instant(seconds, int(seconds * 1000))


def alive() -> PeerLiveness:
    liveness = PeerLiveness(["n2", "n3"], dead_after_ms=3000)
    for sequence, peer in enumerate(("n2", "n3")):
        liveness.on_link(peer, True, at(0))
        liveness.on_probe(peer, sequence, at(0))
        assert liveness.on_answer(peer, sequence, at(0))
    assert liveness.reachable == {"n2", "n3"}
    return liveness


def test_nobody_is_reachable_before_a_probe_was_answered() -> None:
    liveness = PeerLiveness(["n2"], dead_after_ms=3000)
    liveness.on_heard("n2", at(0))
    assert not liveness.reachable, "hearing proves the other direction only"
    liveness.on_link("n2", True, at(0))
    assert not liveness.reachable, "an open connection is not a process that answers"
    liveness.on_probe("n2", 7, at(0))
    assert liveness.on_answer("n2", 7, at(0.1))
    assert liveness.reachable == {"n2"}


def test_an_answer_counts_only_while_the_own_connection_stands() -> None:
    liveness = PeerLiveness(["n2"], dead_after_ms=3000)
    liveness.on_probe("n2", 7, at(0))
    assert not liveness.on_answer("n2", 7, at(0))
    assert not liveness.reachable


def test_a_closed_connection_is_dead_at_once_and_alive_with_the_next_answer() -> None:
    liveness = alive()
    assert liveness.on_link("n2", False, at(4))
    assert liveness.reachable == {"n3"}
    assert not liveness.on_link("n2", False, at(4))
    assert not liveness.on_link("n2", True, at(5))
    liveness.on_probe("n2", 8, at(5))
    assert liveness.on_answer("n2", 8, at(5))
    assert liveness.reachable == {"n2", "n3"}


def test_a_probe_unanswered_for_the_window_means_a_dead_link_and_not_before() -> None:
    liveness = alive()
    liveness.on_probe("n2", 8, at(4))
    liveness.on_probe("n2", 9, at(5))
    liveness.on_heard("n2", at(6.5))
    assert liveness.overdue(at(6.9)) == []
    assert liveness.overdue(at(7)) == ["n2"], "the first unanswered probe counts"
    assert liveness.overdue(at(7.1)) == []
    assert liveness.reachable == {"n3"}


def test_an_answer_to_a_probe_from_before_the_silence_does_not_bring_a_peer_back() -> None:
    liveness = alive()
    liveness.on_probe("n2", 8, at(4))
    assert liveness.overdue(at(7)) == ["n2"]
    assert not liveness.on_answer("n2", 8, at(7.5))
    liveness.on_probe("n2", 9, at(8))
    assert not liveness.on_answer("n2", 8, at(8.1))
    assert liveness.on_answer("n2", 9, at(8.2))
    liveness.check_invariants()


def test_a_distrusted_peer_owes_a_new_answer() -> None:
    liveness = alive()
    assert liveness.distrust("n2") and not liveness.distrust("n2")
    liveness.on_probe("n2", 9, at(1))
    assert liveness.on_answer("n2", 9, at(1))


def test_a_node_that_was_stalled_itself_gives_everybody_a_new_window() -> None:
    liveness = alive()
    liveness.on_probe("n2", 8, at(4))
    liveness.forgive(at(60))
    assert liveness.overdue(at(62.9)) == []
    assert liveness.overdue(at(63)) == ["n2"], "but silence after that counts"


def test_peers_that_left_the_ring_are_forgotten() -> None:
    liveness = alive()
    liveness.set_peers(["n3", "n4"])
    assert liveness.reachable == {"n3"} and liveness.heard_ms("n2", at(1)) is None
    liveness.check_invariants()
