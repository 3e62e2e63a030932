"""A cluster that exists on disk and does not run: enough for commands that only read files."""

from __future__ import annotations

from kvctl.cluster.directory import cluster_directory, make_private_directory
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig


def make_cluster(name: str, quorum: QuorumConfig) -> None:
    """Make a cluster of five nodes, n1 to n5, in KVCTL_HOME."""
    directory = cluster_directory(name)
    make_private_directory(directory.path)
    nodes = tuple(NodeSpec(f"n{number}", client_port=7000 + number) for number in range(1, 6))
    directory.write_format()
    directory.save(ClusterConfig(nodes=nodes, quorum=quorum, name=name, cluster_id="0" * 32))
