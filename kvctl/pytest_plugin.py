"""A pytest plugin: clusters as fixtures.

    def test_a_write_survives_the_loss_of_a_node(kvctl_cluster):
        client = kvctl_cluster.client()
        client.put("k", b"v")
        kvctl_cluster.kill("n1")
        assert client.get("k").value == b"v"

pytest loads every installed plugin in every project, so this module imports nothing of kvctl until
a fixture is used.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from kvctl.cluster.local_cluster import Cluster


@pytest.fixture
def kvctl_cluster_factory() -> Iterator[Callable[..., Cluster]]:
    """Starts clusters: `factory(nodes=5, mode="strict")`, arguments as of `kvctl.Cluster`.

    Each serves when it is returned, and all are removed after the test.
    """
    from kvctl.cluster.local_cluster import Cluster

    with ExitStack() as running:

        def start(*args: Any, **options: Any) -> Cluster:
            return running.enter_context(Cluster(*args, **options))

        yield start


@pytest.fixture
def kvctl_cluster(kvctl_cluster_factory: Callable[..., Cluster]) -> Cluster:
    """A cluster of three nodes, for this test alone."""
    return kvctl_cluster_factory(nodes=3)
