"""Where clusters live, which one a command means, and what makes one exist."""

from __future__ import annotations

import pwd
import stat
from pathlib import Path

import pytest

from kvctl.cluster.directory import (
    FORMAT_VERSION,
    ClusterDirectory,
    choose_cluster,
    cluster_directory,
    cluster_names,
    home_directory,
    open_cluster,
)
from kvctl.errors import ClusterNotFoundError, HomeError, NewerFormatError, exit_code_of
from kvctl_node.config import ClusterConfig, NodeSpec, QuorumConfig
from kvctl_node.errors import ConfigError

CONFIG = ClusterConfig(nodes=(NodeSpec(name="n1"),), quorum=QuorumConfig(n=1, r=1, w=1), name="a")


def make_cluster(home: Path, name: str) -> ClusterDirectory:
    directory = cluster_directory(name, home)
    directory.path.mkdir(parents=True)
    directory.write_format()
    directory.save(CONFIG)
    return directory


@pytest.fixture(autouse=True)
def no_cluster_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVCTL_CLUSTER", raising=False)


def test_the_home_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KVCTL_HOME", "/somewhere/else")
    assert home_directory() == Path("/somewhere/else")
    monkeypatch.delenv("KVCTL_HOME")
    assert home_directory().name == "kvctl"


def no_entry(uid: int) -> pwd.struct_passwd:
    raise KeyError(uid)


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "no home directory"),
        ({"HOME": "relative"}, "no home directory"),
        ({"HOME": "/somewhere", "XDG_STATE_HOME": "relative/state"}, "relative/state"),
        ({"KVCTL_HOME": "~nobody-of-this-name/kvctl"}, "nobody-of-this-name"),
    ],
)
def test_a_home_that_is_nowhere_is_refused_with_the_way_out(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], named: str
) -> None:
    for name in ("KVCTL_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    with pytest.raises(HomeError, match=named) as caught:
        home_directory()
    assert "KVCTL_HOME" in caught.value.message + caught.value.hint
    assert exit_code_of(caught.value) == 5


def test_a_user_without_a_home_can_say_where_the_state_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("KVCTL_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(pwd, "getpwuid", no_entry)
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert home_directory().is_absolute()


def test_without_a_name_the_only_cluster_is_meant(tmp_path: Path) -> None:
    make_cluster(tmp_path, "shop")
    assert choose_cluster(None, tmp_path) == "shop"


def test_of_several_clusters_the_default_one_is_meant_and_nothing_is_guessed(
    tmp_path: Path,
) -> None:
    make_cluster(tmp_path, "shop")
    make_cluster(tmp_path, "lab")
    with pytest.raises(ClusterNotFoundError, match="lab, shop"):
        choose_cluster(None, tmp_path)
    make_cluster(tmp_path, "default")
    assert choose_cluster(None, tmp_path) == "default"


def test_the_option_wins_over_the_environment_over_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_cluster(tmp_path, "shop")
    monkeypatch.setenv("KVCTL_CLUSTER", "lab")
    assert choose_cluster(None, tmp_path) == "lab"
    assert choose_cluster("mine", tmp_path) == "mine"


def test_a_directory_without_cluster_json_is_no_cluster(tmp_path: Path) -> None:
    make_cluster(tmp_path, "shop").config_path.unlink()
    assert cluster_names(tmp_path) == []
    with pytest.raises(ClusterNotFoundError) as caught:
        open_cluster("shop", tmp_path)
    assert exit_code_of(caught.value) == 5


def test_an_empty_home_says_how_to_start(tmp_path: Path) -> None:
    with pytest.raises(ClusterNotFoundError, match="no cluster yet") as caught:
        open_cluster(None, tmp_path)
    assert "kvctl up" in caught.value.hint


def test_what_was_saved_is_loaded_and_private(tmp_path: Path) -> None:
    directory = make_cluster(tmp_path, "a")
    assert directory.load() == CONFIG
    assert stat.S_IMODE(directory.config_path.stat().st_mode) == 0o600
    assert [path.name for path in directory.path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("name", ["", "..", "../x", "A", "-a", "a/b", "a" * 33, "a\n"])
def test_a_name_that_could_leave_the_home_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="is not a cluster name"):
        cluster_directory(name, tmp_path)


def test_a_newer_format_is_refused_before_anything_is_read(tmp_path: Path) -> None:
    directory = make_cluster(tmp_path, "a")
    directory.format_path.write_text(f"{FORMAT_VERSION + 1}\n")
    directory.config_path.write_text('{"from": "the future"}')
    with pytest.raises(NewerFormatError, match=f"format {FORMAT_VERSION + 1}"):
        directory.load()


def test_a_damaged_format_file_is_reported(tmp_path: Path) -> None:
    directory = make_cluster(tmp_path, "a")
    directory.format_path.write_text("one")
    with pytest.raises(HomeError, match="version number"):
        directory.load()


def test_a_damaged_cluster_json_is_reported_not_taken_for_no_cluster(tmp_path: Path) -> None:
    directory = make_cluster(tmp_path, "a")
    directory.config_path.write_text("{")
    with pytest.raises(ConfigError, match=r"cluster\.json"):
        directory.load()
    assert cluster_names(tmp_path) == ["a"]
