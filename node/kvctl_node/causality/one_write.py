"""One request is one write, under whatever dots it was applied.

A client that gets no answer sends its request again. If the second coordinator cannot reach the
first, it has to mint a dot of its own, and the write has two: n1:1, which n1 alone knows, and n2:1.

    n1  isolated      n1:1 "old" (request X)
    n2, n3            n2:1 "old" (request X) ── deleted by n2:2 ──▶ n2:2 tombstone
    n1  comes back    n1:1 is not covered by n2:2: without this file "old" is alive again

So the record remembers which requests were applied under which dots (`recent_requests`), and a
merge closes over it: where one dot of a request was superseded, the others go with it. They become
*overtaken* (`siblings`): gone, but no evidence against further dots of the request. Only a dot that
some put has seen is that.

There is one exception. The attempts of an overwrite may have superseded different writes: each
superseded what its own replicas held. Two requests could then end each other,

    n1:  X, superseded by Y        n2:  Y, superseded by X (its second attempt)

and both values would vanish. A later attempt was made after the earlier one, so its end is always
the end of the earlier ones; but the end of an earlier attempt ends a later one only if that has
superseded nothing, or the very same (`basis`). Here the second attempt of X stays, and Y, which it
superseded, goes. Where the two attempts found different copies and the first is superseded, the
second is shown as a sibling: a false one perhaps, never a lost write. For the same reason a dot
that replaces another is never taken along: it has superseded what it was told of.

Why no write is lost: let every dot that is gone point to the one that superseded it or, if it went
with another attempt, to what superseded that. Each arrow leads to a dot that was minted later, so
they end at one that is alive.

Each rule only ever moves dots from alive to overtaken, on conditions that stay true once they are;
so closing is a closure operator, and merging with it is still a join.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import mmh3
import msgspec

from kvctl_node.causality.causal_context import CausalContext

if TYPE_CHECKING:
    from kvctl_node.causality.recent_requests import Applied
    from kvctl_node.causality.siblings import Sibling

_encode = msgspec.msgpack.Encoder().encode


def basis_of(seen: CausalContext) -> int:
    """32 bits that stand for what a put superseded; 0 for nothing."""
    if not seen.vector and not seen.detached:
        return 0
    return mmh3.hash(_encode(seen), signed=False) or 1


def taken_along(
    siblings: Iterable[Sibling],
    requests: Iterable[Applied],
    superseded: Callable[[tuple[str, int]], bool],
) -> set[tuple[str, int]]:
    """The dots among `siblings` that another, superseded dot of their request takes along."""
    by_request: dict[tuple[int, int], list[Sibling]] = {}
    for one in siblings:
        if not one.replaces and (one.client or one.sequence):
            by_request.setdefault(one.request, []).append(one)
    gone: set[tuple[str, int]] = set()
    for _, client, sequence, actor, counter, attempt, basis in requests:
        for one in by_request.get((client, sequence), ()):
            is_tied = one.attempt < attempt or one.basis in (0, basis)
            if is_tied and superseded((actor, counter)):
                gone.add((one.actor, one.counter))
    return gone
