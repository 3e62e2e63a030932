"""Waiting until a cluster has finished what the last requests left it to do.

For seconds after a run of writes, the nodes flush and merge in the background; merging even waits
for the run to end. Whatever is measured beside that is slow, and an echo that is slow would flatter
the store it is compared with.
"""

from __future__ import annotations

import time

from kvctl.client.client import Client
from kvctl.errors import ClusterUnreachableError
from kvctl_node.errors import UnavailableError

LOOK_EVERY_S = 0.25
QUIET_SHARE = 0.2
"""Of a core, all nodes together, the asking included."""
PATIENCE_S = 30.0


def await_quiet(client: Client) -> bool:
    """Wait until all nodes have merged what they had put off, and hardly use a processor.

    False if they did not come to that. Nodes that do not answer are left out. Raises what
    `Client.describe` does.
    """
    members = client.describe().members
    give_up_s = time.monotonic() + PATIENCE_S
    used_s, _ = _look(client, members)
    looked_s = time.monotonic()
    while time.monotonic() < give_up_s:
        time.sleep(LOOK_EVERY_S)
        used_before_s, looked_before_s = used_s, looked_s
        used_s, work_is_left = _look(client, members)
        looked_s = time.monotonic()
        is_idle = used_s - used_before_s < QUIET_SHARE * (looked_s - looked_before_s)
        if is_idle and not work_is_left:
            return True
    return False


def _look(client: Client, members: tuple[str, ...]) -> tuple[float, bool]:
    """Seconds of processor time the nodes have used, and whether one has something to merge."""
    total_s, work_is_left = 0.0, False
    for member in members:
        try:
            status = client.status(member)
        except (UnavailableError, ClusterUnreachableError):
            continue
        total_s += float(status["cpu_s"])
        work_is_left |= bool(status["storage"]["compaction_due"])
    return total_s, work_is_left
