"""CURVE key files: made once, private from the first byte, refused when exposed or damaged."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
import zmq

from kvctl_node.errors import ConfigError
from kvctl_node.runtime import security
from kvctl_node.runtime.security import (
    CurveKey,
    create_keys,
    key_path,
    load_key,
    load_public_key,
    read_public_keys,
)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_every_node_and_the_clients_get_a_private_key(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    create_keys(keys, ["n1", "n2"])
    assert sorted(path.name for path in keys.iterdir()) == ["client.key", "n1.key", "n2.key"]
    assert mode_of(keys) == 0o700
    assert {mode_of(path) for path in keys.iterdir()} == {0o600}
    pair = load_key(key_path(keys, "n1"))
    assert zmq.curve_public(pair.secret.encode()) == pair.public.encode()


def test_a_second_creation_adds_keys_and_replaces_none(tmp_path: Path) -> None:
    create_keys(tmp_path, ["n1"])
    before = key_path(tmp_path, "n1").read_bytes()
    create_keys(tmp_path, ["n1", "n2"])
    assert key_path(tmp_path, "n1").read_bytes() == before
    assert load_key(key_path(tmp_path, "n2")) != load_key(key_path(tmp_path, "n1"))


def test_of_two_creators_at_once_the_first_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_keys(tmp_path, ["n1"])
    before = key_path(tmp_path, "n1").read_bytes()
    # The other creator's file appears after we looked for it.
    monkeypatch.setattr(Path, "exists", lambda self: False)
    create_keys(tmp_path, ["n1"])
    assert key_path(tmp_path, "n1").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["client.key", "n1.key"]


@pytest.mark.parametrize("name", ["client", "../n1", "N1", ""])
def test_a_name_that_is_not_a_nodes_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be the name"):
        create_keys(tmp_path / "keys", [name])


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660])
def test_a_secret_others_can_reach_is_refused_with_the_remedy(tmp_path: Path, mode: int) -> None:
    create_keys(tmp_path, ["n1"])
    path = key_path(tmp_path, "n1")
    path.chmod(mode)
    with pytest.raises(ConfigError, match="other users") as caught:
        load_key(path)
    assert caught.value.hint == f"chmod 600 {path}"


def test_a_public_half_may_be_readable_but_is_no_key_to_serve_with(tmp_path: Path) -> None:
    create_keys(tmp_path, ["n1"])
    path = key_path(tmp_path, "n1")
    public = load_key(path).public
    path.write_text(f'{{"public": "{public}"}}')
    path.chmod(0o644)
    assert load_public_key(path) == CurveKey(public)
    with pytest.raises(ConfigError, match="no secret"):
        load_key(path)


def test_a_missing_key_says_where_keys_come_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read the key") as caught:
        load_key(tmp_path / "n1.key")
    assert "brought up" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        '{"public": 1}',
        '{"public": "short", "secret": ""}',
        '{"public": "' + "\x7f" * 40 + '"}',
        '{"public": "' + "ä" * 40 + '"}',
        '{"public": "' + "#" * 40 + '"}',
    ],
)
def test_a_damaged_key_file_is_a_config_error(tmp_path: Path, text: str) -> None:
    path = tmp_path / "n1.key"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(ConfigError):
        load_public_key(path)


def test_one_damaged_file_does_not_take_the_others_off_the_list(tmp_path: Path) -> None:
    create_keys(tmp_path, ["n1", "n2"])
    key_path(tmp_path, "n1").write_text("rubbish")
    owners, unreadable = read_public_keys(tmp_path)
    assert sorted(owners.values()) == ["client", "n2"]
    assert len(unreadable) == 1
    assert "n1.key" in unreadable[0].message


def test_a_half_written_draft_is_not_on_the_list(tmp_path: Path) -> None:
    create_keys(tmp_path, ["n1"])
    draft = tmp_path / ".n2.key.123"
    draft.write_bytes(key_path(tmp_path, "n1").read_bytes())
    owners, _ = read_public_keys(tmp_path)
    assert sorted(owners.values()) == ["client", "n1"]
    assert security.KEY_SUFFIX in draft.name
