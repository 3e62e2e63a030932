"""Fault commands on the terminal: what they read, what they print."""

from __future__ import annotations

import pytest

from kvctl.cli.faults import _effect, _links, parse_share
from kvctl.cluster.faults import Healed, Injected
from kvctl.cluster.network import Network
from kvctl_node.config import QuorumConfig
from kvctl_node.errors import InvalidRequestError
from kvctl_node.protocol.link_fault import LinkFault
from tests.cli.cli_run import Command
from tests.cli.stopped_cluster import make_cluster

CUT = LinkFault(
    id="f3", kind="partition", links=(("n1", "n2"), ("n2", "n1"), ("n1", "n3")), drop=True, hits=7
)


@pytest.fixture(autouse=True)
def shop() -> None:
    make_cluster("shop", QuorumConfig())


@pytest.mark.parametrize(
    ("text", "share"), [("10%", 0.1), ("0.1", 0.1), ("100%", 1.0), ("2.5%", 0.025), (None, 0.0)]
)
def test_shares_are_percentages_or_fractions(text: str | None, share: float) -> None:
    assert parse_share(text, option="--loss") == pytest.approx(share)


@pytest.mark.parametrize("text", ["10", "0%", "101%", "-5%", "much", "%", ""])
def test_a_share_that_could_be_misread_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match="--loss"):
        parse_share(text, option="--loss")


def test_links_are_shortened_and_effects_are_told_in_words() -> None:
    assert _links(CUT) == "n1<>n2 n1>n3"
    many = tuple(("n1", f"n{number}") for number in range(2, 12))
    assert _links(LinkFault(id="f1", kind="link", links=many)).endswith(" and 4 more")
    slow = LinkFault(
        id="f1", kind="link", links=many, delay_ms=200, jitter_ms=50, loss=0.1, duplicate=0.05
    )
    assert _effect(slow) == "loses 10%, delays 200ms±50ms, doubles 5%"


def test_faults_are_listed_with_their_hits(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Network, "faults", lambda self: (CUT,))
    (fault,) = kvctl_command("faults", "-o", "json").document["faults"]
    assert fault["id"] == "f3"
    assert fault["kind"] == "partition"
    assert fault["links"] == [["n1", "n2"], ["n2", "n1"], ["n1", "n3"]]
    assert fault["hits"] == 7
    assert fault["expires_ms"] is None
    assert kvctl_command("faults").text == "f3\tpartition\tn1<>n2 n1>n3\tcut\t7\twhen healed\n"
    assert "HITS" in kvctl_command("faults", "-o", "table").text


def test_a_new_fault_prints_its_id_alone_in_a_pipe_and_names_who_does_not_answer(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def partition(self: Network, groups: list[list[str]], *, for_s: float | None) -> Injected:
        asked.extend([groups, for_s])
        return Injected(CUT, ("n1",), ("n2",))

    monkeypatch.setattr(Network, "partition", partition)
    outcome = kvctl_command("partition", "n1,n2", "n3,n4", "--for", "30s")
    assert asked == [[["n1", "n2"], ["n3", "n4"]], 30.0]
    assert (outcome.code, outcome.text) == (0, "f3\n")
    assert "no answer from n2" in outcome.stderr
    assert "in no group, hence with all links: n5" in outcome.stderr
    document = kvctl_command("partition", "n1,n2", "n3,n4,n5", "-o", "json").document
    assert (document["told"], document["later"]) == (["n1"], ["n2"])


@pytest.mark.parametrize(
    ("options", "directions"),
    [((), (True, True)), (("--in",), (True, False)), (("--out",), (False, True))],
)
def test_isolate_cuts_the_direction_asked_for(
    kvctl_command: Command,
    monkeypatch: pytest.MonkeyPatch,
    options: tuple[str, ...],
    directions: tuple[bool, bool],
) -> None:
    asked: list[tuple[bool, bool]] = []

    def isolate(self: Network, nodes: list[str], **given: bool) -> Injected:
        asked.append((given["inward"], given["outward"]))
        return Injected(CUT, (), ())

    monkeypatch.setattr(Network, "isolate", isolate)
    assert kvctl_command("isolate", "n1", *options).code == 0
    assert asked == [directions]


def test_heal_says_what_it_lifted_and_where_it_could_not_yet(
    kvctl_command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Network, "heal", lambda self, fault_id: Healed((CUT,), ("n4",)))
    outcome = kvctl_command("heal", "-o", "json")
    assert outcome.code == 0
    assert [one["id"] for one in outcome.document["healed"]] == ["f3"]
    assert outcome.document["later"] == ["n4"]
    assert "no answer from n4" in outcome.stderr


def test_a_fault_can_be_set_and_healed_while_no_node_runs(kvctl_command: Command) -> None:
    assert kvctl_command("link", "n1>n2", "--delay", "20ms", "--for", "1h").text == "f1\n"
    assert kvctl_command("isolate", "n3").text == "f2\n"
    listed = kvctl_command("faults", "-o", "json").document["faults"]
    assert [(one["id"], len(one["links"]), one["delay_ms"]) for one in listed] == [
        ("f1", 1, 20),
        ("f2", 8, 0),
    ]
    assert listed[0]["expires_ms"] is not None
    assert kvctl_command("heal", "f2").text == "f2\tisolate\t0\n"
    assert kvctl_command("heal").text == "f1\tlink\t0\n"
    assert kvctl_command("faults", "-o", "json").document == {"faults": []}
    assert kvctl_command("isolate", "n3").text == "f3\n", "ids are not given out twice"


@pytest.mark.parametrize("arguments", [("gossip",), ("hints",), ("handoff",), ("repair",)])
def test_what_asks_nodes_ends_with_5_when_none_answers(
    kvctl_command: Command, arguments: tuple[str, ...], home: object
) -> None:
    from kvctl.cluster.directory import cluster_directory
    from kvctl_node.runtime.security import create_keys

    create_keys(cluster_directory("shop").keys, ["n1", "n2", "n3", "n4", "n5"])
    assert kvctl_command(*arguments).code == 5
