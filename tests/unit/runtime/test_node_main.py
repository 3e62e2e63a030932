"""The node's process from outside: how it starts, how it ends, and how it says why."""

from __future__ import annotations

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kvctl_node import __main__ as node_main
from kvctl_node.__main__ import main
from kvctl_node.config import ClusterConfig, encode_config
from kvctl_node.errors import StorageFullError
from kvctl_node.identity import EPOCHS_UNSEEN
from kvctl_node.node import Node
from kvctl_node.ports import Instant
from kvctl_node.protocol.client_messages import (
    ClientStatus,
    StatusDone,
)
from kvctl_node.storage.engine import SqliteStorageEngine
from tests.unit.runtime.runtime_fixtures import (
    DEADLINE_S,
    client_of,
    make_config,
    make_keys,
    wait_until,
)

NONCE = "5eed"


class Home:
    """A cluster's directory, made but not running."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.config: ClusterConfig = make_config(("n1",))
        self.keys = make_keys(directory, ("n1",))
        self.node = directory / "nodes" / "n1"
        self.write(encode_config(self.config))

    def write(self, document: bytes) -> None:
        (self.directory / "cluster.json").write_bytes(document)

    def arguments(self, *more: str, name: str = "n1") -> list[str]:
        return ["--directory", str(self.directory), "--name", name, "--nonce", NONCE, *more]

    def exit_record(self) -> dict[str, object]:
        return json.loads((self.node / "exit.json").read_bytes())


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return Home(tmp_path)


def ended(home: Home, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    """Run a node that is expected to end by itself: its code and its stderr."""
    code = main(home.arguments())
    error = capsys.readouterr().err
    assert error.startswith("node n1: ")
    return code, error


def expect_running(process: subprocess.Popen[str]) -> None:
    assert process.poll() is None, f"ended with {process.returncode}"


def stop_at_start(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a node in this process receive SIGTERM as soon as it starts."""
    start = Node.start

    def start_and_stop(self: Node, now: Instant) -> None:
        start(self, now)
        os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(Node, "start", start_and_stop)


