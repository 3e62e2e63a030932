"""Which directed links a partition, an isolation or a description of links means.

    partition n1,n2 n3,n4      n1, n2 ┃ n3, n4     no message crosses ┃, in either direction
                                   └─ n5 ─┘         n5, in no group, keeps all its links
    partition n1,n2            n1, n2 ┃ all the others
    isolate n1 --in            every link to n1; n1 is still heard
    link 'n1>n2' 'n3<>*'       that one; n3 with everybody, both ways

A node that no group names is a bridge between the groups. That is a partition people want to see,
too (each side sees the bridge up and the other side down), and it is said when it happens. With a
single group the others form the other side, since one group alone separates nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from kvctl_node.errors import InvalidRequestError
from kvctl_node.protocol.link_fault import Link

EVERYBODY = "*"


def partition_links(
    names: Sequence[str], groups: Sequence[Sequence[str]]
) -> tuple[tuple[Link, ...], tuple[str, ...]]:
    """The links between the groups, both ways, and the nodes left as bridges.

    Raises `InvalidRequestError` for unknown nodes, one in two groups, or an empty side.
    """
    sides = [tuple(dict.fromkeys(group)) for group in groups if group]
    check_names(names, [name for side in sides for name in side])
    named = [name for side in sides for name in side]
    for name in named:
        if named.count(name) > 1:
            raise InvalidRequestError(
                f"{name} cannot be in two groups of a partition.",
                hint="a node in no group keeps its links to all of them.",
            )
    rest = tuple(name for name in names if name not in named)
    if len(sides) == 1:
        sides, rest = [*sides, rest], ()
    if len(sides) < 2 or not all(sides):
        raise InvalidRequestError(
            "a partition needs nodes on both sides.", hint="kvctl partition n1,n2 n3,n4,n5"
        )
    links = [
        (one, other)
        for side in sides
        for one in side
        for another in sides
        if another is not side
        for other in another
    ]
    return tuple(sorted(links)), rest


def isolate_links(
    names: Sequence[str], isolated: Sequence[str], *, inward: bool, outward: bool
) -> tuple[Link, ...]:
    """The links to (`inward`) and from (`outward`) each isolated node.

    Raises `InvalidRequestError` for unknown nodes, or if there is nobody to be cut off from.
    """
    check_names(names, isolated)
    links: set[Link] = set()
    for name in isolated:
        others = [one for one in names if one != name]
        links.update((other, name) for other in others if inward)
        links.update((name, other) for other in others if outward)
    if not links:
        raise InvalidRequestError("there is no other node to cut it off from.")
    return tuple(sorted(links))


def described_links(names: Sequence[str], descriptions: Iterable[str]) -> tuple[Link, ...]:
    """The links in `n1>n2` (one way), `n1<>n2` (both ways); `*` stands for all other nodes.

    Raises `InvalidRequestError` for anything else, and for unknown nodes.
    """
    links: set[Link] = set()
    for description in descriptions:
        both_ways = "<>" in description
        sender, arrow, receiver = (
            part.strip() for part in description.partition("<>" if both_ways else ">")
        )
        if not (sender and arrow and receiver) or sender == receiver:
            raise InvalidRequestError(
                f"{description!r} is no link.",
                hint="write 'n1>n2', in quotes, for what n1 sends to n2; 'n1<>n2' for both ways.",
            )
        for one in _meant(names, sender):
            for other in _meant(names, receiver):
                if one != other:
                    links.add((one, other))
                    links.update({(other, one)} if both_ways else ())
    return tuple(sorted(links))


def check_names(names: Sequence[str], given: Iterable[str]) -> None:
    """Raises `InvalidRequestError` if one of the given names is no node."""
    for name in given:
        if name not in names:
            raise InvalidRequestError(
                f"there is no node {name!r}.", hint=f"the nodes are {', '.join(names)}."
            )


def _meant(names: Sequence[str], word: str) -> Sequence[str]:
    if word == EVERYBODY:
        return names
    check_names(names, [word])
    return [word]
