"""Following comparisons of Merkle trees that nodes were told to make.

A node compares itself with a peer in the background of its loop; the command that starts it answers
at once with a session number, and its progress is asked for under that number. A pair is compared
by one of its two nodes, since a repair merges both ways.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any

from kvctl.cluster.node_commands import NodeCommands
from kvctl.errors import ClusterUnreachableError, WaitTimeoutError
from kvctl_node.errors import InvalidRequestError

FIELDS = (
    "a",
    "b",
    "partitions",
    "leaves_differing",
    "keys_differing",
    "keys_repaired",
    "bytes",
    "full_copy_bytes",
    "state",
)
"""What is told of a pair, first; `level` and `reason` follow."""
INTERRUPTED = "interrupted"
_PAUSE_S = 0.05
_MISSES_MAX = 5
"""A node that does not answer so many times in a row is given up."""

Pair = tuple[str, str]
Rows = dict[Pair, dict[str, Any]]


def compare(
    nodes: NodeCommands, one: str, other: str, partition: int | None, *, timeout_s: float | None
) -> Iterator[Rows]:
    """Compare two nodes and change nothing; the row as it proceeds, the last time finished.

    Raises `InvalidRequestError`, `ClusterUnreachableError`, `WaitTimeoutError`.
    """
    if one == other:
        raise InvalidRequestError(f"{one} cannot be compared with itself.")
    arguments: dict[str, Any] = {"peer": other}
    if partition is not None:
        arguments["partition"] = partition
    session = int(nodes.ask_one(one, "merkle", arguments)["session"])
    followed = _Followed(nodes, {one: {other: session}}, {})
    yield from followed.until_finished(timeout_s)


def repair(
    nodes: NodeCommands, chosen: Sequence[str], *, timeout_s: float | None
) -> Iterator[Rows]:
    """Compare each chosen node (default: all) with every other and merge what differs.

    Yields the rows of all pairs as they proceed, the last time all finished. A pair whose node does
    not answer is a row, too: interrupted. Raises `ClusterUnreachableError` if none answers,
    `WaitTimeoutError`.
    """
    wanted: dict[str, list[str]] = {}
    for name in chosen or nodes.names:
        wanted[name] = [peer for peer in nodes.names if peer != name and peer not in wanted]
    wanted = {name: peers for name, peers in wanted.items() if peers}
    answers = nodes.ask({name: {"peers": peers} for name, peers in wanted.items()}, "repair")
    if wanted and not answers:
        raise ClusterUnreachableError(
            f"{', '.join(wanted)} cannot be told to repair: no answer.",
            hint="kvctl status shows why.",
        )
    sessions = {name: dict(answer["sessions"]) for name, answer in answers.items()}
    rows = {
        (name, peer): _blank(name, peer, INTERRUPTED, f"{name} does not answer")
        for name, peers in wanted.items()
        if name not in answers
        for peer in peers
    }
    yield from _Followed(nodes, sessions, rows).until_finished(timeout_s)


class _Followed:
    """Sessions under way, by the node that runs them and its peer."""

    def __init__(
        self, nodes: NodeCommands, sessions: dict[str, dict[str, int]], rows: Rows
    ) -> None:
        self._nodes = nodes
        self._sessions = sessions
        self._rows = rows
        self._misses = dict.fromkeys(sessions, 0)
        for name, peers in sessions.items():
            for peer in peers:
                rows[name, peer] = _blank(name, peer, "waiting", "")

    def until_finished(self, timeout_s: float | None) -> Iterator[Rows]:
        """The rows after every look, until none is under way."""
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            self._look()
            yield {
                pair: row
                for pair, row in self._rows.items()
                if row["partitions"] or row["state"] != "equal"  # they share nothing
            }
            if not self._sessions:
                return
            if deadline_s is not None and time.monotonic() >= deadline_s:
                open_pairs = [f"{a}-{b}" for a, peers in self._sessions.items() for b in peers]
                raise WaitTimeoutError(
                    f"not finished in {timeout_s:g} s: {', '.join(open_pairs)}.",
                    hint="the nodes go on by themselves; kvctl repair follows them again.",
                )
            time.sleep(_PAUSE_S)

    def _look(self) -> None:
        asked = {name: {"sessions": list(one.values())} for name, one in self._sessions.items()}
        answers = self._nodes.ask(asked, "repair_status") if asked else {}
        for name in list(self._sessions):
            if name in answers:
                self._misses[name] = 0
                self._take(name, answers[name]["pairs"])
            else:
                self._misses[name] += 1
                if self._misses[name] >= _MISSES_MAX:
                    self._give_up(name, list(self._sessions[name]), f"{name} does not answer")
            if not self._sessions[name]:
                del self._sessions[name]

    def _take(self, name: str, pairs: list[dict[str, Any]]) -> None:
        known = {row["session"]: row for row in pairs}
        for peer, session in list(self._sessions[name].items()):
            row = known.get(session)
            if row is None:
                self._give_up(name, [peer], f"{name} was restarted")
                continue
            self._rows[name, peer] = {
                **{field: row[field] for field in FIELDS},
                "level": row["level"],
                "reason": row["reason"],
            }
            if row["finished"]:
                del self._sessions[name][peer]

    def _give_up(self, name: str, peers: list[str], reason: str) -> None:
        for peer in peers:
            self._rows[name, peer].update(state=INTERRUPTED, reason=reason)
            del self._sessions[name][peer]


def _blank(a: str, b: str, state: str, reason: str) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(FIELDS, 0)
    return {**row, "a": a, "b": b, "state": state, "level": "", "reason": reason}
