"""Rounds until all know of a change: as the logarithm of the number of members, sliced or not."""

from __future__ import annotations

import math

import pytest

from kvctl_node.membership import gossip
from tests.simulation.gossip_scaling import measure


@pytest.mark.parametrize("members", [10, 40])
def test_whole_digests(members):
    assert measure(members, changes=3).rounds_worst <= 2 * math.log2(members)


def test_six_slices(monkeypatch):
    monkeypatch.setattr(gossip, "DIGEST_MEMBERS_MAX", 16)
    monkeypatch.setattr(gossip, "NEWS_MAX", 2)
    assert measure(96, changes=3).rounds_worst <= 2 * math.log2(96)
