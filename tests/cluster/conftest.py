"""Real processes: each test module that asks for it shares one running cluster of three nodes.

Tests that share it leave it as they found it: every node up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from kvctl.cluster.local_cluster import Cluster

DEADLINE_S = 20.0


@pytest.fixture(scope="module")
def three_nodes() -> Iterator[Cluster]:
    """A cluster of three nodes, shared by the tests of a module."""
    with Cluster(nodes=3) as cluster:
        yield cluster


@pytest.fixture
def eventually() -> Callable[[Callable[[], object]], None]:
    """Waits for a condition, with a deadline: `eventually(lambda: state() == "up")`."""

    def wait(condition: Callable[[], object]) -> None:
        deadline_s = time.monotonic() + DEADLINE_S
        while not condition():
            assert time.monotonic() < deadline_s, "the condition did not come true in time"
            time.sleep(0.02)

    return wait
