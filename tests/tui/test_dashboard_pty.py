"""The dashboard in a real terminal, watching and breaking real nodes."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvctl.cluster.facts import DEAD, UP
from kvctl.cluster.local_cluster import Cluster
from kvctl.view.recorder import Recorder
from tests.tui.dashboard_pilot import busy_cluster
from tests.tui.terminal import Terminal
from tests.unit.view.cluster_story import BEGAN_MS

COLOR = re.compile(rb"\x1b\[[0-9;:]*\b(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])[;:m]")
"""A colour, in any of the ways terminals have: SGR 30-38, 40-48, 90-97, 100-107."""
LEAVE_ALTERNATE_SCREEN = b"\x1b[?1049l"


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Three nodes, shared; tests leave them up."""
    with Cluster(nodes=3) as running:
        yield running


def dashboard(cluster: Cluster, *options: str) -> Terminal:
    """The dashboard on this cluster."""
    environment = {"KVCTL_HOME": str(cluster.home), "KVCTL_CLUSTER": cluster.name}
    return Terminal(["dashboard", *options], environment=environment)


def states(cluster: Cluster) -> dict[str, str]:
    """What `kvctl status` would say."""
    return {node.id: node.state for node in cluster.status().nodes}


def shows_all_up(text: str) -> bool:
    """Whether the table shows three nodes up, and the header all ranges served."""
    return text.count("●U up") == 3 and "1024 full" in text


def test_a_node_is_killed_and_revived_by_key_and_the_picture_follows(cluster: Cluster) -> None:
    with dashboard(cluster) as terminal:
        terminal.until(shows_all_up)
        terminal.press("\x1b[B")  # down
        terminal.press("k")
        terminal.until(lambda text: "n2 was killed." in text and "○D down" in text)
        terminal.until(lambda text: "1024 degr" in text)
        assert states(cluster)["n2"] == DEAD
        terminal.press("u")
        terminal.until(lambda text: "n2 was started." in text and shows_all_up(text))
        terminal.press("q")
        assert terminal.until_ended() == 0
        assert LEAVE_ALTERNATE_SCREEN in terminal.output
        assert terminal.settings == terminal.settings_before
    assert set(states(cluster).values()) == {UP}, "the cluster goes on without the dashboard"


def test_a_value_that_is_put_by_command_is_in_the_store(cluster: Cluster) -> None:
    with dashboard(cluster) as terminal:
        terminal.until(shows_all_up)
        terminal.press(":put cart 7\r")
        terminal.until(lambda text: "put cart: acknowledged by" in text)
        terminal.press("q")
        terminal.until_ended()
    assert cluster.client().get("cart").value == b"7"


def test_a_dashboard_that_is_killed_leaves_the_cluster_as_it_was(cluster: Cluster) -> None:
    with dashboard(cluster) as terminal:
        terminal.until(shows_all_up)
        terminal.press("\x1b[B\x1b[Bk")
        terminal.until(lambda text: "n3 was killed." in text)
        terminal.press("u")
        terminal.until(lambda text: "n3 was started." in text)
        # The node is a child of the process that now dies.
        os.kill(terminal.process.pid, signal.SIGKILL)
    with dashboard(cluster, "--read-only") as terminal:
        terminal.until(shows_all_up)
        terminal.press("k")
        terminal.until(lambda text: "this dashboard is read-only." in text)
    assert set(states(cluster).values()) == {UP}


def test_a_cluster_that_is_cut_in_two_is_shown_and_healed(cluster: Cluster) -> None:
    with dashboard(cluster) as terminal:
        terminal.until(shows_all_up)
        terminal.press(":isolate n1\r")
        terminal.until(lambda text: "╳C cut" in text and "faults" in text)
        terminal.press(":heal\r")
        terminal.until(lambda text: "1 fault lifted." in text and shows_all_up(text))


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """A recording of a minute of a cluster that does not exist."""
    path = tmp_path / "recording"
    with Recorder(path, cluster="demo", began_ms=BEGAN_MS) as recorder:
        for observation in busy_cluster():
            recorder.record(observation)
    return path


@pytest.mark.parametrize(
    ("environment", "option"), [({"NO_COLOR": "1"}, []), ({}, ["--no-color"])], ids=["env", "flag"]
)
def test_without_colours_not_a_single_colour_is_sent(
    recording: Path, environment: dict[str, str], option: list[str]
) -> None:
    assert COLOR.search(b"\x1b[1;38;5;253;48;5;233m"), "or the pattern is wrong"
    arguments = ["dashboard", "--replay", str(recording), *option]
    with Terminal(arguments, columns=80, rows=24, environment=environment) as terminal:
        terminal.until(lambda text: "REPLAY" in text and text.count("●U up") == 5)
        terminal.press("2")
        terminal.until(lambda text: "commit log" in text)
        terminal.press("?")
        terminal.until(lambda text: "Keys" in text)
        assert COLOR.search(terminal.output) is None


def test_with_colours_there_are_colours(recording: Path) -> None:
    with Terminal(["dashboard", "--replay", str(recording)]) as terminal:
        terminal.until(lambda text: "REPLAY" in text)
        assert COLOR.search(terminal.output)


def test_contradicting_options_are_refused() -> None:
    with Terminal(["dashboard", "--record", "a", "--replay", "b"]) as terminal:
        assert terminal.until_ended() == 2
        assert "exclude each other" in terminal.text
