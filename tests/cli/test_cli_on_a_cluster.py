"""The command line against real nodes, in processes of its own, as a shell runs it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from kvctl.cluster.local_cluster import Cluster

DEADLINE_S = 30.0
Shell = Callable[..., "subprocess.CompletedProcess[bytes]"]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes, shared by the tests here; each leaves all of them up."""
    with Cluster(nodes=3) as running:
        yield running


@pytest.fixture
def shell(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> Shell:
    """`shell("get", "k")` runs a whole kvctl process on the cluster."""
    monkeypatch.setenv("KVCTL_HOME", str(cluster.home))

    def run(*arguments: str, stdin: bytes = b"") -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "kvctl", *arguments],
            input=stdin,
            capture_output=True,
            timeout=DEADLINE_S,
            check=False,
        )

    return run


def documents(done: subprocess.CompletedProcess[bytes]) -> list[Any]:
    return [json.loads(line) for line in done.stdout.splitlines()]


def states(shell: Shell) -> dict[str, str]:
    (status,) = documents(shell("status", "-o", "json"))
    return {node["id"]: node["state"] for node in status["nodes"]}


def test_any_bytes_round_trip_through_the_shell(shell: Shell) -> None:
    value = bytes(range(256)) * 100
    assert shell("put", "bytes", "-", stdin=value).returncode == 0
    got = shell("get", "bytes")
    assert (got.returncode, got.stdout, got.stderr) == (0, value, b"")


def test_a_put_with_the_context_of_a_get_replaces_exactly_what_was_read(shell: Shell) -> None:
    shell("put", "ctx", "a")
    shell("put", "ctx", "b", "--blind")
    (read,) = documents(shell("get", "ctx", "-o", "json"))
    assert sorted(each["value"] for each in read["siblings"]) == ["a", "b"]
    shell("put", "ctx", "meanwhile", "--blind")
    (put,) = documents(shell("put", "ctx", "both", "--context", read["context"], "-o", "json"))
    assert put["siblings"] == 2
    (after,) = documents(shell("get", "ctx", "-o", "json"))
    assert sorted(each["value"] for each in after["siblings"]) == ["both", "meanwhile"]
    assert shell("put", "other", "x", "--context", read["context"]).returncode == 2


def test_a_conflict_is_found_shown_and_resolved(shell: Shell) -> None:
    shell("put", "cart", "apple")
    shell("put", "cart", "pear", "--blind")
    assert shell("get", "cart").returncode == 6
    assert any(line["key"] == "cart" for line in documents(shell("conflicts", "-o", "jsonl")))
    (read,) = documents(shell("get", "cart", "-o", "json"))
    node, count = next(each["dot"] for each in read["siblings"] if each["value"] == "pear")
    assert shell("resolve", "cart", "--pick", f"{node}:{count}").returncode == 0
    assert shell("get", "cart").stdout == b"pear"
    assert not any(line["key"] == "cart" for line in documents(shell("conflicts", "-o", "jsonl")))


def test_a_deleted_key_is_not_found_and_is_in_no_dump(shell: Shell) -> None:
    shell("put", "gone", "x")
    assert shell("del", "gone").returncode == 0
    assert shell("get", "gone").returncode == 1
    assert all(line["key"] != "gone" for line in documents(shell("dump")))


def test_a_dump_loads_into_another_prefix_with_all_bytes_and_siblings(shell: Shell) -> None:
    shell("put", "src:1", "-", stdin=b"\x00\xff\n")
    shell("put", "src:2", "a")
    shell("put", "src:2", "b", "--blind")
    shell("del", "src:2", "--context", documents(shell("get", "src:2", "-o", "json"))[0]["context"])
    shell("put", "src:3", "a")
    shell("put", "src:3", "b", "--blind")
    dumped = shell("dump", "src:").stdout
    loaded = shell("load", stdin=dumped.replace(b'"src:', b'"dst:'))
    assert loaded.returncode == 0, loaded.stderr
    lines = {line["key"]: line for line in documents(shell("dump", "dst:"))}
    assert set(lines) == {"dst:1", "dst:3"}
    assert lines["dst:1"] == {"key": "dst:1", "value": "AP8K", "enc": "base64"}
    assert sorted(each["value"] for each in lines["dst:3"]["siblings"]) == ["a", "b"]


def test_of_many_lines_with_one_key_the_last_one_wins(shell: Shell) -> None:
    lines = b"".join(
        b'{"key":"order:%d","value":"%d"}\n' % (number % 7, number) for number in range(700)
    )
    assert shell("load", stdin=lines).returncode == 0
    for key in range(7):
        assert shell("get", f"order:{key}").stdout == b"%d" % (693 + key)


def test_the_answer_of_each_node_is_the_same(shell: Shell) -> None:
    shell("put", "via", "x", "-w", "3")
    for node in ("n1", "n2", "n3"):
        done = shell("get", "via", "--via", node, "-r", "1", "-o", "json")
        assert documents(done)[0]["siblings"][0]["value"] == "x"


def test_a_killed_node_shows_as_dead_and_its_cluster_goes_on(shell: Shell) -> None:
    assert shell("kill", "n2").stdout == b"n2\n"
    try:
        assert states(shell) == {"n1": "up", "n2": "dead", "n3": "up"}
        assert shell("status", "--check").returncode == 1
        (put,) = documents(shell("put", "during", "x", "-o", "json"))
        assert put["degraded"] is True
        refused = shell("put", "during", "y", "-w", "3", "-o", "json")
        assert refused.returncode == 3
        assert json.loads(refused.stderr)["error"]["kind"] == "unavailable"
        unreachable = shell("get", "during", "--via", "n2")
        assert unreachable.returncode == 5
    finally:
        shell("start", "n2")
    assert shell("status", "--check").returncode == 0
    assert shell("get", "during").stdout == b"x"


