"""What `wait` waits for and what `repair` follows, against nodes that answer as scripted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import pytest

from kvctl.cluster import comparisons
from kvctl.cluster.comparisons import compare, repair
from kvctl.cluster.conditions import parse_condition
from kvctl.errors import ClusterUnreachableError, WaitTimeoutError
from kvctl_node.errors import InvalidRequestError

NAMES = ("n1", "n2", "n3")
Script = dict[str, dict[str, Any]]


class ScriptedNodes:
    """In the place of `NodeCommands`: each command's answers by node; who is left out is silent."""

    def __init__(self, **answers: Any) -> None:
        self.names = NAMES
        self.answers = answers
        self.asked: list[tuple[str, Mapping[str, Any]]] = []
        self.connections = self

    def ask(self, arguments: Mapping[str, Any], command: str) -> Script:
        self.asked.append((command, arguments))
        answers = self.answers[command]
        if callable(answers):
            answers = answers()
        return {name: answers[name] for name in arguments if name in answers}

    def ask_one(self, node: str, command: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return self.ask({node: arguments}, command)[node]

    def ask_status(self, names: Iterable[str], *, timeout_s: float) -> Script:
        return self.ask(dict.fromkeys(names), "status")

    def silent(self, answers: Iterable[str]) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in set(answers))


def missing(text: str, **answers: Any) -> str:
    return parse_condition(text, NAMES)(ScriptedNodes(**answers))  # type: ignore[arg-type]


def hints(**counts: int) -> Script:
    """`n1=3`: n1 keeps three for n2; the others keep nothing."""
    queues = {name: [{"target": "n2", "count": count}] for name, count in counts.items() if count}
    return {name: {"queues": queues.get(name, []), "dropped": 0} for name in NAMES}


def views(**different: dict[str, str]) -> Script:
    """`n1={"n3": "down"}`: everybody sees everybody up, but n1 sees n3 down."""
    return {
        name: {member: {"state": different.get(name, {}).get(member, "up")} for member in NAMES}
        for name in NAMES
    }


def roots(root: str | None = "aa", **different: str | None) -> Script:
    """`n1="bb"`: all pairs have the root "aa", but n1 has "bb" for n2."""
    return {
        name: {
            "roots": {
                peer: different.get(name, root) if peer == "n2" or name == "n2" else root
                for peer in NAMES
                if peer != name
            },
            "rebuilding": "",
        }
        for name in NAMES
    }


def reachable(*cut: tuple[str, str]) -> Script:
    return {
        name: {"peers": {peer: {"reachable": (name, peer) not in cut} for peer in NAMES}}
        for name in NAMES
    }


def without(script: Script, *silent: str) -> Script:
    return {name: answer for name, answer in script.items() if name not in silent}


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (reachable(), ""),
        (reachable(("n3", "n1")), "n3 does not see n1"),
        (without(reachable(), "n2"), "n2 does not answer"),
        (without(reachable(), "n2", "n3"), "n2, n3 do not answer"),
    ],
)
def test_ready_means_that_each_sees_each(status: Script, expected: str) -> None:
    assert missing("ready", status=status) == expected


@pytest.mark.parametrize(
    ("text", "answers", "expected"),
    [
        ("hints=0", hints(), ""),
        ("hints = 0", hints(n1=3), "n1 keeps 3 for n2"),
        ("hints=0", without(hints(), "n3"), "n3 does not answer"),
        ("hints=5", hints(n1=3, n3=2), ""),
        ("hints=5", hints(), "no node keeps any hint"),
    ],
)
def test_hints_are_counted_over_all_nodes(text: str, answers: Script, expected: str) -> None:
    assert missing(text, hints=answers) == expected


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (views(n1={"n3": "down"}, n2={"n3": "down"}), ""),
        (views(n1={"n3": "down"}, n2={"n3": "suspect"}), "n2 sees it suspect"),
        (without(views(n1={"n3": "down"}), "n2"), ""),
        (without(views(), "n1", "n2"), "no other node answers"),
    ],
)
def test_seen_asks_every_other_node_that_lives_and_not_the_one_it_is_about(
    answers: Script, expected: str
) -> None:
    assert missing("seen n3=down", gossip=answers) == expected


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        ({}, ""),
        ({"hints": hints(n2=1)}, "n2 keeps 1 for n2"),
        ({"gossip": views(n1={"n3": "suspect"})}, "n1 sees n3 suspect, n2 sees it up"),
        ({"gossip": without(views(), "n1")}, "n1 does not answer"),
        ({"merkle_roots": roots(n1="bb")}, "n1 and n2 hold different data"),
        ({"merkle_roots": roots(n1=None)}, "the Merkle tree of n1 is being built"),
        ({"merkle_roots": roots(None)}, "the Merkle tree of n1 is being built"),
        (
            {"merkle_roots": {**roots(), "n3": {"roots": {}, "rebuilding": "a new disk"}}},
            "n3 is being rebuilt: a new disk",
        ),
    ],
    ids=str,
)
def test_converged_wants_no_hints_one_view_and_equal_roots(
    changed: dict[str, Script], expected: str
) -> None:
    answers = {"hints": hints(), "gossip": views(), "merkle_roots": roots(), **changed}
    assert missing("converged", **answers) == expected


