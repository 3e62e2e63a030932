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

**Whose disk it is.** The disk names its cluster and its node, and another's is refused. Only a
cluster that was copied as a whole, and became one of its own, takes over the disks of the one it
was copied from (`former_clusters`): they are no older than each other, so nothing has to be
rebuilt.

**How an old disk is known for one.** It differs from what stopped here (`disk_doubt`, told by
`kvctl_node.storage.disk_mark`), or kvctl's registry remembers a higher generation, or a peer does,
or the machine booted without a clean stop, under `os` durability. The first covers every backup
that is put back, one of the present generation too, and a commit log that lost its tail, before the
node says a word, and needs nobody's memory; so it does not matter that peers forget what they saw
of others when they restart. Such a node takes a new actor epoch and rebuilds itself from its peers.

**Why a start after kill -9 begins no epoch.** It would keep dots from repeating on a disk that was
put back in a way none of these notice. But it would not help the copies on that disk, which lack
acknowledged writes and would count in reads all the same; a disk that went back has to be *known*
for it. And it would cost the common case: every kill of a coordinator would leave one more actor in
the clock of each key it writes from then on, up to the length at which entries have to go, which
may make false siblings. kill -9 loses nothing that was committed, so the counters there are good.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kvctl_node.causality.epoch_folding import actor_name, split_actor
from kvctl_node.errors import DataDirectoryError
from kvctl_node.ports import StorageEngine

EPOCHS_UNSEEN = 1 << 20
"""More epochs than a node begins between two looks at it by anybody else."""
REBUILDING = "rebuilding"
"""Metadata: why the node has to rebuild what its disk should hold, empty once it has."""
REBUILDING_PARTITIONS = "rebuilding_partitions"
"""Metadata: the encoded list of the partitions concerned, empty for all."""
OWNER = "owner"
"""Metadata: `<cluster id> <node name>`, whose disk this is."""
IS_COPY = "its disk is an old copy"


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
    cluster_id: str,
    name: str,
    durability: str,
    boot_id: str,
    fresh_uuid: str,
    known_generation: int,
    known_actor_epoch: int,
    disk_doubt: str,
    nonce: str,
    pid: int,
    former_clusters: Sequence[str] = (),
) -> NodeIdentity:
    """Read the identity from storage, or begin one, and commit it before the node speaks.

    `boot_id` changes when the machine boots; `known_*` is what kvctl's registry last saw (0 if it
    never did); `disk_doubt`: why the disk may not be the one that stopped here, "" if it is;
    `former_clusters`: the clusters that this one was copied from.
    Raises `DataDirectoryError` if the disk is another node's, `StorageError` if the identity cannot
    be made durable.
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
    is_inherited = _is_inherited(storage, cluster_id, name, former_clusters)
    reason = _reason_to_rebuild(
        storage,
        identity,
        is_new=is_new,
        rebooted_under_os=durability == "os" and storage.metadata("boot_id") != boot_id.encode(),
        known_generation=known_generation,
        known_actor_epoch=known_actor_epoch,
        disk_doubt="" if is_inherited and disk_doubt == IS_COPY else disk_doubt,
    )
    if is_new:
        storage.set_metadata("storage_uuid", fresh_uuid.encode())
    if reason:
        storage.set_metadata(REBUILDING, reason.encode())
        storage.set_metadata(REBUILDING_PARTITIONS, b"")
    if reason or is_inherited:
        identity.disown_actors(storage, above=known_actor_epoch)
    elif is_new:
        identity.raise_actor_epoch(storage, above=known_actor_epoch)
    identity.raise_generation(storage, above=known_generation)
    storage.set_metadata(OWNER, f"{cluster_id} {name}".encode())
    storage.set_metadata("boot_id", boot_id.encode())
    storage.set_metadata("clean_stop", b"0")
    storage.commit()
    return identity


def _is_inherited(
    storage: StorageEngine, cluster_id: str, name: str, former_clusters: Sequence[str]
) -> bool:
    """Whether the disk comes from a cluster that this one was copied from.

    Raises `DataDirectoryError` if it is the disk of another node, or of a stranger's cluster.
    """
    owner = storage.metadata(OWNER)
    if owner is None or owner == f"{cluster_id} {name}".encode():
        return False
    its_cluster, _, its_name = owner.decode("utf-8", "replace").partition(" ")
    if its_name == name and its_cluster in former_clusters:
        return True
    whose = its_name if its_cluster == cluster_id else f"{its_name} of another cluster"
    raise DataDirectoryError(
        f"the data directory of {name} holds the data of {whose}.",
        hint="put every node's directory back in its own place. If the right one is lost, "
        f"`kvctl wipe {name}` deletes what is there, and its peers rebuild what it held.",
    )


def _reason_to_rebuild(
    storage: StorageEngine,
    identity: NodeIdentity,
    *,
    is_new: bool,
    rebooted_under_os: bool,
    known_generation: int,
    known_actor_epoch: int,
    disk_doubt: str,
) -> str:
    """Why the disk may lack what the node has acknowledged; "" if it does not."""
    if is_new:
        return "its disk was wiped" if known_generation or disk_doubt else ""
    if disk_doubt:
        return disk_doubt
    if known_generation > identity.generation or known_actor_epoch > identity.actor_epoch:
        return IS_COPY
    if rebooted_under_os and storage.metadata("clean_stop") != b"1":
        return "its machine went down, and its last commits may be missing"
    return ""


def mark_clean_stop(storage: StorageEngine) -> None:
    """Note, with the last commit, that nothing acknowledged is missing from the disk."""
    storage.set_metadata("clean_stop", b"1")
