"""The registry keeps what is told to it, as JSON, and never hangs on a damaged file."""

from __future__ import annotations

import sqlite3
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvctl.cluster.run_state import (
    ClusterRun,
    DeferredAction,
    NodeRun,
    Registry,
    RegistryError,
    _decode,
    _encode,
)

RUN = ClusterRun(
    cluster_id="c" * 32,
    created_ms=1,
    ephemeral=True,
    expiry=DeferredAction("a", "down", 5),
    nodes={"n1": NodeRun(wanted="running", pid=7, started_s=1.5, nonce="n", generation=3)},
)


def test_what_was_written_is_read_back_by_another_registry(tmp_path: Path) -> None:
    Registry(tmp_path).write("shop", RUN)
    assert Registry(tmp_path).read("shop") == RUN
    assert Registry(tmp_path).read_all() == {"shop": RUN}


def test_an_unknown_cluster_and_a_missing_registry_are_blank(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    assert registry.read("shop") == ClusterRun()
    assert not registry.path.exists()
    registry.write("lab", RUN)
    assert registry.read("shop") == ClusterRun()


def test_a_forgotten_cluster_is_blank_and_forgetting_twice_is_fine(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.write("shop", RUN)
    registry.forget("shop")
    registry.forget("shop")
    assert registry.read_all() == {}


def test_values_are_plain_json_in_the_file_and_never_pickles(tmp_path: Path) -> None:
    Registry(tmp_path).write("shop", RUN)
    with sqlite3.connect(Registry(tmp_path).path) as connection:
        [(key, value)] = connection.execute("SELECT key, value FROM run_state").fetchall()
    connection.close()
    assert key == "shop"
    assert msgspec.json.decode(value)["nodes"]["n1"]["pid"] == 7


def test_the_registry_can_be_read_by_its_user_only(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.write("shop", RUN)
    assert stat.S_IMODE(registry.path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"no database at all, but longer than a header" * 9, b"{}"])
def test_a_damaged_registry_is_an_error_with_a_way_out(tmp_path: Path, content: bytes) -> None:
    registry = Registry(tmp_path)
    registry.path.write_bytes(content)
    with pytest.raises(RegistryError) as caught:
        registry.read("shop")
    assert "doctor --fix" in caught.value.hint
    registry.set_aside()
    assert registry.read("shop") == ClusterRun()


def test_a_damaged_value_is_an_error_and_not_forgotten(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.write("shop", RUN)
    with sqlite3.connect(registry.path) as connection:
        connection.execute("UPDATE run_state SET value = '{\"nodes\": 3}'")
    connection.close()
    with pytest.raises(RegistryError):
        registry.read("shop")


def test_updates_from_several_threads_are_all_kept(tmp_path: Path) -> None:
    def add(number: int) -> None:
        Registry(tmp_path).update(
            "shop", lambda run: run.with_nodes({f"n{number}": NodeRun(pid=number)})
        )

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(add, range(12)))
    assert len(Registry(tmp_path).read("shop").nodes) == 12


node_runs = st.builds(
    NodeRun,
    wanted=st.sampled_from(["running", "stopped"]),
    pid=st.integers(0, 1 << 30),
    started_s=st.floats(0, 1e9),
    nonce=st.text(),
    generation=st.integers(0, 1 << 62),
    actor_epoch=st.integers(0, 1 << 62),
    deferred=st.none()
    | st.builds(DeferredAction, id=st.text(), action=st.text(), due_ms=st.integers(0, 1 << 60)),
)


@given(nodes=st.dictionaries(st.text(), node_runs, max_size=4), ephemeral=st.booleans())
def test_every_run_state_survives_its_encoding(nodes: dict[str, NodeRun], ephemeral: bool) -> None:
    run = ClusterRun(cluster_id="x", ephemeral=ephemeral, nodes=nodes)
    assert _decode(_encode(run)) == run
