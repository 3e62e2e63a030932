"""Commands that act on clusters and nodes: what they ask the supervisor, what they print."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kvctl.cli.open_metrics import exposition
from kvctl.cluster.facts import (
    ClusterStatus,
    ClusterSummary,
    DownReport,
    Finding,
    NodeStatus,
    QuorumStatus,
    UpReport,
)
from kvctl.cluster.options import UpOptions
from kvctl.cluster.supervisor import Supervisor
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig
from tests.cli.cli_run import Command
from tests.cli.stopped_cluster import make_cluster

CONFIG = ClusterConfig(nodes=(NodeSpec("n1"),), quorum=QuorumConfig(1, 1, 1))
Calls = list[tuple[str, tuple[Any, ...], dict[str, Any]]]


@pytest.fixture
def supervised(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Any], Calls]:
    """`supervised("kill", result)`: what the supervisor answers; returns the calls it gets."""
    calls: Calls = []

    def script(method: str, result: Any) -> Calls:
        def answer(self: Supervisor, *arguments: Any, **options: Any) -> Any:
            calls.append((method, arguments, options))
            return result

        monkeypatch.setattr(Supervisor, method, answer)
        return calls

    return script


def node(name: str, state: str, **figures: Any) -> NodeStatus:
    defaults: dict[str, Any] = {"endpoint": f"tcp://127.0.0.1:{name}", "zone": "", "capacity": 1.0}
    return NodeStatus(id=name, state=state, share=0.5, **{**defaults, **figures})


def status_of(*nodes: NodeStatus) -> ClusterStatus:
    return ClusterStatus(
        cluster="shop", quorum=QuorumStatus(3, 2, 2, "sloppy"), epoch=1, nodes=tuple(nodes)
    )


def test_up_passes_every_option_on(
    supervised: Callable[[str, Any], Calls], kvctl_command: Command, tmp_path: Path
) -> None:
    report = UpReport(
        name="shop",
        created=True,
        started=("n1",),
        announcements=("one node: R=1, W=1.",),
        config=CONFIG,
        seconds=0.5,
    )
    calls = supervised("up", report)
    file = tmp_path / "c.toml"
    file.write_text('[quorum]\nn = 1\nr = 1\nw = 1\n[[nodes]]\nname = "n1"\n')
    outcome = kvctl_command(
        *("up", "-c", "shop", "-n", "1", "--replicas", "1", "-r", "1", "-w", "1"),
        *("--mode", "strict", "--capacity", "n1=2.5", "--zone", "n1=a", "--config", str(file)),
        *("--durability", "fsync", "--base-port", "7000", "--partitions", "64"),
        *("--ephemeral", "--ttl", "10m", "--no-wait", "--timeout", "7s", "-o", "json"),
    )
    assert outcome.code == 0
    ((_, (name, options), rest),) = calls
    assert (name, rest) == ("shop", {"wait": False, "timeout_s": 7.0})
    assert options == UpOptions(
        nodes=1,
        replicas=1,
        r=1,
        w=1,
        mode="strict",
        durability="fsync",
        partitions=64,
        base_port=7000,
        capacity={"n1": 2.5},
        zone={"n1": "a"},
        config=CONFIG,
        ephemeral=True,
        ttl_s=600.0,
    )
    assert outcome.document["started"] == ["n1"]
    assert "one node: R=1, W=1." in outcome.stderr


def test_up_without_options_leaves_everything_as_it_is(
    supervised: Callable[[str, Any], Calls], kvctl_command: Command
) -> None:
    report = UpReport(name="default", created=False, started=(), config=CONFIG, seconds=0.1)
    calls = supervised("up", report)
    outcome = kvctl_command("up")
    assert calls[0][1] == ("default", UpOptions())
    assert outcome.stdout == b""
    assert outcome.stderr == "cluster default: 1 node, all of them ran already.\n"


def test_up_in_the_foreground_ends_with_130_when_interrupted(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run_in_foreground(
        self: Supervisor,
        name: str,
        options: UpOptions,
        *,
        ready: Callable[[UpReport], None],
        timeout_s: float,
    ) -> None:
        assert timeout_s == 30.0
        ready(UpReport(name=name, created=True, started=("n1",), config=CONFIG, seconds=1.0))
        raise KeyboardInterrupt

    monkeypatch.setattr(Supervisor, "run_in_foreground", run_in_foreground)
    outcome = kvctl_command("up", "--fg")
    assert outcome.code == 130
    assert "Ctrl-C stops the cluster." in outcome.stderr


def test_down_reports_what_it_did(
    supervised: Callable[[str, Any], Calls], kvctl_command: Command
) -> None:
    report = DownReport(name="shop", stopped=("n1",), killed=("n2",), purged=True)
    calls = supervised("down", report)
    outcome = kvctl_command("down", "-c", "shop", "--purge", "-o", "json")
    assert calls[0][1:] == (("shop",), {"purge": True, "grace_s": 10.0})
    assert outcome.document == {
        "cluster": "shop",
        "stopped": ["n1"],
        "killed": ["n2"],
        "purged": True,
    }
    assert "had to be killed: n2" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "method", "positional", "options"),
    [
        (("start", "n1"), "start", ["n1"], {"wait": True, "timeout_s": 30.0}),
        (("start", "--all", "--no-wait"), "start", [], {"wait": False, "timeout_s": 30.0}),
        (("stop", "n1,n2", "n3"), "stop", ["n1", "n2", "n3"], {"for_s": None, "grace_s": 10.0}),
        (("stop", "n1", "--for", "10s"), "stop", ["n1"], {"for_s": 10.0, "grace_s": 10.0}),
        (("restart", "n1"), "restart", ["n1"], {"wait": True, "timeout_s": 30.0}),
        (("kill", "n1", "--for", "500ms"), "kill", ["n1"], {"for_s": 0.5}),
        (("pause", "n1"), "pause", ["n1"], {"for_s": None}),
        (("resume", "--all"), "resume", [], {}),
        (("wipe", "n1", "--timeout", "9s"), "wipe", ["n1"], {"wait": True, "timeout_s": 9.0}),
    ],
)
def test_commands_on_nodes_ask_the_supervisor_for_just_that(
    arguments: tuple[str, ...],
    method: str,
    positional: list[str],
    options: dict[str, Any],
    supervised: Callable[[str, Any], Calls],
    kvctl_command: Command,
) -> None:
    calls = supervised(method, ("n1",))
    outcome = kvctl_command(*arguments, "-c", "shop")
    assert outcome.code == 0
    assert calls == [(method, ("shop", positional), options)]
    assert outcome.text == "n1\n"


def test_all_and_names_exclude_each_other(kvctl_command: Command) -> None:
    assert kvctl_command("kill", "n1", "--all").code == 2


def test_status_in_json_has_the_promised_fields(
    supervised: Callable[[str, Any], Calls], kvctl_command: Command
) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    nodes = (
        node("n1", "up", pid=7, keys=3, hints=0, conflicts=1, snapshot={"secret": 1}),
        node("n2", "dead", reason="it was killed"),
    )
    supervised("status", status_of(*nodes))
    document = kvctl_command("status", "-o", "json").document
    assert document["cluster"] == "shop"
    assert document["quorum"] == {"n": 3, "r": 2, "w": 2, "mode": "sloppy"}
    assert document["epoch"] == 1
    assert document["nodes"][0] == {
        "id": "n1",
        "state": "up",
        "pid": 7,
        "endpoint": "tcp://127.0.0.1:n1",
        "zone": "",
        "capacity": 1.0,
        "share": 0.5,
        "keys": 3,
        "hints": 0,
        "conflicts": 1,
    }
    assert document["nodes"][1]["pid"] is None
    assert document["nodes"][1]["reason"] == "it was killed"


def test_status_check_is_the_exit_code_of_health(
    supervised: Callable[[str, Any], Calls], kvctl_command: Command
) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    supervised("status", status_of(node("n1", "up")))
    assert kvctl_command("status", "--check").code == 0
    supervised("status", status_of(node("n1", "up"), node("n2", "paused")))
    assert kvctl_command("status").code == 0
    assert kvctl_command("status", "--check").code == 1


def test_status_as_a_table_has_titles_and_plain_has_none(
    supervised: Callable[[str, Any], Calls], kvctl_command: Command
) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    supervised("status", status_of(node("n1", "up", pid=7, keys=3)))
    table = kvctl_command("status", terminal=True).text
    assert "NODE" in table
    assert "shop: N=3 R=2 W=2 sloppy" in table
    supervised("status", status_of(node("n1", "dead", reason="it was killed")))
    assert "n1: it was killed" in kvctl_command("status", terminal=True).stderr
    supervised("status", status_of(node("n1", "up", pid=7, keys=3)))
    plain = kvctl_command("status").text
    assert plain == "n1\tup\t7\ttcp://127.0.0.1:n1\t-\t1\t50.0%\t3\t-\t-\t\n"
    assert "\x1b[" in table
    assert "\x1b[" not in kvctl_command("status", "--no-color", terminal=True).text
    assert "\x1b[" not in kvctl_command("status", "-o", "table").text


def test_watching_prints_a_document_each_time_until_it_is_interrupted(
    supervised: Callable[[str, Any], Calls],
    kvctl_command: Command,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    supervised("status", status_of(node("n1", "up")))
    naps = iter((None, None))

    def instead_of_sleeping(seconds: float) -> None:
        try:
            next(naps)
        except StopIteration as error:
            raise KeyboardInterrupt from error

    monkeypatch.setattr("kvctl.cli.status.time.sleep", instead_of_sleeping)
    outcome = kvctl_command("status", "--watch", "-o", "jsonl")
    assert outcome.code == 130
    assert [line["cluster"] for line in outcome.lines] == ["shop"] * 3


def test_ls_lists_clusters(supervised: Callable[[str, Any], Calls], kvctl_command: Command) -> None:
    supervised("list_clusters", [ClusterSummary(name="a", nodes=3, running=2, problem="odd")])
    assert kvctl_command("ls").text == "a\t3\t2\tno\t-\todd\n"
    assert kvctl_command("ls", "-o", "json").document["clusters"][0]["running"] == 2


def test_doctor_fails_while_something_is_wrong(
    supervised: Callable[[str, Any], Calls], kvctl_command: Command
) -> None:
    supervised("doctor", [])
    assert kvctl_command("doctor").code == 0
    finding = Finding(kind="orphan", subject="n1", message="is left over.", fix="kills it")
    calls = supervised("doctor", [finding])
    outcome = kvctl_command("doctor")
    assert (outcome.code, outcome.text) == (1, "orphan\tn1\tis left over.\t--fix: kills it\n")
    supervised(
        "doctor", [Finding(kind="o", subject="n1", message="m.", fix="killed it", fixed=True)]
    )
    assert kvctl_command("doctor", "--fix").code == 0
    assert [options for _, _, options in calls] == [{"fix": False}, {"fix": False}, {"fix": True}]


SNAPSHOT = {
    "keys": 3,
    "hints": 1,
    "conflicts": 0,
    "accepts_writes": True,
    "peers": {"n2": {"reachable": False, "heard_ms": None}},
    "storage": {"bloom_hits": 5, "sstables": 2},
    "uptime_s": 1.5,
    "transport": {"peers": {"messages_in": 9, "dropped": {"no_room": 2}}, "clients": {}},
}


def test_metrics_are_open_metrics_text(
    supervised: Callable[[str, Any], Calls], kvctl_command: Command
) -> None:
    make_cluster("shop", QuorumConfig(3, 2, 2))
    supervised("status", status_of(node("n1", "up", snapshot=SNAPSHOT), node("n2", "dead")))
    text = kvctl_command("metrics").text
    lines = text.splitlines()
    assert text.endswith("# EOF\n")
    for line in (
        'kvctl_keys{cluster="shop",node="n1"} 3',
        'kvctl_bloom_hits_total{cluster="shop",node="n1"} 5',
        'kvctl_uptime_seconds{cluster="shop",node="n1"} 1.5',
        'kvctl_peer_reachable{cluster="shop",node="n1",peer="n2"} 0',
        'kvctl_messages_received_total{cluster="shop",node="n1",socket="peers"} 9',
        'kvctl_messages_dropped_total{cluster="shop",node="n1",socket="peers",reason="no_room"} 2',
        'kvctl_node_state{cluster="shop",node="n2",kvctl_node_state="dead"} 1',
        'kvctl_quorum{cluster="shop",parameter="w"} 2',
    ):
        assert line in lines
    assert 'kvctl_keys{cluster="shop",node="n2"}' not in text


def test_every_sample_stands_below_the_one_head_of_its_metric() -> None:
    text = exposition(status_of(node("n1", "up", snapshot=SNAPSHOT)))
    *lines, end = text.splitlines()
    assert end == "# EOF"
    metric, heads = "", []
    sample = re.compile(r'([a-z_]+?)(_total)?\{([a-z_]+="[^"]*",?)+\} -?\d+(\.\d+)?')
    for line in lines:
        if line.startswith("# TYPE "):
            metric = line.split()[2]
            heads.append(metric)
        elif line.startswith("#"):
            assert line.split()[2] == metric
        else:
            match = sample.fullmatch(line)
            assert match is not None, line
            assert match[1] == metric
    assert len(heads) == len(set(heads))
