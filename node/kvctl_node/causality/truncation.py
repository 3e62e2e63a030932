"""Keeping version vectors short.

A vector grows by one entry per actor that ever coordinated the key. Past a threshold the oldest
entries go (Dynamo §4.4 drops the oldest by timestamp). A forgotten entry can make an old copy look
concurrent, which costs a false sibling. It must never cost a value or revive a delete, so an entry
goes only

* in a coordinated put, never when a replica applies what it is sent;
* when it is not the coordinator's own, and no live sibling, detached or overtaken dot is of its
  actor;
* when the object has no tombstone among its siblings;
* when all N primaries were seen to hold it, and no member keeps a hint or is away
  (`kvctl_node.replication.shared_copies`): else a copy from before a delete may be left there,
  which only the forgotten entry covers, and the deleted value would be a sibling again.

Replicas follow without truncating anything themselves: a put names the digest it started from, and
a replica whose copy has that very digest takes the result as it is
(`kvctl_node.replication.replica`).

A hard cap, four times the threshold, gives up the last condition, with an event that says so.
"""

from __future__ import annotations

from kvctl_node.causality.causal_context import CausalContext, Entry
from kvctl_node.causality.siblings import TOMBSTONE, StoredObject

HARD_CAP_FACTOR = 4


def truncate_context(
    stored: StoredObject, *, own_actor: str, entries_max: int, shared_by_all: bool
) -> tuple[StoredObject, tuple[Entry, ...]]:
    """The object with at most `entries_max` vector entries, where that is safe, and what went."""
    vector = stored.context.vector
    limit = entries_max if shared_by_all else HARD_CAP_FACTOR * entries_max
    if len(vector) <= limit:
        return stored, ()
    if any(sibling.value is TOMBSTONE for sibling in stored.siblings):
        return stored, ()
    needed = {own_actor}
    needed.update(sibling.actor for sibling in stored.siblings)
    needed.update(actor for actor, _, _ in stored.context.detached)
    needed.update(actor for actor, _ in stored.overtaken)
    droppable = sorted(
        (entry for entry in vector if entry[0] not in needed),
        key=lambda entry: (entry[2], entry[0]),
    )
    dropped = tuple(droppable[: len(vector) - entries_max])
    kept = tuple(entry for entry in vector if entry not in dropped)
    return (
        StoredObject(
            CausalContext(kept, stored.context.detached), stored.siblings, stored.overtaken
        ),
        dropped,
    )
