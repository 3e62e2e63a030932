"""ring and where: ownership, with and without a cluster that runs."""

from __future__ import annotations

import pytest

from kvctl.errors import ClusterUnreachableError
from kvctl_node.config import QuorumConfig
from tests.cli.cli_run import Command
from tests.cli.stopped_cluster import make_cluster


@pytest.fixture(autouse=True)
def stopped_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cluster of five nodes of which none answers."""
    make_cluster("shop", QuorumConfig(3, 2, 2))

    def unreachable(*_: object, **__: object) -> None:
        raise ClusterUnreachableError("no node answers.")

    monkeypatch.setattr("kvctl.client.connect", unreachable)


def test_ring_shares_add_up_and_meet_their_targets(kvctl_command: Command) -> None:
    outcome = kvctl_command("ring", "-o", "json")
    assert outcome.code == 0
    assert "computed from the configuration" in outcome.stderr
    document = outcome.document
    assert set(document) >= {"epoch", "hash", "partitions", "owners"}
    assert sum(owner["replicas"] for owner in document["owners"]) == 3 * document["partitions"]
    for owner in document["owners"]:
        assert set(owner) >= {"node", "replicas", "primaries", "share", "target"}
        assert owner["share"] == pytest.approx(owner["target"], abs=0.001)


def test_where_names_owners_then_fallbacks_in_the_promised_form(kvctl_command: Command) -> None:
    document = kvctl_command("where", "user:1", "-o", "json").document
    assert set(document) == {"key", "partition", "primaries", "fallbacks"}
    assert len(document["primaries"]) == 3
    everyone = {*document["primaries"], *document["fallbacks"]}
    assert everyone == {"n1", "n2", "n3", "n4", "n5"}


def test_without_binds_each_stand_in_to_the_owner_it_stands_for(kvctl_command: Command) -> None:
    plain = kvctl_command("where", "user:1", "-o", "json").document
    gone, stays, last = plain["primaries"]
    first_fallback = plain["fallbacks"][0]
    document = kvctl_command(
        "where", "user:1", "--without", f"{gone},n9"[:2], "-o", "json"
    ).document
    assert document["slots"] == [
        {"primary": gone, "node": first_fallback},
        {"primary": stays, "node": stays},
        {"primary": last, "node": last},
    ]
    text = kvctl_command("where", "user:1", "--without", gone).text
    assert text.rstrip().endswith(f"{first_fallback} for {gone},{stays},{last}")


def test_several_keys_are_one_line_each(kvctl_command: Command) -> None:
    assert [line["key"] for line in kvctl_command("where", "a", "b", "-o", "jsonl").lines] == [
        "a",
        "b",
    ]
    assert len(kvctl_command("where", "a", "b").text.splitlines()) == 2


def test_a_node_nobody_has_is_refused(kvctl_command: Command) -> None:
    outcome = kvctl_command("where", "a", "--without", "n9")
    assert outcome.code == 2
    assert outcome.stderr.endswith("hint: the nodes are n1, n2, n3, n4, n5.\n")
