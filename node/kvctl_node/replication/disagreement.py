"""What the replicas of a key hold, once they turn out not to hold the same.

Most reads find one answer everywhere, and for those nothing is kept but who agreed. The first
answer that is anything else begins a `Disagreement`: it holds what each node holds, merges it, and
knows who has to be mended. A pure accumulator, like `Quorum`.
"""

from __future__ import annotations

from collections.abc import Iterable

from kvctl_node.causality.recent_requests import NO_REQUESTS, decode_recent
from kvctl_node.causality.siblings import StoredObject, decode_object, encode_object, merge_objects
from kvctl_node.ports import Record


class Disagreement:
    """The answers to one read, by node; `content` is b"" where a node holds no copy."""

    __slots__ = ("_merged", "_recent_max", "answers", "recent", "without_evidence")

    def __init__(self, local: Record | None, agreeing: Iterable[str], *, recent_max: int) -> None:
        """`agreeing`: the nodes that are known to hold just what `local` is."""
        content = b"" if local is None else local.content
        self.answers: dict[str, bytes] = dict.fromkeys(agreeing, content)
        """Node → the content it holds."""
        self.without_evidence: list[str] = []
        """Replicas that could not say what they hold: the merge mends them too."""
        self._merged: StoredObject | None = None if local is None else decode_object(content)
        self.recent = NO_REQUESTS if local is None else decode_recent(local.recent)
        """The request ids that any copy remembers."""
        self._recent_max = recent_max

    def add(self, node: str, content: bytes, recent: bytes) -> None:
        """A node holds this copy. Raises `ProtocolError` on bytes that are no object."""
        theirs = decode_object(content)
        self.recent = self.recent.union(decode_recent(recent), entries_max=self._recent_max)
        if self._merged is None:
            self._merged = theirs
        else:
            self._merged = merge_objects(self._merged, theirs, self.recent.applied)
        self.answers[node] = content

    def add_absent(self, node: str) -> None:
        """A node says, and may be believed, that it holds no copy."""
        self.answers[node] = b""

    def add_agreeing(self, node: str, local: Record | None) -> None:
        """A node holds what this one does."""
        self.answers[node] = b"" if local is None else local.content

    @property
    def content(self) -> bytes:
        """The merge of all copies; b"" if nobody has one."""
        return b"" if self._merged is None else encode_object(self._merged)

    @property
    def differs(self) -> bool:
        """Whether two nodes answered differently."""
        return len(set(self.answers.values())) > 1
