"""Waiting until a cluster has finished what the last requests left it to do.

For seconds after a run of writes, the nodes flush and merge in the background. Whatever is measured
beside that is slow, and an echo that is slow would flatter the store it is compared with.
"""

from __future__ import annotations

import time

from kvctl.client.client import Client
from kvctl.errors import ClusterUnreachableError
from node.errors import UnavailableError

LOOK_EVERY_S = 0.25
QUIET_SHARE = 0.2
"""Of a core, all nodes together, the asking included."""
PATIENCE_S = 20.0


def await_quiet(client: Client) -> bool:
    """Wait until all nodes together hardly use a processor; False if they did not come to that.

    Nodes that do not answer are left out. Raises what `Client.describe` does.
    """
    members = client.describe().members
    give_up_s = time.monotonic() + PATIENCE_S
    used_s, looked_s = _processor_s(client, members), time.monotonic()
    while time.monotonic() < give_up_s:
        time.sleep(LOOK_EVERY_S)
        used_before_s, looked_before_s = used_s, looked_s
        used_s, looked_s = _processor_s(client, members), time.monotonic()
        if used_s - used_before_s < QUIET_SHARE * (looked_s - looked_before_s):
            return True
    return False


def _processor_s(client: Client, members: tuple[str, ...]) -> float:
    """Seconds of processor time that the nodes have used so far."""
    total_s = 0.0
    for member in members:
        try:
            total_s += float(client.status(member)["cpu_s"])
        except (UnavailableError, ClusterUnreachableError):
            continue
    return total_s
