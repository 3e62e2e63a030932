"""When a node must begin a new actor epoch, and when it must not."""

import pytest

from kvctl_node.errors import DataDirectoryError
from kvctl_node.identity import (
    IS_COPY,
    REBUILDING,
    REBUILDING_PARTITIONS,
    mark_clean_stop,
    open_identity,
)
from tests.memory_storage_engine import MemoryStorageEngine


def start(
    storage,
    *,
    cluster="shop",
    former=(),
    name="n1",
    boot_id="boot1",
    durability="os",
    generation=0,
    epoch=0,
    doubt="",
):
    return open_identity(
        storage,
        cluster_id=cluster,
        former_clusters=former,
        name=name,
        durability=durability,
        boot_id=boot_id,
        fresh_uuid="fresh",
        known_generation=generation,
        known_actor_epoch=epoch,
        disk_doubt=doubt,
        nonce="nonce",
        pid=1,
    )


@pytest.fixture
def storage():
    return MemoryStorageEngine()


def test_new_storage_begins_generation_and_epoch_one(storage):
    identity = start(storage)
    assert (identity.generation, identity.actor_epoch, identity.actor) == (1, 1, "n1#1")


def test_a_restart_raises_the_generation_and_keeps_uuid_and_epoch(storage):
    first = start(storage)
    again = start(storage)
    assert again.generation == first.generation + 1
    assert again.actor_epoch == first.actor_epoch
    assert again.storage_uuid == first.storage_uuid


def test_the_identity_is_durable_before_anybody_hears_of_it(storage):
    start(storage)
    storage.crash()
    assert start(storage).generation == 2


def test_a_wiped_disk_goes_above_what_the_registry_remembers(storage):
    identity = start(storage, generation=7, epoch=3)
    assert identity.generation > 7
    assert identity.actor_epoch > 3


def test_a_restored_old_disk_goes_above_what_the_registry_remembers(storage):
    start(storage)
    identity = start(storage, generation=9, epoch=1)
    assert identity.generation > 9
    assert identity.actor_epoch > 1


def test_a_disk_that_is_a_copy_is_an_old_one_whatever_is_remembered_of_it(storage):
    before = start(storage)
    copy = start(storage, generation=before.generation, epoch=before.actor_epoch, doubt=IS_COPY)
    assert copy.actor_epoch > before.actor_epoch
    assert copy.actor_of(before.actor) == copy.actor
    assert storage.metadata(REBUILDING)


def test_a_partial_rebuild_on_an_old_disk_becomes_one_of_everything(storage):
    start(storage)
    storage.set_metadata(REBUILDING, b"some of it")
    storage.set_metadata(REBUILDING_PARTITIONS, b"\x91\x01")
    storage.commit()
    start(storage, doubt=IS_COPY)
    assert storage.metadata(REBUILDING_PARTITIONS) == b""


def test_a_machine_that_went_down_without_a_clean_stop_costs_an_epoch_under_os_durability(storage):
    start(storage)
    assert start(storage, boot_id="boot2").actor_epoch > 1
    assert b"went down" in storage.metadata(REBUILDING), "it may lack what it acknowledged"


def test_copies_of_an_older_disk_do_not_mint_under_their_own_actors_any_more(storage):
    before = start(storage)
    assert before.actor_of("n1#1") == "n1#1" and before.actor_of("") == before.actor
    before.raise_actor_epoch(storage)
    assert before.actor_of("n1#1") == "n1#1", "other copies were dropped, this one is whole"
    restored = start(storage, generation=9, epoch=1)
    assert restored.actor_of("n1#1") == restored.actor_of("n1#2") == restored.actor
    again = start(storage, generation=restored.generation, epoch=restored.actor_epoch)
    assert again.actor_of("n1#1") == restored.actor, "also after the next restart"


def test_an_older_disk_leaves_room_for_the_epochs_that_nobody_else_has_seen(storage):
    lost = start(storage)
    image = storage.image()
    for _ in range(5):
        lost.raise_actor_epoch(storage)
    storage.commit()
    storage.restore(image)
    restored = start(storage, generation=2, epoch=1)
    assert restored.actor_epoch > lost.actor_epoch


@pytest.mark.parametrize("durability", ["os", "fsync"])
def test_a_clean_stop_or_fsync_costs_no_epoch_at_the_next_boot(storage, durability):
    start(storage, durability=durability)
    if durability == "os":
        mark_clean_stop(storage)
        storage.commit()
    assert start(storage, boot_id="boot2", durability=durability).actor_epoch == 1
    assert not storage.metadata(REBUILDING)


@pytest.mark.parametrize(
    ("name", "cluster", "whose"),
    [("n2", "shop", "the data of n1"), ("n1", "bank", "n1 of another cluster")],
)
def test_the_disk_of_another_node_is_refused_by_name(storage, name, cluster, whose):
    start(storage)
    with pytest.raises(DataDirectoryError, match=whose):
        start(storage, name=name, cluster=cluster)


def test_a_copied_cluster_takes_over_its_disks_without_a_rebuild(storage):
    before = start(storage)
    after = start(storage, cluster="copy", former=("shop",), doubt=IS_COPY)
    assert after.actor_of(before.actor) == after.actor, "the other cluster mints under the old one"
    assert not storage.metadata(REBUILDING)
    with pytest.raises(DataDirectoryError):
        start(storage)


def test_a_disk_that_lost_its_tail_is_rebuilt_in_a_copied_cluster_as_well(storage):
    start(storage)
    start(storage, cluster="copy", former=("shop",), doubt="the end is missing")
    assert storage.metadata(REBUILDING) == b"the end is missing"


def test_a_copied_cluster_refuses_another_nodes_disk(storage):
    start(storage)
    with pytest.raises(DataDirectoryError, match="n1 of another cluster"):
        start(storage, name="n2", cluster="copy", former=("shop",))


def test_a_new_database_beside_an_old_mark_is_a_wiped_disk(storage):
    start(storage, doubt="the end is missing")
    assert storage.metadata(REBUILDING) == b"its disk was wiped"
