"""Waiting until something is true of a cluster, and saying what was still missing when it was not.

    ready           every node serves and sees every other
    hints=0         no node keeps hints (any number will do)
    seen n3=down    every other node that answers thinks so of n3
    converged       no hints, all views agree, and each pair of nodes has equal Merkle roots

Nothing is believed that was not answered: a node that does not answer is missing, except for
`seen`, which is about the others.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from itertools import combinations
from typing import Any

from kvctl.cluster.directory import ClusterDirectory
from kvctl.cluster.node_commands import Answers, NodeCommands
from kvctl.cluster.readiness import sees
from kvctl.errors import WaitTimeoutError
from kvctl_node.config import ClusterConfig
from kvctl_node.errors import InvalidRequestError

BELIEFS = ("up", "suspect", "down", "left")
_ASK_S = 0.5
_PAUSE_S = 0.05
_FORMS = "ready, converged, hints=0, 'seen n3=down'"
_HINTS = re.compile(r"hints\s*=\s*(\d+)\Z")
_SEEN = re.compile(r"seen\s+(\S+?)\s*=\s*(\S+)\Z")

Condition = Callable[[NodeCommands], str]
"""What is still missing, in words; "" when it is true."""


def wait_for(
    directory: ClusterDirectory, config: ClusterConfig, text: str, *, timeout_s: float
) -> float:
    """Ask until the condition holds; the seconds it took.

    Raises `InvalidRequestError` if it is no condition, `WaitTimeoutError` with what was missing.
    """
    condition = parse_condition(text, tuple(spec.name for spec in config.nodes))
    began_s = time.monotonic()
    with NodeCommands(directory, config, timeout_s=min(_ASK_S, timeout_s)) as nodes:
        while missing := condition(nodes):
            if time.monotonic() - began_s >= timeout_s:
                raise WaitTimeoutError(
                    f"waited {timeout_s:g} s for {text.strip()} in vain: {missing}.",
                    hint="--timeout waits longer; kvctl status and kvctl faults may say why.",
                )
            time.sleep(_PAUSE_S)
    return time.monotonic() - began_s


def parse_condition(text: str, names: tuple[str, ...]) -> Condition:
    """The condition that `text` describes. Raises `InvalidRequestError`."""
    words = text.strip()
    if words == "ready":
        return missing_for_ready
    if words == "converged":
        return missing_for_converged
    if matched := _HINTS.match(words):
        wanted = int(matched.group(1))
        return lambda nodes: missing_for_hints(nodes, wanted)
    if matched := _SEEN.match(words):
        member, belief = matched.groups()
        if member not in names:
            raise InvalidRequestError(
                f"there is no node {member!r}.", hint=f"the nodes are {', '.join(names)}."
            )
        if belief not in BELIEFS:
            raise InvalidRequestError(
                f"a node is never seen {belief!r}.", hint=f"it is one of {', '.join(BELIEFS)}."
            )
        return lambda nodes: missing_for_seen(nodes, member, belief)
    raise InvalidRequestError(f"{text!r} is nothing to wait for.", hint=f"there is {_FORMS}.")


def missing_for_ready(nodes: NodeCommands) -> str:
    """Every node answers and says that it can reach every other."""
    snapshots = nodes.connections.ask_status(nodes.names, timeout_s=_ASK_S)
    if missing := _silent(nodes, snapshots):
        return missing
    for one in nodes.names:
        for other in nodes.names:
            if one != other and not sees(snapshots[one], other):
                return f"{one} does not see {other}"
    return ""


def missing_for_hints(nodes: NodeCommands, wanted: int) -> str:
    """All nodes together keep that many hints."""
    answers = _ask(nodes, "hints")
    if missing := _silent(nodes, answers):
        return missing
    kept = {
        (holder, queue["target"]): int(queue["count"])
        for holder, answer in answers.items()
        for queue in answer["queues"]
    }
    if sum(kept.values()) == wanted:
        return ""
    words = [f"{holder} keeps {count} for {target}" for (holder, target), count in kept.items()]
    return "; ".join(words) or "no node keeps any hint"


def missing_for_seen(nodes: NodeCommands, member: str, belief: str) -> str:
    """Every other node that answers has this belief of the member."""
    rows = nodes.ask({name: {} for name in nodes.names if name != member}, "gossip")
    if not rows:
        return "no other node answers"
    others = {name: row.get(member, {}).get("state", "unknown") for name, row in rows.items()}
    wrong = [f"{name} sees it {state}" for name, state in others.items() if state != belief]
    return ", ".join(wrong)


def missing_for_converged(nodes: NodeCommands) -> str:
    """No hints, the views agree, the roots are equal: in this order, the cheapest first."""
    return (
        missing_for_hints(nodes, 0)
        or missing_for_agreement(_ask(nodes, "gossip"), nodes)
        or missing_for_equal_roots(_ask(nodes, "merkle_roots"), nodes)
    )


def missing_for_agreement(rows: Answers, nodes: NodeCommands) -> str:
    """Every node answers, and all believe the same of each."""
    if missing := _silent(nodes, rows):
        return missing
    for member in nodes.names:
        views = {name: rows[name].get(member, {}).get("state", "unknown") for name in nodes.names}
        for one, other in combinations(nodes.names, 2):
            if views[one] != views[other]:
                return f"{one} sees {member} {views[one]}, {other} sees it {views[other]}"
    return ""


def missing_for_equal_roots(answers: Answers, nodes: NodeCommands) -> str:
    """Each pair names the same root, and nobody is rebuilding."""
    if missing := _silent(nodes, answers):
        return missing
    for name, answer in answers.items():
        if answer["rebuilding"]:
            return f"{name} is being rebuilt: {answer['rebuilding']}"
    for one, other in combinations(nodes.names, 2):
        roots = (answers[one]["roots"].get(other), answers[other]["roots"].get(one))
        for name, root in zip((one, other), roots, strict=True):
            if root is None:
                return f"the Merkle tree of {name} is being built"
        if roots[0] != roots[1]:
            return f"{one} and {other} hold different data"
    return ""


def _ask(nodes: NodeCommands, command: str) -> Answers:
    return nodes.ask({key: {} for key in nodes.names}, command)


def _silent(nodes: NodeCommands, answers: Mapping[str, Any]) -> str:
    silent = nodes.silent(answers)
    if not silent:
        return ""
    return f"{', '.join(silent)} {'does' if len(silent) == 1 else 'do'} not answer"