@pytest.mark.parametrize("text", ["", "red", "hints", "hints=x", "seen", "seen n3", "seen n9=up"])
def test_anything_else_is_nothing_to_wait_for(text: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        parse_condition(text, NAMES)
    assert refused.value.hint


# ------------------------------------------------------------------ comparisons


def row(a: str, b: str, session: int, state: str, **more: Any) -> dict[str, Any]:
    return {
        **dict.fromkeys(comparisons.FIELDS, 1),
        **{"a": a, "b": b, "session": session, "state": state, "level": "", "reason": ""},
        "finished": state in ("equal", "repaired", "interrupted"),
        **more,
    }


@pytest.fixture(autouse=True)
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparisons, "_PAUSE_S", 0)


def test_a_repair_of_all_asks_for_each_pair_once_and_follows_it_to_its_end() -> None:
    looks = iter(
        [
            {
                "n1": {"pairs": [row("n1", "n2", 1, "comparing"), row("n1", "n3", 2, "equal")]},
                "n2": {"pairs": [row("n2", "n3", 3, "repaired")]},
            },
            {"n1": {"pairs": [row("n1", "n2", 1, "repaired")]}},
        ]
    )
    nodes = ScriptedNodes(
        repair={"n1": {"sessions": {"n2": 1, "n3": 2}}, "n2": {"sessions": {"n3": 3}}},
        repair_status=lambda: next(looks),
    )
    seen = list(repair(nodes, [], timeout_s=5))  # type: ignore[arg-type]
    assert nodes.asked[0] == ("repair", {"n1": {"peers": ["n2", "n3"]}, "n2": {"peers": ["n3"]}})
    assert [[one["state"] for one in look.values()] for look in seen] == [
        ["comparing", "equal", "repaired"],
        ["repaired", "equal", "repaired"],
    ]
    assert nodes.asked[2] == ("repair_status", {"n1": {"sessions": [1]}})


def test_pairs_of_a_node_that_does_not_answer_are_interrupted_not_left_out() -> None:
    nodes = ScriptedNodes(
        repair={"n2": {"sessions": {"n3": 3}}},
        repair_status={"n2": {"pairs": [row("n2", "n3", 3, "equal")]}},
    )
    *_, last = repair(nodes, [], timeout_s=5)  # type: ignore[arg-type]
    assert {pair: one["state"] for pair, one in last.items()} == {
        ("n1", "n2"): "interrupted",
        ("n1", "n3"): "interrupted",
        ("n2", "n3"): "equal",
    }
    with pytest.raises(ClusterUnreachableError):
        list(repair(ScriptedNodes(repair={}), [], timeout_s=5))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("status", "reason"),
    [({}, "n1 does not answer"), ({"n1": {"pairs": []}}, "n1 was restarted")],
)
def test_a_node_that_goes_away_in_the_middle_ends_its_comparison(
    status: Script, reason: str
) -> None:
    nodes = ScriptedNodes(merkle={"n1": {"session": 7}}, repair_status=status)
    *_, last = compare(nodes, "n1", "n2", 4, timeout_s=5)  # type: ignore[arg-type]
    assert nodes.asked[0] == ("merkle", {"n1": {"peer": "n2", "partition": 4}})
    assert [(one["state"], one["reason"]) for one in last.values()] == [("interrupted", reason)]


def test_a_comparison_that_takes_too_long_names_the_pair() -> None:
    nodes = ScriptedNodes(
        merkle={"n1": {"session": 7}},
        repair_status={"n1": {"pairs": [row("n1", "n2", 7, "comparing")]}},
    )
    with pytest.raises(WaitTimeoutError, match="n1-n2"):
        list(compare(nodes, "n1", "n2", None, timeout_s=0.01))  # type: ignore[arg-type]


def test_pairs_that_share_nothing_are_left_out() -> None:
    nodes = ScriptedNodes(
        merkle={"n1": {"session": 7}},
        repair_status={"n1": {"pairs": [row("n1", "n2", 7, "equal", partitions=0)]}},
    )
    *_, last = compare(nodes, "n1", "n2", None, timeout_s=5)  # type: ignore[arg-type]
    assert last == {}
