"""logs and events: merged by time, filtered, followed over rotation."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kvctl.cli.rotated_lines import RotatedLines
from kvctl.cluster.directory import cluster_directory
from kvctl_node.config import QuorumConfig
from kvctl_node.runtime.rotating_file import RotatingFile
from tests.cli.cli_run import Command
from tests.cli.stopped_cluster import make_cluster


def event(at: int, node: str, kind: str, **fields: object) -> bytes:
    document = {**fields, "at": at, "node": node, "generation": 1, "seq": at, "kind": kind}
    return json.dumps(document).encode() + b"\n"


@pytest.fixture
def nodes() -> Path:
    """The directories of a cluster's nodes, with nothing in them."""
    make_cluster("shop", QuorumConfig(3, 2, 2))
    directory = cluster_directory("shop")
    for number in range(1, 6):
        directory.node(f"n{number}").mkdir(parents=True)
    return directory.path / "nodes"


def test_events_of_several_nodes_are_merged_by_time(nodes: Path, kvctl_command: Command) -> None:
    (nodes / "n1" / "events.jsonl.1").write_bytes(event(10, "n1", "a", key="k"))
    (nodes / "n1" / "events.jsonl").write_bytes(event(30, "n1", "b", key="other"))
    (nodes / "n2" / "events.jsonl").write_bytes(event(20, "n2", "c", key="k") + b'{"torn":')
    lines = kvctl_command("events", "-o", "jsonl").lines
    assert [(line["at"], line["node"], line["kind"]) for line in lines] == [
        (10, "n1", "a"),
        (20, "n2", "c"),
        (30, "n1", "b"),
    ]
    text = kvctl_command("events").text.splitlines()
    assert text[0].endswith("n1  a  key=k")


def test_events_are_filtered_by_key_node_and_kind(nodes: Path, kvctl_command: Command) -> None:
    (nodes / "n1" / "events.jsonl").write_bytes(
        event(10, "n1", "a", key="k") + event(30, "n1", "b", key="other")
    )
    (nodes / "n2" / "events.jsonl").write_bytes(event(20, "n2", "c", key="k"))

    def kinds(*arguments: str) -> list[str]:
        return [line["kind"] for line in kvctl_command("events", "-o", "json", *arguments).lines]

    assert kinds("--key", "k") == ["a", "c"]
    assert kinds("--node", "n2") == ["c"]
    assert kinds("--kind", "b,c") == ["c", "b"]
    assert kinds("--tail", "1") == ["b"]
    assert kvctl_command("events", "--node", "n9").code == 2


def test_log_lines_are_merged_and_a_continuation_stays_with_its_line(
    nodes: Path, kvctl_command: Command
) -> None:
    (nodes / "n1" / "node.log").write_text(
        "2026-01-01T00:00:01.000Z ERROR node: broke\n  because\n2026-01-01T00:00:03.000Z INFO x\n"
    )
    (nodes / "n2" / "node.log").write_text("2026-01-01T00:00:02.000Z INFO node: y\n")
    assert [line.split("  ", 1)[1] for line in kvctl_command("logs").text.splitlines()] == [
        "2026-01-01T00:00:01.000Z ERROR node: broke",
        "  because",
        "2026-01-01T00:00:02.000Z INFO node: y",
        "2026-01-01T00:00:03.000Z INFO x",
    ]
    assert kvctl_command("logs", "n2", "-o", "json").document == {
        "node": "n2",
        "at": "2026-01-01T00:00:02.000Z",
        "line": "2026-01-01T00:00:02.000Z INFO node: y",
    }


def test_following_prints_what_comes_until_it_is_interrupted(
    nodes: Path, kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = nodes / "n1" / "events.jsonl"
    path.write_bytes(event(10, "n1", "old"))
    steps = iter((event(20, "n1", "new"), event(30, "n1", "newer")))

    def instead_of_sleeping(seconds: float) -> None:
        following = next(steps, None)
        if following is None:
            raise KeyboardInterrupt
        with path.open("ab") as file:
            file.write(following)

    monkeypatch.setattr("kvctl.cli.logs.time.sleep", instead_of_sleeping)
    outcome = kvctl_command("events", "-f", "--tail", "0", "-o", "jsonl")
    assert outcome.code == 130
    assert [line["kind"] for line in outcome.lines] == ["new", "newer"]


def test_a_follower_loses_and_repeats_no_line_over_rotations(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = RotatingFile(path, bytes_max=50, files_kept=3)
    reader = RotatedLines(path)
    seen: list[bytes] = []
    for number in range(60):
        file.append(b"line %04d\n" % number)
        if number % 7 == 0:
            seen += reader.new_lines()
    seen += reader.new_lines()
    assert seen == [b"line %04d" % number for number in range(60)]
    file.close()
    reader.close()


def test_a_follower_that_was_overtaken_goes_on_with_the_oldest_it_can_find(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    file = RotatingFile(path, bytes_max=20, files_kept=2)
    reader = RotatedLines(path)
    file.append(b"line 0\n")
    assert list(reader.new_lines()) == [b"line 0"]
    for number in range(1, 20):
        file.append(b"line %02d\n" % number)
    rest_of_its_file, *later = reader.new_lines()
    assert rest_of_its_file == b"line 01"
    assert later == [b"line %02d" % number for number in range(20 - len(later), 20)]
    assert len(later) >= 4
    file.close()
    reader.close()


def test_a_line_still_being_written_waits_until_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"whole\nhal")
    reader = RotatedLines(path)
    assert list(reader.new_lines()) == [b"whole"]
    with path.open("ab") as file:
        file.write(b"f\n")
    assert list(reader.new_lines()) == [b"half"]
    reader.close()


def test_a_file_that_is_wiped_and_begun_again_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"before, and long\n")
    reader = RotatedLines(path)
    assert list(reader.new_lines()) == [b"before, and long"]
    path.unlink()
    assert list(reader.new_lines()) == []
    path.write_bytes(b"after\n")
    assert list(reader.new_lines()) == [b"after"]
    reader.close()
