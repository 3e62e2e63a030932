"""A failed run explains itself: seed, options, and the messages about the key."""

from __future__ import annotations

import pytest

from kvctl_node.protocol.messages import (
    ReplicaGet,
    ReplicaPutAck,
)
from kvctl_node.protocol.repair_messages import (
    HandoffAck,
)
from tests.simulation import broken_variants
from tests.simulation.ladder import Ladder
from tests.simulation.simulation import explain, run_seed


def test_a_ladder_draws_arrows_from_sender_to_receiver_and_marks_what_is_lost() -> None:
    ladder = Ladder(b"k")
    ladder.note(0.5, "n2", "client get R=1")
    ladder.on_message(1.0, "n1", "n3", ReplicaGet(7, b"k", b"", 0), 1.25)
    ladder.on_message(1.25, "n3", "n1", ReplicaPutAck(7), None)
    ladder.on_message(1.5, "n1", "n2", ReplicaGet(8, b"other", b"", 0), 1.75)
    ladder.on_message(1.75, "n2", "n1", HandoffAck(8), 2.0)
    assert ladder.draw(["n1", "n2", "n3"]).splitlines() == [
        "               n1      n2      n3   ",
        "    0.5000      :       *       :     client get R=1",
        "    1.0000      o-------:------>:     ReplicaGet #7 (arrives 1.2500)",
        "    1.2500      X<------:-------o     ReplicaPutAck #7 (lost)",
    ]


def test_a_failing_seed_prints_itself_its_options_and_the_ladder_of_the_key(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broken_variants.delete_drops_the_row(monkeypatch)
    outcomes = next(one for one in map(run_seed, range(20)) if one.violation is not None)
    text = explain(outcomes)
    assert outcomes.violation is not None
    assert text.startswith(f"seed {outcomes.seed}: invariant {outcomes.violation.number} ")
    assert f"  quorum            {outcomes.options.quorum}" in text
    assert "ReplicaPut #" in text and "client put c" in text
    assert "another way" not in text


def test_drawing_a_run_does_not_change_it() -> None:
    assert run_seed(20_001, Ladder(b"k1")).fingerprint == run_seed(20_001).fingerprint
