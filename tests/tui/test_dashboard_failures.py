"""Failures as the dashboard shows them in a real terminal: made, watched and mended there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import count

import pytest

from kvctl.cluster.local_cluster import Cluster
from kvctl_node.config import ClusterConfig, NodeSpec, RepairConfig
from tests.tui.test_dashboard_pty import dashboard, shows_all_up

DOWN, PAGE_MARKS = "\x1b[B", ("SEES", "endpoint", "VERSIONS", "HOLDER", "PAIR", "EVENT", "LINE")
KEYS = [f"key{number}" for number in range(300)]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes that compare their trees often, shared; tests leave them up and whole."""
    config = ClusterConfig(
        nodes=tuple(NodeSpec(name) for name in ("n1", "n2", "n3")),
        repair=RepairConfig(compare_interval_ms=2_000),
    )
    with Cluster(config=config) as running:
        client = running.client()
        for key in KEYS:
            client.put(key, b"value", blind=True)
        yield running


@pytest.fixture(autouse=True)
def whole(cluster: Cluster) -> None:
    """A test that failed leaves its failure to nobody else."""
    cluster.heal()
    cluster.resume(*cluster.nodes)
    cluster.start(*cluster.nodes)


def beliefs(text: str, member: str) -> dict[str, str]:
    """The column of a member in the belief matrix: viewer → letter of the state."""
    column = {"n1": 1, "n2": 2, "n3": 3}[member]
    found = {}
    for line in text.splitlines():
        cells = re.search(r"(n[123])((?:\s+(?:self|\?|\S[USD?] \S+)){3})\s*$", line)
        if cells:
            row = re.findall(r"self|\?|\S[USD?] \S+", cells[2])
            found[cells[1]] = row[column - 1][1]
    return found


def rows_of(text: str, pattern: str) -> list[str]:
    """The lines that begin like this."""
    return [line for line in text.splitlines() if re.match(pattern, line)]


def test_a_killed_node_is_suspect_and_then_down_in_every_other_row(cluster: Cluster) -> None:
    seen: dict[str, list[str]] = {"n1": [], "n2": []}

    def both_are_sure(text: str) -> bool:
        for viewer, letter in beliefs(text, "n3").items():
            if viewer in seen and letter not in seen[viewer][-1:]:
                seen[viewer].append(letter)
        return all(letters[-1:] == ["D"] for letters in seen.values())

    with dashboard(cluster) as terminal:
        terminal.until(shows_all_up)
        terminal.press(DOWN + DOWN + "k")
        terminal.until(both_are_sure)
        assert all(letters[-3:] == ["U", "S", "D"] for letters in seen.values()), seen
        terminal.press("u")
        terminal.until(shows_all_up)


def test_conflicting_writes_on_both_sides_of_a_cut_are_settled_in_the_dashboard(
    cluster: Cluster,
) -> None:
    client = cluster.client()
    with dashboard(cluster) as terminal:
        terminal.until(shows_all_up)
        terminal.press("x")
        terminal.until(lambda text: "nothing is cut" in text)
        terminal.press("i")
        terminal.until(lambda text: "kvctl partition n1 n2,n3" in text)
        terminal.press("\r")
        terminal.until(lambda text: "the network is cut" in text and "faults 1" in text)
        client.put("color", "red", w=1, blind=True, via="n1")
        client.put("color", "blue", w=1, blind=True, via="n2")
        terminal.press("H")
        terminal.until(lambda text: "1 fault lifted." in text and shows_all_up(text))
        terminal.press("3")
        terminal.until(lambda text: re.search(r"color +2 ", text))
        # Until all replicas have both, a read may see one of them, and nothing would be written.
        cluster.wait("converged")
        terminal.until(lambda text: re.search(r"> n\d:\d+", text))
        chosen = re.search(r"> (n\d:\d+)", terminal.text)
        assert chosen
        terminal.press("t")
        terminal.until(lambda text: f"kvctl resolve color --pick {chosen[1]}" in text)
        terminal.until(lambda text: "no key has siblings" in text)
    assert client.get("color").value in (b"red", b"blue")


def test_hints_are_seen_to_fill_and_to_drain(cluster: Cluster) -> None:
    client = cluster.client()
    with dashboard(cluster) as terminal:
        terminal.until(shows_all_up)
        terminal.press("4")
        terminal.until(lambda text: "HOLDER" in text)
        terminal.press(":kill n3\r")
        terminal.until(lambda text: "n3 was killed." in text)
        for key in KEYS:
            client.put(key, b"newer", blind=True)
        # Nobody is left to stand in, so whoever coordinates keeps a hint for the one that is away.
        terminal.until(
            lambda text: sum(int(row.split()[4]) for row in rows_of(text, "n[12] +n3 ")) == 300
        )
        terminal.press("1")
        terminal.until(lambda text: re.search(r"put key\d+ +n[12] → n[12]✓ n[12]✓ n3✗", text))
        terminal.press("4")
        # Until its silence has been noticed, r would restart it.
        terminal.until(lambda text: re.search(r"n[12] +n3 .*down", text))
        terminal.press("r")
        terminal.until(lambda text: "n3 was started." in text)
        terminal.until(lambda text: "no hints: nobody was missed" in text and "hints 0" in text)


def test_a_wiped_node_is_seen_to_be_rebuilt_until_all_pairs_are_equal(cluster: Cluster) -> None:
    with dashboard(cluster) as terminal:
        terminal.until(shows_all_up)
        terminal.press("5")
        terminal.until(lambda text: len(rows_of(text, r"n\d-n\d +equal")) == 3)
        cluster.wipe("n2")
        terminal.until(lambda text: rows_of(text, r"n\d-n\d +(comparing|repairing|repaired)"))
        terminal.until(lambda text: len(rows_of(text, r"n\d-n\d +equal")) == 3)
        terminal.press("1")
        terminal.until(shows_all_up)


def test_a_node_that_hangs_never_blocks_the_screen(cluster: Cluster) -> None:
    with dashboard(cluster) as terminal:
        terminal.until(shows_all_up)
        terminal.press("p")
        terminal.until(lambda text: "n1 was paused." in text and "‖P paused" in text)
        for page, mark in zip("1234567", PAGE_MARKS, strict=True):
            terminal.press(page)
            terminal.until(lambda text, mark=mark: mark in text, within_s=3.0)
        terminal.press("1p")
        terminal.until(lambda text: "n1 goes on." in text and shows_all_up(text))


def test_a_feed_that_dies_is_stale_and_comes_back(cluster: Cluster) -> None:
    config = cluster.directory.config_path
    away = config.with_name("away.json")
    with dashboard(cluster, "--read-only") as terminal:
        terminal.until(shows_all_up)
        config.rename(away)
        try:
            terminal.until(lambda text: text.startswith("STALE") and "there is no cluster" in text)
        finally:
            away.rename(config)
        terminal.until(lambda text: text.startswith("LIVE") and shows_all_up(text))


def test_operations_of_other_clients_run_over_the_overview(cluster: Cluster) -> None:
    numbers = count()

    def shows_one(text: str) -> bool:
        if next(numbers) % 20 == 0:
            cluster.client().get(KEYS[0])
        return re.search(rf"get {KEYS[0]} .* n\d → n\d✓ ", text) is not None

    with dashboard(cluster, "--read-only") as terminal:
        terminal.until(shows_all_up)
        terminal.until(shows_one)
