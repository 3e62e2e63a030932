"""Going down and up in the tree of a pair, and putting two nodes' answers together."""

from __future__ import annotations

from kvctl.view.merkle_descent import GROUP_PARTITIONS, Level, Place, children_of, keys_of
from kvctl_node.replication import merkle_pair

PAIR = ("n1", "n2")


def answer(*children: int, hashes: str = "") -> dict[str, object]:
    digits = "".join((one * 32) for one in hashes)
    return {"ready": True, "children": list(children), "hashes": digits}


def test_the_way_down_and_up_again_passes_the_same_places() -> None:
    places = [Place(PAIR)]
    for child in (0, 3, 3 * GROUP_PARTITIONS + 4, (3 * GROUP_PARTITIONS + 4) * 64 + 17):
        below = places[-1].entered(child)
        assert below is not None
        places.append(below)
    assert places[-1].level is Level.KEYS
    assert places[-1].entered(0) is None
    assert places[-1].path == ["root", "group 96-127", "partition 100", "leaf 17"]
    for above, below in zip(places[-2::-1], places[:0:-1], strict=True):
        assert below.left() == above
    assert places[0].left() is None


def test_levels_and_groups_are_those_of_the_nodes() -> None:
    assert GROUP_PARTITIONS == merkle_pair.GROUP_PARTITIONS
    assert [int(level) for level in merkle_pair.MerkleLevel] == [0, 1, 2, 3]
    assert max(merkle_pair.MerkleLevel) + 1 == Level.KEYS


def test_children_are_equal_where_their_hashes_are() -> None:
    children = children_of([answer(5, 6, hashes="ab"), answer(5, 6, hashes="ac")])
    assert [(one.number, one.is_equal) for one in children] == [(5, True), (6, False)]


def test_children_only_one_node_knows_are_left_out() -> None:
    children = children_of([answer(5, 6, hashes="ab"), answer(6, hashes="b")])
    assert [(one.number, one.is_equal) for one in children] == [(6, True)]


def test_keys_that_differ_come_first_with_both_clocks() -> None:
    def said(key: bytes, digest: str, *clock: tuple[str, int]) -> dict[str, object]:
        dots = [list(one) for one in clock]
        return {"key": key, "digest": digest, "clock": dots, "dots": dots}

    first = [said(b"a", "1", ("n1", 1)), said(b"b", "2", ("n1", 1), ("n2", 1)), said(b"\xff", "3")]
    second = [said(b"a", "1", ("n1", 1)), said(b"b", "9", ("n1", 1))]
    seen = keys_of([first, second])
    assert [(one.key, one.clocks) for one in seen] == [
        ("\\xff", ("", None)),
        ("b", ("n1:1 n2:1 (n1:1, n2:1)", "n1:1")),
        ("a", ("n1:1", "n1:1")),
    ]
