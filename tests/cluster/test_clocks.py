"""Wrong clocks on real processes: a node that is a day off, a client whose time stands still."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvctl.cluster.local_cluster import Cluster
from kvctl_node.errors import StoreError

Eventually = Callable[[Callable[[], object]], None]
DAY_S = 24 * 60 * 60
OTHER_CLOCK = """\
import sys, time
if "n3" in sys.orig_argv:
    real = time.time_ns
    time.time_ns = lambda: real() + int({ahead_s} * 1e9)
"""


@pytest.fixture(params=[-DAY_S, DAY_S], ids=["a day behind", "a day ahead"])
def cluster(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Cluster]:
    """Three nodes; the clock of n3 is wrong."""
    (tmp_path / "sitecustomize.py").write_text(OTHER_CLOCK.format(ahead_s=request.param))
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])
    monkeypatch.setenv("PYTHONPATH", path)
    with Cluster(nodes=3) as cluster:
        yield cluster


def test_a_node_a_day_off_follows_the_others_fails_nothing_and_is_shown(
    cluster: Cluster, eventually: Eventually
) -> None:
    client = cluster.client()
    eventually(lambda: client.status("n3")["clock_correction_ms"])
    for number in range(60):
        key = f"k{number}"
        client.put(key, "v", via=cluster.nodes[number % 3], w=3)
        assert client.get(key, via=cluster.nodes[number % 3], r=3).value == b"v"
    with client.batch(32) as batch:
        for number in range(600):
            batch.put(f"b{number}", "v")
    assert all(client.get(f"b{number}", r=3).found for number in range(0, 600, 20))
    assert "clock" in cluster.status().node("n3").reason
    assert [cluster.status().node(name).reason for name in ("n1", "n2")] == ["", ""]


@pytest.mark.parametrize("wall_s", [0.0, 4e9], ids=["1970", "2096"])
def test_a_client_whose_clock_stands_still_is_served_and_gives_up_in_time(
    three_nodes: Cluster, monkeypatch: pytest.MonkeyPatch, wall_s: float
) -> None:
    gettime = time.clock_gettime
    monkeypatch.setattr(time, "time", lambda: wall_s)
    monkeypatch.setattr(time, "monotonic", lambda: 1.0)
    monkeypatch.setattr(
        time,
        "clock_gettime",
        lambda clock: wall_s if clock == time.CLOCK_REALTIME else gettime(clock),
    )
    client = three_nodes.client(timeout_s=2.0)
    for number in range(20):
        client.put(f"frozen{number}", "v")
        assert client.get(f"frozen{number}").value == b"v"
    with client.batch(16) as batch:
        for number in range(100):
            batch.put(f"batch{number}", "v")
    assert sum(one.key.startswith(b"batch") for one in client.scan()) == 100
    monkeypatch.undo()
    three_nodes.pause("n1", "n2", "n3")
    try:
        monkeypatch.setattr(time, "time", lambda: wall_s)
        monkeypatch.setattr(time, "monotonic", lambda: 1.0)
        with pytest.raises(StoreError):
            client.put("nobody", "v", timeout_s=1.0)
    finally:
        monkeypatch.undo()
        three_nodes.resume("n1", "n2", "n3")
        three_nodes.wait("ready")