def test_a_paused_node_shows_as_paused(shell: Shell) -> None:
    shell("pause", "n3")
    try:
        assert states(shell)["n3"] == "paused"
    finally:
        shell("resume", "n3")
    assert states(shell)["n3"] == "up"


def test_the_quorum_changes_without_a_restart(shell: Shell) -> None:
    try:
        done = shell("config", "set", "r=1", "w=3", "-o", "json")
        assert done.returncode == 0, done.stderr
        (put,) = documents(shell("put", "all", "x", "-o", "json"))
        assert sorted(put["acked"]) == ["n1", "n2", "n3"]
    finally:
        shell("config", "set", "r=2", "w=2")
    (status,) = documents(shell("status", "-o", "json"))
    assert status["quorum"] == {"n": 3, "r": 2, "w": 2, "mode": "sloppy"}


def test_ring_where_and_get_explain_agree_on_the_owners(shell: Shell) -> None:
    (place,) = documents(shell("where", "k", "-o", "json"))
    shell("put", "k", "v")
    explained = shell("get", "k", "--explain").stderr.decode()
    owners = ", ".join(place["primaries"])
    assert explained.startswith(f"partition {place['partition']}, owned by {owners}.\n")
    (ring,) = documents(shell("ring", "-o", "json"))
    assert ring["partitions"] == 1024
    assert sum(owner["share"] for owner in ring["owners"]) == pytest.approx(1.0)


def test_logs_events_and_metrics_tell_of_the_nodes(shell: Shell) -> None:
    nodes = {"n1", "n2", "n3"}
    assert {line["node"] for line in documents(shell("logs", "-o", "jsonl"))} == nodes
    shell("put", "told", "a")
    shell("put", "told", "b", "--blind")
    events = documents(shell("events", "--key", "told", "-o", "jsonl"))
    assert {event["kind"] for event in events} >= {"sibling_created"}
    assert {"at", "node", "seq", "kind"} <= set(events[0])
    metrics = shell("metrics").stdout.decode()
    assert metrics.endswith("# EOF\n")
    for node in nodes:
        assert (
            f'kvctl_node_state{{cluster="local",node="{node}",kvctl_node_state="up"}} 1' in metrics
        )


def test_following_events_shows_one_as_it_happens(shell: Shell) -> None:
    follower = subprocess.Popen(
        [sys.executable, "-m", "kvctl", "events", "-f", "--key", "live", "-o", "jsonl"],
        stdout=subprocess.PIPE,
    )
    try:
        shell("put", "live", "a")
        shell("put", "live", "b", "--blind")
        assert follower.stdout is not None
        event = json.loads(follower.stdout.readline())
        assert (event["kind"], event["key"]) == ("sibling_created", "live")
    finally:
        follower.send_signal(2)
        follower.communicate(timeout=DEADLINE_S)
    assert follower.returncode == 130


def test_a_closed_pipe_ends_quietly(shell: Shell) -> None:
    lines = b"".join(b'{"key":"pipe:%d","value":"x"}\n' % number for number in range(5000))
    shell("load", stdin=lines)
    scan = subprocess.Popen(
        [sys.executable, "-m", "kvctl", "scan", "pipe:"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert scan.stdout is not None
    assert scan.stderr is not None
    assert scan.stdout.readline().startswith(b"pipe:")
    scan.stdout.close()
    assert scan.stderr.read() == b""
    scan.stderr.close()
    assert scan.wait(timeout=DEADLINE_S) == 0


def test_a_value_on_a_terminal_is_the_value_and_siblings_are_a_table(shell: Shell) -> None:
    shell("put", "tty", "plain")
    assert on_a_terminal("get", "tty") == (0, "plain\r\n")
    shell("put", "tty", "other", "--blind")
    code, text = on_a_terminal("get", "tty")
    assert code == 6
    assert "plain" in text
    assert "other" in text
    assert "PICK" in text


def on_a_terminal(*arguments: str) -> tuple[int, str]:
    """Exit code and stdout of a command whose stdout is a terminal."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "kvctl", *arguments],
        stdout=theirs,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    os.close(theirs)
    chunks = []
    deadline_s = time.monotonic() + DEADLINE_S
    try:
        while time.monotonic() < deadline_s and (chunk := os.read(ours, 4096)):
            chunks.append(chunk)
    except OSError:
        pass  # the other end of a terminal is closed: all was read
    finally:
        os.close(ours)
    return process.wait(timeout=DEADLINE_S), b"".join(chunks).decode()


def test_a_benchmark_reports_the_promised_figures(shell: Shell) -> None:
    done = shell("bench", "--time", "300ms", "--keys", "50", "--in-flight", "8", "-o", "json")
    assert done.returncode == 0, done.stderr
    (report,) = documents(done)
    assert {"workload", "ops", "errors", "seconds", "ops_per_s", "p50_ms", "p95_ms"} <= set(report)
    assert {"p99_ms", "in_flight", "clients", "echo_per_s", "echo_ms"} <= set(report)
    assert report["ops"] > 0
    assert report["errors"] == 0
