"""A cluster for the length of a `with` block: for tests, notebooks and scripts.

    with kvctl.Cluster(nodes=3) as cluster:
        client = cluster.client()
        client.put("greeting", b"hello")
        cluster.kill("n2")

The cluster lives in a home directory of its own under the system's temporary directory, apart from
the user's clusters, and is stopped and removed on the way out: after an exception, when starting
failed half-way, and, by its `guard`, even if this process is killed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from kvctl.cluster.conditions import wait_for
from kvctl.cluster.directory import ClusterDirectory, cluster_directory
from kvctl.cluster.facts import ClusterStatus, QuorumChange
from kvctl.cluster.faults import FaultOptions
from kvctl.cluster.network import Network
from kvctl.cluster.options import UpOptions
from kvctl.cluster.supervisor import Supervisor
from kvctl.errors import ClusterNotFoundError
from kvctl_node.config import ClusterConfig
from kvctl_node.protocol.link_fault import LinkFault

if TYPE_CHECKING:
    from kvctl.client import Client

_NAME = "local"


class Cluster:
    """A running cluster and the handle to break it. Not started before `with` or `start_all`.

    The arguments are those of `kvctl up`; a `config` (`kvctl_node.config.ClusterConfig`) sets
    everything else. After `with` begins, every node serves and sees every other.
    """

    def __init__(
        self,
        nodes: int | None = None,
        *,
        replicas: int | None = None,
        r: int | None = None,
        w: int | None = None,
        mode: str | None = None,
        durability: str | None = None,
        capacity: Mapping[str, float] | None = None,
        zone: Mapping[str, str] | None = None,
        config: ClusterConfig | None = None,
        timeout_s: float = 30.0,
    ) -> None:
        """`timeout_s` bounds the start of the cluster, and of nodes later on. Nothing runs yet."""
        self._options = UpOptions(
            nodes=nodes if nodes is not None or config is not None else 3,
            replicas=replicas,
            r=r,
            w=w,
            mode=mode,
            durability=durability,
            capacity=capacity or {},
            zone=zone or {},
            config=config,
            ephemeral=True,
        )
        self._timeout_s = timeout_s
        self._home: Path | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self._clients: list[Client] = []

    def __enter__(self) -> Cluster:
        self.start_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.remove()

    def start_all(self) -> None:
        """Start the cluster; what `with` does first. Raises what `Supervisor.up` raises."""
        assert self._home is None, "the cluster was started already"
        self._home = Path(tempfile.mkdtemp(prefix="kvctl-")).resolve()
        self._guard = _start_guard(self._home)
        try:
            self.supervisor.up(_NAME, self._options, timeout_s=self._timeout_s)
        except BaseException:
            self.remove()
            raise

    def remove(self) -> None:
        """Stop every process and delete all data; what `with` does last. Idempotent."""
        if self._home is None:
            return
        for client in self._clients:
            client.close()
        self._clients.clear()
        try:
            self.supervisor.down(_NAME, purge=True)
        except ClusterNotFoundError:
            pass  # it was never made, or was taken down already
        finally:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None
            if self._guard is not None:
                self._guard.communicate()  # closes the pipe; the guard finds nothing and ends
                self._guard = None

    # ------------------------------------------------------------------ handles

    @property
    def home(self) -> Path:
        """The temporary home; `KVCTL_HOME` for commands that are to act on this cluster."""
        assert self._home is not None, "the cluster is not started"
        return self._home

    @property
    def name(self) -> str:
        """The cluster's name within its home."""
        return _NAME

    @property
    def supervisor(self) -> Supervisor:
        """Everything else that can be done to a cluster."""
        return Supervisor(self.home)

    @property
    def network(self) -> Network:
        """The links between the nodes, with everything that can be done to them."""
        return self.supervisor.network(_NAME)

    @property
    def directory(self) -> ClusterDirectory:
        """The cluster's directory, with configuration, keys and the nodes' data."""
        return cluster_directory(_NAME, self.home)

    @property
    def config(self) -> ClusterConfig:
        """The configuration as it is now, ports and all."""
        return self.directory.load()

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names of the nodes."""
        return tuple(spec.name for spec in self.config.nodes)

    def client(self, **options: Any) -> Client:
        """A new client, closed with the cluster. `options` are those of `kvctl.connect`."""
        from kvctl.client import connect

        client = connect(_NAME, home=self.home, **options)
        self._clients.append(client)
        return client

    # ------------------------------------------------------------------ what happens to nodes

    def start(self, *nodes: str) -> None:
        """Start nodes (all if none is named); on return they serve and are seen."""
        self.supervisor.start(_NAME, nodes, timeout_s=self._timeout_s)

    def stop(self, *nodes: str) -> None:
        """Stop nodes cleanly."""
        self.supervisor.stop(_NAME, nodes)

    def restart(self, *nodes: str) -> None:
        """Stop nodes cleanly and start them again."""
        self.supervisor.restart(_NAME, nodes, timeout_s=self._timeout_s)

    def kill(self, *nodes: str) -> None:
        """SIGKILL nodes; gone on return."""
        self.supervisor.kill(_NAME, nodes)

    def pause(self, *nodes: str, for_s: float | None = None) -> None:
        """SIGSTOP nodes, for a time or until `resume`."""
        self.supervisor.pause(_NAME, nodes, for_s=for_s)

    def resume(self, *nodes: str) -> None:
        """SIGCONT nodes."""
        self.supervisor.resume(_NAME, nodes)

    def wipe(self, *nodes: str) -> None:
        """Delete the data of nodes; those that ran serve again, empty."""
        self.supervisor.wipe(_NAME, nodes, timeout_s=self._timeout_s)

    # ------------------------------------------------------------------ what happens to links

    def partition(self, *groups: Sequence[str], for_s: float | None = None) -> str:
        """Cut all links between groups of nodes; the fault's id."""
        return self.network.partition(groups, for_s=for_s).fault.id

    def isolate(
        self, *nodes: str, inward: bool = True, outward: bool = True, for_s: float | None = None
    ) -> str:
        """Cut all links to and from nodes; the fault's id."""
        injected = self.network.isolate(nodes, inward=inward, outward=outward, for_s=for_s)
        return injected.fault.id

    def link(self, *links: str, **options: Any) -> str:
        """Break links such as `n1>n2`; `options` are those of `FaultOptions`. The fault's id."""
        return self.network.link(links, FaultOptions(**options)).fault.id

    def faults(self) -> tuple[LinkFault, ...]:
        """The faults in force, with the hits of all nodes."""
        return self.network.faults()

    def heal(self, fault_id: str = "") -> tuple[LinkFault, ...]:
        """Lift one fault, or all; what was lifted."""
        return self.network.heal(fault_id).faults

    def wait(self, condition: str, *, timeout_s: float = 30.0) -> None:
        """Wait for what `kvctl wait` waits for. Raises `WaitTimeoutError`."""
        wait_for(self.directory, self.config, condition, timeout_s=timeout_s)

    def status(self) -> ClusterStatus:
        """The facts."""
        return self.supervisor.status(_NAME)

    def set_quorum(
        self, *, r: int | None = None, w: int | None = None, mode: str | None = None
    ) -> QuorumChange:
        """Change the quorum, live."""
        return self.supervisor.set_quorum(_NAME, r=r, w=w, mode=mode)


def _start_guard(home: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "kvctl.cluster.guard", str(home)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        start_new_session=True,
    )
