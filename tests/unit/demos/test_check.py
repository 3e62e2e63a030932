"""One check: it holds, refutes, or cannot be decided."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kvctl.demos.check import Check, Verdict, judge
from kvctl.demos.variables import Variables
from kvctl_node.errors import ConfigError

DOCUMENT: dict[str, Any] = {
    "acked": ["n1", "n5"],
    "hits": 3,
    "state": "suspect",
    "bytes": 10,
    "full": 20,
    "degraded": True,
}


def check(value: str, **comparison: Any) -> Check:
    return Check(claim="it is so", value=value, **comparison)


def verdict(one: Check, *, refutes: bool = True) -> Verdict:
    return judge(one, DOCUMENT, Variables({"owner": "n5"}), step=1, refutes=refutes).verdict


@pytest.mark.parametrize(
    ("holding", "failing"),
    [
        (check("state", equals="suspect"), check("state", equals="down")),
        (check("degraded", equals=True), check("degraded", equals=False)),
        (check("state", differs_from="up"), check("state", differs_from="suspect")),
        (check("acked", any_order=["n5", "n1"]), check("acked", any_order=["n5"])),
        (check("acked", any_order=["$owner", "n1"]), check("acked", any_order=["n1", "n1"])),
        (check("acked", any_order=["n5", "n1"]), check("acked", any_order=["n1", "n5", "n5"])),
        (check("acked", contains="$owner"), check("acked", contains="n2")),
        (check("state", contains="susp"), check("state", contains="down")),
        (check("acked", lacks="n2"), check("acked", lacks="$owner")),
        (check("hits", at_least=3), check("hits", at_least=4)),
        (check("hits", at_most=3), check("hits", at_most=2)),
        (check("bytes", less_than="full"), check("full", less_than="bytes")),
    ],
    ids=str,
)
def test_a_comparison_tells_what_is_so_from_what_is_not(holding: Check, failing: Check) -> None:
    assert verdict(holding) is Verdict.HOLDS
    assert verdict(failing) is Verdict.NO
    assert verdict(failing, refutes=False) is Verdict.UNDECIDED


@pytest.mark.parametrize("one", [check("state", at_least=1), check("degraded", at_least=1)])
def test_what_is_no_number_is_not_large_enough(one: Check) -> None:
    assert verdict(one) is Verdict.NO


def test_equal_lists_are_equal_in_their_order_only() -> None:
    assert verdict(check("acked", equals=["n1", "n5"])) is Verdict.HOLDS
    assert verdict(check("acked", equals=["n5", "n1"])) is Verdict.NO


@pytest.mark.parametrize(
    "one", [check("nothing", equals=1), check("hits", less_than="nothing")], ids=str
)
def test_where_there_is_nothing_to_look_at_nothing_is_decided(one: Check) -> None:
    assert verdict(one) is Verdict.UNDECIDED


def test_a_failed_check_says_what_was_found_and_what_should_have_been() -> None:
    finding = judge(check("acked", contains="n2"), DOCUMENT, Variables({}), step=4, refutes=True)
    assert finding.step == 4
    assert finding.found == ["n1", "n5"]
    assert finding.problem == 'it should contain "n2"'


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (check("a"), "exactly one comparison, not 0"),
        (check("a", equals=1, at_least=1), "exactly one comparison, not 2"),
        (msgspec.structs.replace(check("a", equals=1), claim=" "), "needs a claim"),
    ],
)
def test_a_check_that_makes_no_sense_is_refused(one: Check, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        one.validate()
