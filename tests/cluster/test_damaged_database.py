"""A node whose `data.sqlite` is damaged: what it says, where it is seen, and the way out."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from kvctl.cluster.doctor import Doctor
from kvctl.cluster.local_cluster import Cluster
from kvctl.errors import NodeStartError

Eventually = Callable[[Callable[[], object]], None]


def flip(path: Path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 0x10
    path.write_bytes(content)


@pytest.mark.parametrize("place", [5, 60, 4099], ids=["magic", "format", "page"])
def test_a_damaged_database_is_said_wherever_one_looks_and_the_way_out_works(
    place: int, eventually: Eventually
) -> None:
    with Cluster(nodes=3) as cluster:
        client = cluster.client()
        expected = {f"k{number}": f"{number}" * 500 for number in range(200)}
        for key, value in expected.items():
            client.put(key, value, w=3)
        cluster.stop("n1")
        flip(cluster.directory.node("n1") / "data.sqlite", place)
        with pytest.raises(NodeStartError, match=r"[Dd]amage") as refusal:
            cluster.start("n1")
        way_out = f"kvctl -c {cluster.name} wipe n1"
        assert f"`{way_out}`" in refusal.value.hint
        seen = cluster.status().node("n1")
        assert seen.state == "dead"
        assert way_out in seen.reason
        found = Doctor(cluster.home, lock_wait_s=5).examine(fix=False)
        assert [way_out in one.fix for one in found if one.kind == "ended_by_itself"] == [True]
        subprocess.run(
            [sys.executable, "-P", "-m", *way_out.split()],
            env={**os.environ, "KVCTL_HOME": str(cluster.home)},
            check=True,
            capture_output=True,
        )
        eventually(lambda: not client.status("n1")["rebuilding"])
        for name in ("n2", "n3"):
            cluster.kill(name)
        for key, value in expected.items():
            assert client.get(key, via="n1", r=1).value == value.encode(), "from its own disk"
