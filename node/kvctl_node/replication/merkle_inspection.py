"""Looking into a Merkle tree: the hashes of a level, and the keys of a leaf, for people.

A comparison descends by itself and tells what it came to. Here somebody else descends: whoever asks
two nodes for the same level of the tree of their pair can compare the two answers, name the
children that differ as the next parents, and so see with their own eyes what is pruned and what is
not. Reading only; bounded like everything an operator may ask.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kvctl_node.admin import AdminCommands, text_argument
from kvctl_node.causality.epoch_folding import fold_dot, fold_version
from kvctl_node.causality.siblings import decode_object
from kvctl_node.errors import CorruptRecordError, InvalidRequestError
from kvctl_node.node_state import NodeState
from kvctl_node.ports import Instant
from kvctl_node.replication.key_listing import list_keys, readable
from kvctl_node.replication.merkle_pair import MerkleLevel, PairTree
from kvctl_node.ring.key_hash import LEAVES_PER_PARTITION

PARENTS_MAX = 64
"""Parents one question may name: their children's hashes are at most 64 KiB."""


class MerkleInspection:
    """Answers `merkle_hashes` and `merkle_keys`."""

    def __init__(self, state: NodeState, pair_with: Callable[[str], PairTree]) -> None:
        """`pair_with` gives the tree shared with a peer."""
        self._state = state
        self._pair_with = pair_with

    def register(self, admin: AdminCommands) -> None:
        """Offer both commands."""
        admin.register("merkle_hashes", self.on_hashes_command)
        admin.register("merkle_keys", self.on_keys_command)

    def on_hashes_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """`{"peer": name, "level": 0 to 3, "parents": [numbers]}` as `MerkleLevel` counts them.

        Answers `{"ready": bool, "children": [numbers], "hashes": hex}`, 32 hex digits a child, in
        order; nothing while the tree is being built. Raises `InvalidRequestError`.
        """
        pair = self._pair(arguments)
        number = _number(arguments, "level")
        if number not in tuple(MerkleLevel):
            raise InvalidRequestError(f"{number} is no level of a Merkle tree.")
        parents = arguments.get("parents", [])
        if not isinstance(parents, list) or not all(type(one) is int for one in parents):
            raise InvalidRequestError("the argument parents must be a list of numbers.")
        if len(parents) > PARENTS_MAX:
            raise InvalidRequestError(f"at most {PARENTS_MAX} parents can be asked for at once.")
        if not pair.ready:
            return {"ready": False, "children": [], "hashes": ""}
        level = MerkleLevel(number)
        return {
            "ready": True,
            "children": pair.children(level, parents),
            "hashes": pair.hashes(level, parents).hex(),
        }

    def on_keys_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """`{"peer": name, "leaf": number, "start": bytes}`: what this node holds in a leaf.

        Answers `{"keys": [{"key", "digest", "clock", "dots"}], "next": bytes or None}`: the key as
        bytes, the digest as hex, the clock as people see it, and the dots of all versions. `next`
        is where to go on. Raises `InvalidRequestError`, also for damaged records.
        """
        pair = self._pair(arguments)
        partition, leaf = divmod(_number(arguments, "leaf"), LEAVES_PER_PARTITION)
        if partition not in pair.partitions:
            raise InvalidRequestError(f"the pair does not share partition {partition}.")
        start = arguments.get("start", b"")
        if not isinstance(start, bytes):
            raise InvalidRequestError("the argument start must be bytes.")
        try:
            listing = list_keys(self._state.storage, partition, 1 << leaf, start, None)
        except CorruptRecordError as error:
            raise InvalidRequestError(
                f"partition {partition} cannot be read: {error.message}",
                hint="kvctl repair mends it from the other replicas.",
            ) from error
        keys = [self._described(partition, key, digest) for key, digest in listing.entries]
        return {"keys": keys, "next": listing.next_key}

    def _described(self, partition: int, key: bytes, digest: bytes) -> dict[str, Any]:
        described: dict[str, Any] = {"key": key, "digest": digest.hex(), "clock": [], "dots": []}
        record = readable(self._state.storage, partition, key)
        if record is not None:
            stored = decode_object(record.content)
            described["clock"] = fold_version(stored.context)
            described["dots"] = [fold_dot(one.dot, stored.context) for one in stored.siblings]
        return described

    def _pair(self, arguments: dict[str, Any]) -> PairTree:
        peer = text_argument(arguments, "peer")
        if peer == self._state.name or peer not in self._state.map.members:
            raise InvalidRequestError(f"{peer!r} is no peer of {self._state.name}.")
        return self._pair_with(peer)


def _number(arguments: dict[str, Any], name: str) -> int:
    number = arguments.get(name)
    if not isinstance(number, int) or isinstance(number, bool) or number < 0:
        raise InvalidRequestError(f"the argument {name} must be a number.")
    return number
