"""A damaged `data.sqlite`: the engine opens with everything in it, or says that it is damaged."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from kvctl_node.errors import CorruptRecordError, DataFormatError
from kvctl_node.storage.database import PAGE_BYTES
from tests.unit.storage.test_storage_recovery import (
    PARTITIONS,
    engine_at,
    fill,
    flushed,
    in_database,
    record,
)

TABLE, LOG = range(40), range(40, 60)
"""What lies in an SSTable, and what lies in the commit log."""


@pytest.fixture
def store(tmp_path: Path) -> Path:
    flushed(tmp_path, TABLE)
    engine = engine_at(tmp_path)
    fill(engine, LOG)
    engine.close()
    return tmp_path


def opens_whole(directory: Path) -> bool:
    """Whether everything is there; raises what the engine refuses the directory with."""
    engine = engine_at(directory)
    try:
        return all(
            engine.get(number % PARTITIONS, b"key-%04d" % number) == record(number)
            for number in (*TABLE, *LOG)
        )
    finally:
        engine.close()


def test_a_flipped_bit_anywhere_is_harmless_or_said(store: Path) -> None:
    database = store / "data.sqlite"
    sound = database.read_bytes()
    chance = random.Random(5)
    places = [*range(100), *chance.sample(range(100, len(sound)), 300)]
    refused = 0
    for place in places:
        damaged = bytearray(sound)
        damaged[place] ^= 1 << chance.randrange(8)
        database.write_bytes(damaged)
        try:
            assert opens_whole(store), f"byte {place}"
        except (CorruptRecordError, DataFormatError):
            refused += 1
    assert refused > len(places) / 10
    database.write_bytes(sound)
    assert opens_whole(store)


@pytest.mark.parametrize("kept_bytes", [17, PAGE_BYTES, 3 * PAGE_BYTES])
def test_a_database_that_was_cut_is_said(store: Path, kept_bytes: int) -> None:
    database = store / "data.sqlite"
    database.write_bytes(database.read_bytes()[:kept_bytes])
    with pytest.raises(CorruptRecordError):
        engine_at(store)


@pytest.mark.parametrize("version", [0, 1, 99])
def test_another_data_format_may_be_another_kvctl_or_damage(store: Path, version: int) -> None:
    in_database(store, f"PRAGMA user_version = {version}")
    with pytest.raises(DataFormatError, match=rf"data format {version}.*or it is damaged"):
        engine_at(store)
