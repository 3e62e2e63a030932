"""Every test has a home of its own, so none can see or touch the clusters of whoever runs it."""

from __future__ import annotations

from pathlib import Path

import pytest

import kvctl.client
from tests.cli.cli_run import Command
from tests.cli.fake_client import FakeClient


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty KVCTL_HOME."""
    directory = tmp_path / "home"
    directory.mkdir(mode=0o700)
    monkeypatch.setenv("KVCTL_HOME", str(directory))
    for name in ("KVCTL_CLUSTER", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "160")
    monkeypatch.setenv("TERM", "xterm-256color")
    return directory


@pytest.fixture
def kvctl_command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """Runs a command line in this process."""
    return Command(monkeypatch)


@pytest.fixture
def fake_client(monkeypatch: pytest.MonkeyPatch) -> FakeClient:
    """A scripted client in the place of the real one."""
    client = FakeClient()
    monkeypatch.setattr(kvctl.client, "connect", client.connect)
    return client