def test_a_configuration_that_is_none_ends_with_2(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    home.write(b"{")
    home.node.mkdir(parents=True)
    code, error = ended(home, capsys)
    assert code == 2
    assert "is not a valid configuration" in error
    assert "Traceback" not in error
    record = home.exit_record()
    assert (record["code"], record["kind"], record["nonce"]) == (2, "config", NONCE)
    assert isinstance(record["at_ms"], int)


def test_a_node_that_is_not_in_the_configuration_ends_with_2_and_makes_nothing(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(home.arguments(name="n9")) == 2
    assert "there is no node 'n9'" in capsys.readouterr().err
    assert not (home.directory / "nodes").exists()


def test_an_exposed_key_ends_with_2_and_the_remedy(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.keys / "n1.key").chmod(0o644)
    code, error = ended(home, capsys)
    assert code == 2
    assert "hint: chmod 600" in error


def test_a_directory_in_use_ends_with_73(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    storage = SqliteStorageEngine.open(
        home.node, home.config.storage, partitions=home.config.partitions
    )
    code, error = ended(home, capsys)
    storage.close()
    assert code == 73
    assert "in use" in error
    assert home.exit_record()["kind"] == "data_directory"


def test_a_directory_that_cannot_be_made_ends_with_73(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    (home.directory / "nodes").write_text("not a directory")
    assert ended(home, capsys)[0] == 73


def test_a_commit_that_fails_ends_with_74_and_says_why(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    start = Node.start

    def fail(self: SqliteStorageEngine) -> None:
        raise StorageFullError("the disk is full.", hint="free some space.")

    def start_on_a_disk_that_fills_up(self: Node, now: Instant) -> None:
        start(self, now)
        monkeypatch.setattr(SqliteStorageEngine, "commit", fail)

    monkeypatch.setattr(Node, "start", start_on_a_disk_that_fills_up)
    code, error = ended(home, capsys)
    assert code == 74
    assert error == "node n1: the disk is full.\nhint: free some space.\n"
    record = home.exit_record()
    assert (record["kind"], record["hint"]) == ("disk_full", "free some space.")
    assert "storage failed" in (home.node / "node.log").read_text()


def test_a_taken_port_ends_with_75_and_names_port_and_node(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    port = home.config.node("n1").client_port
    with socket.socket() as other:
        other.bind(("127.0.0.1", port))
        other.listen()
        code, error = ended(home, capsys)
    assert code == 75
    assert f"port {port} of n1 is taken" in error
    assert home.exit_record()["kind"] == "port_taken"


def test_a_bug_ends_with_70_a_sentence_and_a_traceback(
    home: Home, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Node, "start", lambda self, now: {}["bug"])
    assert main(home.arguments()) == 70
    error = capsys.readouterr().err
    assert "Traceback" in error
    assert "node n1: n1 ended by an internal error: KeyError: 'bug'." in error
    assert home.exit_record()["code"] == 70


def test_a_start_removes_the_exit_record_of_the_one_before(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at_start(monkeypatch)
    home.node.mkdir(parents=True)
    (home.node / "exit.json").write_text("{}")
    assert main(home.arguments()) == 0
    assert not (home.node / "exit.json").exists()


def test_every_start_has_a_higher_generation_than_any_known_one(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    stop_at_start(monkeypatch)
    assert main(home.arguments()) == 0
    assert main(home.arguments("--known-generation", "40", "--known-actor-epoch", "6")) == 0
    assert main(home.arguments()) == 0
    events = [json.loads(line) for line in (home.node / "events.jsonl").read_text().splitlines()]
    started = [event for event in events if event["kind"] == "node_started"]
    assert [event["generation"] for event in started] == [1, 41, 42]
    epochs = [event["actor_epoch"] for event in started]
    assert epochs[0] == 1
    assert epochs[1] > 6 + EPOCHS_UNSEEN, "above whatever the disk may have forgotten"
    assert epochs[2] == epochs[1]


def test_a_node_serves_as_its_own_process_and_stops_cleanly_when_told(home: Home) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "kvctl_node", *home.arguments()], stderr=subprocess.PIPE, text=True
    )
    client = client_of(home.config, home.keys, "n1")
    answers: list[StatusDone] = []
    try:
        client.send([ClientStatus(1)])
        wait_until(
            lambda: bool(answers),
            lambda: client.socket.poll(20) or expect_running(process),
            lambda: answers.extend(client.replies() or []),  # type: ignore[arg-type]
        )
        snapshot = answers[0].snapshot
        assert (snapshot["pid"], snapshot["nonce"]) == (process.pid, NONCE)
        assert snapshot["rss_bytes"] > 1_000_000
        assert snapshot["transport"]["clients"]["frames_in"] == 1
        began_s = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, error = process.communicate(timeout=DEADLINE_S)
        assert (process.returncode, error) == (0, "")
        # Far below any timer: the signal itself ended the wait.
        assert time.monotonic() - began_s < 5.0
    finally:
        client.close()
        if process.poll() is None:
            process.kill()
            process.wait()
    storage = SqliteStorageEngine.open(
        home.node, home.config.storage, partitions=home.config.partitions
    )
    assert storage.metadata("clean_stop") == b"1"
    storage.close()


def test_a_node_that_ends_for_want_of_room_still_says_why(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing can be written any more, not even to stderr, which is a file."""
    home.node.mkdir(parents=True, exist_ok=True)
    node_main._set_room_aside(home.node)

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    monkeypatch.setattr("builtins.print", full)
    options = node_main._parse(home.arguments())
    error = StorageFullError("The disk is full while committing a turn.", hint="free some space.")
    assert node_main._report(options, error, 74) == 74
    assert home.exit_record()["message"] == "The disk is full while committing a turn."
