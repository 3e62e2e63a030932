"""Clusters of transports for one test each, closed after it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.runtime.transport_rig import SMALL, Cluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path)
    yield made
    made.close()


@pytest.fixture
def small_cluster(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, SMALL)
    yield made
    made.close()


@pytest.fixture
def small_cluster_of_three(tmp_path: Path) -> Iterator[Cluster]:
    made = Cluster(tmp_path, SMALL, ("n1", "n2", "n3"))
    yield made
    made.close()
