"""What the operating system says of a node that does not answer.

The registry names the process kvctl started; it is verified before anything is concluded from it.
The whole machine is searched for a process the registry does not know only now and then, because
that reads the command line of every process there is.
"""

from __future__ import annotations

import time
from pathlib import Path

from kvctl.cluster.directory import (
    ClusterDirectory,
    cluster_directory,
    home_directory,
)
from kvctl.cluster.observe import locate
from kvctl.cluster.processes import FoundNode, ProcessState, find_nodes, state_of
from kvctl.cluster.run_state import RUNNING, Registry, RegistryError
from kvctl.view.observation import ProcessWord

SEARCH_INTERVAL_S = 10.0


class ProcessLookup:
    """Looks up the processes of one cluster; called from worker threads."""

    def __init__(self, name: str, home: Path | None = None) -> None:
        self._directory: ClusterDirectory = cluster_directory(name, home)
        self._registry = Registry(home or home_directory())
        self._found: list[FoundNode] = []
        self._searched_s = -SEARCH_INTERVAL_S

    def __call__(self, node: str) -> ProcessWord:
        """RUNNING, PAUSED, DEAD or STOPPED. Never raises: without a registry, what was seen."""
        try:
            run = self._registry.read(self._directory.name)
        except RegistryError:
            return ProcessWord.RUNNING  # silent is all that is known
        identity = locate(self._directory, run, [node], search=self._search).get(node)
        state = state_of(identity)
        if state is ProcessState.PAUSED:
            return ProcessWord.PAUSED
        if state is ProcessState.RUNNING:
            return ProcessWord.RUNNING
        return ProcessWord.DEAD if run.node(node).wanted == RUNNING else ProcessWord.STOPPED

    def _search(self) -> list[FoundNode]:
        now_s = time.monotonic()
        if now_s - self._searched_s >= SEARCH_INTERVAL_S:
            self._searched_s = now_s
            self._found = find_nodes()
        return self._found
