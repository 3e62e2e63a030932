"""Who a node is, across restarts, wipes and restored backups.

* `storage_uuid` names the incarnation of the disk: a wiped node keeps its name and gets a new one.
* `generation` rises by one at every start.
* `actor_epoch` is part of the actor under which the node mints dots (`n1#3`). It must be raised
  before dots could repeat: when storage is new, when the disk is older than what was acknowledged
  (a restored backup), when the machine went down without a clean stop and the last commits
  may be gone, and whenever a copy is dropped. A repeated dot names two values, and one of them
  vanishes (riak_kv issues 679 and 1094 tell of it).
* `least_actor_epoch` matters when the disk itself went back in time: its copies then name actors
  of their own whose later dots they do not know. Actors of earlier epochs mint nothing any more.

**How an old disk is known for one.** Its directory is a copy (`kvctl_node.storage.disk_mark`), or
kvctl's registry remembers a higher generation, or a peer does. The first covers every backup that
is put back, one of the present generation too, before the node says a word, and needs nobody's
memory; so it does not matter that peers forget what they saw of others when they restart.

**Why a start after kill -9 begins no epoch.** It would keep dots from repeating on a disk that was
put back in a way none of these notice. But it would not help the copies on that disk, which lack
acknowledged writes and would count in reads all the same; a disk that went back has to be *known*
for it. And it would cost the common case: every kill of a coordinator would leave one more actor in
the clock of each key it writes from then on, up to the length at which entries have to go, which
may make false siblings. kill -9 loses nothing that was committed, so the counters there are good.
"""

from __future__ import annotations

from dataclasses import dataclass

from kvctl_node.causality.epoch_folding import actor_name, split_actor
from kvctl_node.ports import StorageEngine

EPOCHS_UNSEEN = 1 << 20
"""More epochs than a node begins between two looks at it by anybody else."""
REBUILDING = "rebuilding"
"""Metadata: why the node has to rebuild what its disk should hold, empty once it has."""
REBUILDING_PARTITIONS = "rebuilding_partitions"
"""Metadata: the encoded list of the partitions concerned, empty for all."""


@dataclass(slots=True)
class NodeIdentity:
    """The identity of a running node. `nonce` and `pid` tell this process from any other."""

    name: str
    storage_uuid: str
    generation: int
    actor_epoch: int
    nonce: str
    pid: int
    least_actor_epoch: int = 0

    @property
    def actor(self) -> str:
        """The actor for copies that do not carry one of their own."""
        return actor_name(self.name, self.actor_epoch)

    def actor_of(self, my_actor: str) -> str:
        """The actor under which a copy mints: its own `my_actor`, where that can be trusted."""
        current = self.actor
        if not my_actor or my_actor == current:
            return current
        return my_actor if split_actor(my_actor)[1] >= self.least_actor_epoch else current

    def raise_actor_epoch(self, storage: StorageEngine, *, above: int = 0) -> None:
        """Begin a new epoch, durable with this turn's commit, higher than any known one."""
        self.actor_epoch = max(self.actor_epoch, above) + 1
        storage.set_metadata("actor_epoch", str(self.actor_epoch).encode())

    def disown_actors(self, storage: StorageEngine, *, above: int) -> None:
        """Begin a new epoch for all copies: the disk is older than what was acknowledged.

        Others may not have seen the latest epochs of its future either, so it leaves a wide gap.
        """
        self.raise_actor_epoch(storage, above=max(above, self.actor_epoch) + EPOCHS_UNSEEN)
        self.least_actor_epoch = self.actor_epoch
        storage.set_metadata("least_actor_epoch", str(self.least_actor_epoch).encode())

    def raise_generation(self, storage: StorageEngine, *, above: int) -> None:
        """Adopt a generation above one that somebody remembers of this name."""
        self.generation = max(self.generation, above) + 1
        storage.set_metadata("generation", str(self.generation).encode())


def open_identity(
    storage: StorageEngine,
    *,
    name: str,
    durability: str,
    boot_id: str,
    fresh_uuid: str,
    known_generation: int,
    known_actor_epoch: int,
    disk_is_copy: bool,
    nonce: str,
    pid: int,
) -> NodeIdentity:
    """Read the identity from storage, or begin one, and commit it before the node speaks.

    `boot_id` changes when the machine boots; `known_*` is what kvctl's registry last saw (0 if it
    never did); `disk_is_copy`: somebody copied the directory to where it is.
    Raises `StorageError` if it cannot be made durable.
    """
    uuid = storage.metadata("storage_uuid")
    identity = NodeIdentity(
        name=name,
        storage_uuid=uuid.decode() if uuid else fresh_uuid,
        generation=int(storage.metadata("generation") or b"0"),
        actor_epoch=int(storage.metadata("actor_epoch") or b"0"),
        nonce=nonce,
        pid=pid,
        least_actor_epoch=int(storage.metadata("least_actor_epoch") or b"0"),
    )
    is_new = uuid is None
    is_restored = not is_new and (
        disk_is_copy
        or known_generation > identity.generation
        or known_actor_epoch > identity.actor_epoch
    )
    rebooted = storage.metadata("boot_id") != boot_id.encode()
    may_have_lost_commits = (
        not is_new and durability == "os" and rebooted and storage.metadata("clean_stop") != b"1"
    )
    if is_new:
        storage.set_metadata("storage_uuid", fresh_uuid.encode())
    if is_restored or (is_new and known_generation):
        reason = "its disk was wiped" if is_new else "its disk is an old copy"
        storage.set_metadata(REBUILDING, reason.encode())
        storage.set_metadata(REBUILDING_PARTITIONS, b"")
    if is_restored or may_have_lost_commits or (is_new and known_generation):
        identity.disown_actors(storage, above=known_actor_epoch)
    elif is_new:
        identity.raise_actor_epoch(storage, above=known_actor_epoch)
    identity.raise_generation(storage, above=known_generation)
    storage.set_metadata("boot_id", boot_id.encode())
    storage.set_metadata("clean_stop", b"0")
    storage.commit()
    return identity


def mark_clean_stop(storage: StorageEngine) -> None:
    """Note, with the last commit, that nothing acknowledged is missing from the disk."""
    storage.set_metadata("clean_stop", b"1")
