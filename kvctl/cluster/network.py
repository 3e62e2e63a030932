"""The network between the nodes of a cluster: cut it, make it slow, list its faults, heal it.

Each method is one command, done when it returns. Those that change something hold the faults' lock
(see `faults`); they need neither the lock of the cluster nor any node to be up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

from kvctl.cluster.directory import ClusterDirectory
from kvctl.cluster.fault_links import described_links, isolate_links, partition_links
from kvctl.cluster.faults import FaultOptions, Healed, Injected, NetworkFaults
from kvctl_node.protocol.link_fault import LinkFault


class Network:
    """The links of one cluster. Every method raises `ClusterNotFoundError` if there is none."""

    def __init__(
        self,
        directory: ClusterDirectory,
        locked: Callable[[Path], AbstractContextManager[None]],
        home: Path,
    ) -> None:
        """`locked(path)` holds the lock of that file, or raises `LockedError`."""
        self._directory = directory
        self._locked = locked
        self._home = home

    def partition(self, groups: Sequence[Sequence[str]], *, for_s: float | None = None) -> Injected:
        """Cut all links between groups of nodes. One group alone is cut off from the rest.

        Nodes in no group keep all their links. Raises `InvalidRequestError`.
        """
        with self._held() as faults:
            links, _ = partition_links(faults.names, groups)
            return faults.inject("partition", links, FaultOptions(drop=True, for_s=for_s))

    def isolate(
        self,
        nodes: Sequence[str],
        *,
        inward: bool = True,
        outward: bool = True,
        for_s: float | None = None,
    ) -> Injected:
        """Cut all links to (`inward`) and from (`outward`) nodes. Raises `InvalidRequestError`."""
        with self._held() as faults:
            links = isolate_links(faults.names, nodes, inward=inward, outward=outward)
            return faults.inject("isolate", links, FaultOptions(drop=True, for_s=for_s))

    def link(self, links: Sequence[str], options: FaultOptions) -> Injected:
        """Drop, lose, delay or duplicate on links such as `n1>n2`. Raises `InvalidRequestError`."""
        with self._held() as faults:
            return faults.inject("link", described_links(faults.names, links), options)

    def faults(self) -> tuple[LinkFault, ...]:
        """The faults in force, with the hits of all nodes; takes no lock."""
        return NetworkFaults(self._directory, self._directory.load(), self._home).active()

    def heal(self, fault_id: str = "") -> Healed:
        """Lift one fault, or all. Raises `InvalidRequestError` if there is none of that id."""
        with self._held() as faults:
            return faults.heal(fault_id)

    @contextmanager
    def _held(self) -> Iterator[NetworkFaults]:
        self._directory.load()  # before the lock, so that a missing cluster leaves no lock behind
        with self._locked(self._directory.faults_lock_path):
            yield NetworkFaults(self._directory, self._directory.load(), self._home)
