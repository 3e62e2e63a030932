"""The limit of open files: reckoned, raised where that is allowed, else refused with the number."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from kvctl_node.config import ClusterConfig, NodeSpec, StorageConfig
from kvctl_node.errors import OpenFilesError
from kvctl_node.runtime.open_files import (
    _PATIENCE,
    allow_open_files,
    check_hard_limit,
    client_files,
    node_files,
)
from kvctl_node.storage.compaction_schedule import PATIENCE
from tests.unit.runtime.test_node_main import Home

FEW = 40


def config(nodes: int, **storage: int) -> ClusterConfig:
    specs = tuple(NodeSpec(name=f"n{number}") for number in range(1, nodes + 1))
    return ClusterConfig(nodes=specs, storage=StorageConfig(**storage))


def limited(soft: int, hard: int, *command: str) -> subprocess.CompletedProcess[str]:
    """A process of its own under these limits; a hard limit cannot be raised again."""
    return subprocess.run(
        [sys.executable, *command],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard)),
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_what_a_node_needs_grows_with_the_cluster_and_the_tables() -> None:
    assert node_files(config(9)).peers > node_files(config(3)).peers
    assert node_files(config(3, compaction_fanout=100)).tables > node_files(config(3)).tables
    assert client_files(9) > client_files(3)
    assert _PATIENCE == PATIENCE


def test_a_low_soft_limit_is_raised_as_far_as_the_hard_one_allows() -> None:
    program = (
        "from kvctl_node.runtime.open_files import allow_open_files; import resource;"
        f"allow_open_files({FEW}, 'it'); print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"
    )
    for hard in (FEW, 3 * FEW):
        assert limited(FEW - 10, hard, "-c", program).stdout.strip() == str(hard)
    assert limited(FEW, 3 * FEW, "-c", program).stdout.strip() == str(FEW), "high enough already"


def test_a_low_hard_limit_is_refused_with_the_number_that_is_needed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda which: (FEW, FEW))
    for refuse in (check_hard_limit, allow_open_files):
        with pytest.raises(OpenFilesError, match=r"n1 needs up to 1000000 .* allows 40") as caught:
            refuse(1_000_000, "n1")
        assert "ulimit -n" in caught.value.hint
    check_hard_limit(FEW, "n1")


def test_no_limit_at_all_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    unlimited = (FEW, resource.RLIM_INFINITY)
    monkeypatch.setattr(resource, "getrlimit", lambda which: unlimited)
    check_hard_limit(1_000_000, "n1")


def test_a_node_that_may_open_too_few_files_says_so_before_it_opens_any(tmp_path: Path) -> None:
    home = Home(tmp_path)
    done = limited(FEW, FEW, "-m", "kvctl_node", *home.arguments())
    assert done.returncode == 71
    needed = node_files(home.config).total
    assert f"n1 needs up to {needed} open files, and the system allows {FEW}" in done.stderr
    assert not (home.node / "data.sqlite").exists()
