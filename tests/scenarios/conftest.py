"""The cluster that most scenarios play in."""

from __future__ import annotations

import pytest

from tests.virtual_cluster import VirtualCluster


@pytest.fixture
def cluster() -> VirtualCluster:
    return VirtualCluster(3)
