"""What the dashboard can do to a cluster, whoever does it: blocking calls, one for each deed.

Whoever calls does so from a thread that may wait. `local_cluster_handle` is the real one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from kvctl.errors import KvctlError
from kvctl.view.observation import OperationSeen

Dot = tuple[str, int]
Choice = Callable[[Mapping[Dot, bytes | None]], bytes | None]
"""From the values of all versions, by dot (None: it deletes), to the one value they become."""


class ChangedMeanwhileError(KvctlError):
    """The versions of a key are not those that a person decided about."""

    kind = "changed"


class ClusterHandle(Protocol):
    """Acts on one cluster. Every method raises `StoreError` with a sentence for people."""

    def kill(self, node: str) -> None: ...
    def start(self, node: str) -> None: ...
    def stop(self, node: str) -> None: ...
    def pause(self, node: str) -> None: ...
    def resume(self, node: str) -> None: ...
    def restart(self, node: str) -> None: ...
    def set_quorum(self, *, n: int | None, r: int | None, w: int | None, mode: str | None) -> None:
        """Change what is not None."""
        ...

    def partition(self, groups: Sequence[Sequence[str]]) -> str:
        """Cut the links between the groups; the fault's id."""
        ...

    def isolate(self, nodes: Sequence[str]) -> str:
        """Cut the nodes off from all others; the fault's id."""
        ...

    def cut_links(self, links: Sequence[str]) -> str:
        """Cut single links, `n1>n2` or `n1<>n2`; the fault's id."""
        ...

    def heal(self, fault_id: str) -> int:
        """Lift one fault, or all for ""; how many were lifted."""
        ...

    def hold_hints(self, held: bool) -> None:
        """Stop all deliveries of hints, or let them go on."""
        ...

    def push_hints(self, holders: Sequence[str]) -> int:
        """Deliver now what these nodes (none: all) hold; how many hints there were."""
        ...

    def compare(self, one: str, other: str) -> None:
        """Start to compare two nodes by their Merkle trees; changes nothing."""
        ...

    def repair(self, nodes: Sequence[str]) -> None:
        """Start to compare these nodes (none: all) with all others and merge what differs."""
        ...

    def settle(self, key: str, shown: Sequence[Dot], choose: Choice) -> OperationSeen:
        """Read the key again and replace its versions by what `choose` makes of them.

        Raises `ChangedMeanwhileError` and writes nothing if the versions are not those `shown`.
        """
        ...

    def put(self, key: str, value: str) -> OperationSeen: ...
    def get(self, key: str) -> tuple[OperationSeen, str]:
        """The operation, and what was read, as text for people."""
        ...

    def delete(self, key: str) -> OperationSeen: ...
