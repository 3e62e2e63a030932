"""Removing a temporary cluster when the process that wanted it dies, however it dies.

`local_cluster.Cluster` stops its nodes on every way out that Python can run code on. SIGKILL is
not one: a test run that is killed would leave its nodes running. So each such cluster has a guard,
a detached process that does nothing but read its standard input, a pipe whose other end only the
owner holds. End of file means that the owner is gone, and the guard takes the home directory's
clusters down and deletes it. After an orderly end it finds nothing there any more.

    python -m kvctl.cluster.guard HOME
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def main(arguments: list[str]) -> int:
    """Wait for the end of standard input, then remove every cluster of the home given."""
    home = Path(arguments[0])
    sys.stdin.buffer.read()
    if not home.exists():
        return 0
    # Imported only now: most guards have nothing to do.
    from kvctl.cluster.directory import cluster_directories
    from kvctl.cluster.supervisor import Supervisor
    from kvctl_node.errors import StoreError

    supervisor = Supervisor(home)
    for directory in cluster_directories(home):
        try:
            supervisor.down(directory.name, purge=True, grace_s=1.0)
        except StoreError:
            continue  # the owner was quicker, or the directory never became a cluster
    shutil.rmtree(home, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
