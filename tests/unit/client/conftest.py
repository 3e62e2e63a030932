"""A cluster of scripted nodes for each test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.client.busy_node import Busy
from tests.unit.client.scripted_node import ScriptedCluster


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[ScriptedCluster]:
    """Three nodes that serve; stopped, with every client made of them, after the test."""
    scripted = ScriptedCluster(tmp_path)
    scripted.start()
    try:
        yield scripted
    finally:
        scripted.stop()


@pytest.fixture
def busy(cluster: ScriptedCluster) -> Iterator[Busy]:
    """A client of a cluster whose n1 answers no put before it is freed."""
    busy = Busy(cluster)
    yield busy
    busy.free()
