"""Waiting for quiet ends when the nodes use no processor and have nothing left to merge."""

from __future__ import annotations

from typing import Any, cast

import pytest

from kvctl.bench import quiet
from kvctl.client.client import Client
from kvctl_node.errors import UnavailableError


class Nodes:
    """Two nodes, a clock, and what processor time they have used at each look."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *shares: float) -> None:
        """`shares`: how much of a core n1 uses between two looks; the last one for ever."""
        self.shares = list(shares)
        self.used_s = 1.0
        self.time_s = 100.0
        self.down: set[str] = set()
        self.merging_until_s = 0.0
        monkeypatch.setattr(quiet, "time", self)

    members = ("n1", "n2")

    def describe(self) -> Nodes:
        return self

    def status(self, node: str) -> dict[str, Any]:
        if node in self.down:
            raise UnavailableError(f"{node} does not answer.")
        is_due = node == "n2" and self.time_s < self.merging_until_s
        used_s = self.used_s if node == "n1" else 7.0
        return {"cpu_s": used_s, "storage": {"compaction_due": is_due}}

    def monotonic(self) -> float:
        return self.time_s

    def sleep(self, seconds: float) -> None:
        self.time_s += seconds
        self.used_s += seconds * (self.shares.pop(0) if len(self.shares) > 1 else self.shares[0])


def waited_s(nodes: Nodes) -> float | None:
    """How long it took; None if it was given up."""
    began_s = nodes.time_s
    quiet_came = quiet.await_quiet(cast(Client, nodes))
    return nodes.time_s - began_s if quiet_came else None


def test_it_waits_until_the_nodes_hardly_use_a_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch, 1.5, 0.9, 0.25, 0.01)
    assert waited_s(nodes) == 4 * quiet.LOOK_EVERY_S


def test_it_waits_for_merges_that_have_not_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch, 0.01)
    nodes.merging_until_s = nodes.time_s + 2.0
    assert waited_s(nodes) == 2.0


def test_it_gives_up_on_nodes_that_are_never_quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    assert waited_s(Nodes(monkeypatch, 0.5)) is None


def test_a_node_that_does_not_answer_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    nodes = Nodes(monkeypatch, 0.01)
    nodes.down = {"n2"}
    assert waited_s(nodes) == quiet.LOOK_EVERY_S
