"""Real nodes stay within the open files that are reckoned for them; too low a limit is refused."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from kvctl.cluster.local_cluster import Cluster
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig, StorageConfig
from kvctl_node.runtime.open_files import client_files, node_files


def open_files(cluster: Cluster) -> list[int]:
    pids = [node.pid for node in cluster.status().nodes]
    return [psutil.Process(pid).num_fds() for pid in pids]


@pytest.mark.parametrize("count", [1, 4])
def test_a_node_opens_no_more_than_is_reckoned_for_its_cluster(count: int) -> None:
    with Cluster(nodes=count) as cluster:
        files = node_files(cluster.config)
        assert max(open_files(cluster)) <= files.own + files.peers
        before = psutil.Process().num_fds()
        clients = [cluster.client() for _ in range(5)]
        for client in clients:
            client.describe()
            client.put("k", "v")
        used = psutil.Process().num_fds() - before
        assert used <= len(clients) * client_files(count)
        assert max(open_files(cluster)) <= files.own + files.peers + len(clients) + 1


def test_a_node_with_many_tables_stays_within_the_reckoning() -> None:
    config = ClusterConfig(
        nodes=(NodeSpec(name="n1"),),
        quorum=QuorumConfig(n=1, r=1, w=1),
        storage=StorageConfig(memtable_bytes=16_384, frozen_memtables_max=64),
    )
    with Cluster(config=config) as cluster:
        client = cluster.client()
        most = flushes = 0
        while flushes < 40:
            with client.batch() as batch:
                for number in range(300):
                    batch.put(f"{flushes}-{number}", b"x" * 100, blind=True)
            [node] = cluster.status().nodes
            assert node.snapshot is not None
            flushes = node.snapshot["storage"]["flushes"]
            most = max(most, *open_files(cluster))
        assert most <= node_files(cluster.config).total


def kvctl(home: Path, limit: int, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "kvctl", "-c", "few", *arguments],
        env={**os.environ, "KVCTL_HOME": str(home)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit)),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_up_under_a_low_limit_makes_and_starts_nothing(tmp_path: Path) -> None:
    done = kvctl(tmp_path, 60, "up", "-n", "5")
    assert done.returncode == 5
    assert "error: each of the 5 nodes needs up to" in done.stderr
    assert "allows 60" in done.stderr
    assert not (tmp_path / "clusters" / "few").exists()


def test_start_and_bench_under_a_low_limit_are_refused_before_they_begin() -> None:
    with Cluster(nodes=1) as cluster:
        cluster.stop("n1")
        done = kvctl(cluster.home, 60, "-c", cluster.name, "start", "n1")
        assert done.returncode == 5
        assert "error: n1 needs up to" in done.stderr
        assert cluster.status().node("n1").state == "stopped"
        done = kvctl(cluster.home, 60, "-c", cluster.name, "bench", "--clients", "64")
        assert done.returncode == 5
        assert "error: this benchmark (64 clients) needs up to" in done.stderr


def test_a_cluster_is_stopped_under_the_lowest_of_limits() -> None:
    with Cluster(nodes=1) as cluster:
        done = kvctl(cluster.home, 24, "-c", cluster.name, "stop", "n1")
        assert done.returncode == 0, done.stderr
        assert cluster.status().node("n1").state == "stopped"
