"""The oracle: sees every disk and every answer, and judges them against the promises.

It learns of each version when the turn that mints it writes it, with what that put was entitled to
supersede: nothing for a blind put, what its context covers for one with a context, what its
coordinator knew for an overwriting one. All judgements follow from this relation, and none from
what the nodes themselves conclude:

* an object may have seen a version only if it still has it, or has one that rightly ended it (1);
* it may not hold two versions of which one ended the other (4, 8);
* an answer's context covers no more than what its client has seen or wrote (4);
* an acknowledged version is durable on W distinct nodes by the time of the answer (19).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

from kvctl_node.causality.causal_context import Dot
from kvctl_node.causality.siblings import Sibling, StoredObject, decode_context, decode_object
from kvctl_node.protocol.client_messages import (
    PutDone,
    PutKind,
)
from tests.simulation.history import KeyHistory, Outcome, Read, Version, Write, name_of
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.disk_oracle import DiskOracle

decoded = lru_cache(maxsize=1 << 14)(decode_object)
"""`decode_object`, which is asked for the same bytes by every copy."""


class Oracle:
    """What is known of all keys, and the judgements on answers and on the settled state."""

    def __init__(
        self,
        owners_of: Callable[[bytes], tuple[str, ...]],
        *,
        n: int,
        r: int,
        truncates: bool,
        turnaround_s: float,
        time_s: Callable[[], float],
    ) -> None:
        self.owners_of = owners_of
        self.n = n
        self.r = r
        self.truncates = truncates
        """Clocks may be shortened: old copies may look concurrent."""
        self.turnaround_s = turnaround_s
        """How long one request may be at work inside the cluster."""
        self.time_s = time_s
        self.keys: dict[bytes, KeyHistory] = {}
        self.disks: dict[str, DiskOracle] = {}
        self.destroyed: set[str] = set()
        """Nodes whose disk lost something that it had acknowledged."""
        self.versions = 0

    def history(self, key: bytes) -> KeyHistory:
        """What is known of a key."""
        history = self.keys.get(key)
        if history is None:
            history = self.keys[key] = KeyHistory(key)
        return history

    # ------------------------------------------------------------ objects

    def judge_object(self, history: KeyHistory, stored: StoredObject, where: str) -> None:
        """Whether some copy, anywhere, may be what it is."""
        alive = {sibling.dot for sibling in stored.siblings}
        ended = history.ended_by(alive | history.reaped)
        ended = history.with_their_requests(ended, alive)
        for dot, version in history.versions.items():
            if (
                dot not in ended
                and stored.context.covers(*dot)
                and not self._taken_back(version, stored, ended)
            ):
                raise Violation(
                    1,
                    history.key,
                    f"{where} has seen {text_of(dot)} of {version.write} and holds neither it nor "
                    f"anything that superseded it, but {_texts(alive)}.",
                )
        if self.truncates:
            return
        for dot in alive:
            for other in alive & history.seen_ended_by(dot):
                raise Violation(
                    4,
                    history.key,
                    f"{where} still holds {text_of(other)} beside {text_of(dot)}, "
                    "which superseded it.",
                )
        revived = alive & (history.ended_by(history.reaped) - history.reaped)
        if revived:
            raise Violation(8, history.key, f"{where} holds {_texts(revived)} again, after a reap.")

    def _taken_back(self, version: Version, stored: StoredObject, ended: set[Dot]) -> bool:
        """Whether a second application of a request was undone, its first one being known, and all
        that it had superseded having ended otherwise."""
        applied = version.write.dots - {version.dot}
        others = version.ended - {version.dot}
        return any(dot in ended for dot in applied) and all(
            dot in ended or not stored.context.covers(*dot) for dot in others
        )

    def sibling_version(
        self, history: KeyHistory, sibling: Sibling, stored: StoredObject
    ) -> Version | None:
        """The known version of a sibling, None for a new one. Raises `Violation`."""
        request, dot = sibling.request, sibling.dot
        write = history.writes.get(request)
        if write is None:
            raise Violation(
                21, history.key, f"{text_of(dot)} is of {name_of(request)}: unheard of."
            )
        known = history.versions.get(dot)
        if sibling.value != write.value or (known is not None and known.write is not write):
            other = "" if known is None else f" and {known.write}"
            raise Violation(
                2, history.key, f"{text_of(dot)} names {sibling.value!r} of {write}{other}."
            )
        return known

    # ------------------------------------------------------------ answers

    def judge_put_done(self, write: Write, reply: PutDone) -> None:
        """Whether a put was rightly acknowledged."""
        history = self.keys[write.key]
        slots = {reply.hinted.get(node, node) for node in reply.acked}
        if len(slots) < write.w:
            raise Violation(
                19, write.key, f"{write}: {reply.acked} are fewer than W={write.w} slots."
            )
        versions = [history.versions[dot] for dot in write.dots]
        durable_on = max((version.holders for version in versions), key=len, default=set())
        if len(durable_on) < write.w:
            raise Violation(
                19,
                write.key,
                f"{write}: acknowledged with W={write.w}, durable on {sorted(durable_on)}.",
            )
        context = decode_context(reply.context)
        if write.kind is PutKind.OVERWRITE:
            allowed = history.ended_by(write.dots | history.reaped)
        else:
            allowed = {dot for dot in history.versions if write.seen.covers(*dot)} | write.dots
        for dot, version in history.versions.items():
            if dot not in allowed and context.covers(*dot):
                raise Violation(
                    4,
                    write.key,
                    f"the answer to {write} claims to have seen {text_of(dot)} of {version.write}, "
                    "which its client has not.",
                )

    def judge_read(self, read: Read) -> None:
        """Whether a get was rightly answered."""
        history = self.history(read.key)
        if read.content:
            self._judge_content(history, read)
        else:
            self._judge_absence(read)
        if read.strict:
            self._judge_freshness(history, read)
            self._judge_monotony(history, read)
        history.reads.append(read)

    def _judge_content(self, history: KeyHistory, read: Read) -> None:
        stored = decoded(read.content)
        for sibling in stored.siblings:
            version = self.sibling_version(history, sibling, stored)
            if version is None or not version.durable:
                raise Violation(
                    19, read.key, f"{text_of(sibling.dot)} was read and is on no disk at all."
                )
            if version.write.outcome is Outcome.REFUSED:
                raise Violation(21, read.key, f"{version.write} was read.")
        self.judge_object(history, stored, "an answer to a get")

    def _judge_absence(self, read: Read) -> None:
        owners = self.owners_of(read.key)
        liars = [
            node
            for node in read.replied
            if node not in owners or self.disks[node].had_all_along(read.key, read.started_s)
        ]
        if liars:
            raise Violation(
                10, read.key, f'"not found" on the word of {liars}, which held it or own it not.'
            )

    def _judge_freshness(self, history: KeyHistory, read: Read) -> None:
        alive = {one.dot for one in decoded(read.content).siblings} if read.content else set()
        known = history.ended_by(alive | history.reaped)
        known = history.with_their_requests(known, alive)
        for write in history.writes.values():
            due = write.outcome is Outcome.ACKED and write.ended_s < read.started_s
            if not (due and write.strict and read.r + write.w > self.n):
                continue
            if not known & write.dots:
                raise Violation(
                    10,
                    read.key,
                    f"{write} was acknowledged at {write.ended_s:.3f} with W={write.w}, and the "
                    f"read that began at {read.started_s:.3f} with R={read.r} missed it.",
                )

    def _judge_monotony(self, history: KeyHistory, read: Read) -> None:
        if not read.blocking or self.truncates:
            return
        ended_by_reap = history.ended_by(history.reaped)
        for earlier in history.reads:
            if not (earlier.blocking and earlier.strict and earlier.ended_s < read.started_s):
                continue
            for dot in history.versions:
                seen_then = earlier.r <= read.r and earlier.context.covers(*dot)
                if seen_then and not read.context.covers(*dot) and dot not in ended_by_reap:
                    raise Violation(
                        11,
                        read.key,
                        f"{text_of(dot)} was seen by the blocking read that ended at "
                        f"{earlier.ended_s:.3f} and not by the one at {read.started_s:.3f}.",
                    )

    # ------------------------------------------------------------ the settled state

    def judge_settled(self, key: bytes, stored: StoredObject | None) -> None:
        """Whether what all primaries agree on is what should be left of the key's history."""
        history = self.history(key)
        alive = set() if stored is None else {sibling.dot for sibling in stored.siblings}
        ended = history.ended_by(alive | history.reaped)
        ended = history.with_their_requests(ended, alive)
        self._judge_one_write(history, alive)
        for write in history.writes.values():
            durable = [dot for dot in write.dots if history.versions[dot].durable]
            if write.outcome is Outcome.REFUSED and durable:
                raise Violation(21, key, f"{write} is stored as {_texts(durable)}.")
            if write.outcome is Outcome.ACKED and not any(dot in ended for dot in durable):
                raise Violation(
                    1, key, f"{write} is lost: {_texts(durable)} by {_texts(alive) or 'nothing'}."
                )
            if write.outcome is Outcome.ACKED and not self.truncates:
                self._judge_end_of(history, write, alive)

    def _judge_one_write(self, history: KeyHistory, alive: set[Dot]) -> None:
        """What was superseded under one dot is not there under another."""
        if self.truncates or history.damaged:
            return
        superseded: set[Dot] = set()
        for dot in alive:
            version = history.versions[dot]
            superseded |= version.seen_ended - version.overtaken - {dot}
        for dot in alive:
            version = history.versions[dot]
            for other in version.write.dots & superseded - alive:
                if version.goes_with(history.versions[other]):
                    raise Violation(
                        8,
                        history.key,
                        f"{text_of(dot)} of {version.write} is there, which was superseded "
                        f"as {text_of(other)}.",
                    )

    def _judge_end_of(self, history: KeyHistory, write: Write, alive: set[Dot]) -> None:
        """What an acknowledged put superseded is gone for good, whatever name it got since."""
        for other in history.writes.values():
            # A request that was sent twice may have been applied twice, under unrelated names.
            names = alive & other.dots
            if names and other is not write and not other.unanswered:
                if write.kind is PutKind.CONTEXT:
                    superseded = any(write.seen.covers(*dot) for dot in other.dots)
                else:
                    superseded = self._should_overwrite(history, write, other)
                if superseded:
                    raise Violation(
                        8,
                        history.key,
                        f"{_texts(names)} of {other} is there, which {write} had superseded.",
                    )

    def _should_overwrite(self, history: KeyHistory, write: Write, other: Write) -> bool:
        """Whether every read quorum of an overwriting put must have met the other one."""
        return (
            write.kind is PutKind.OVERWRITE
            and write.strict
            and not history.damaged
            and other.outcome is Outcome.ACKED
            and other.ended_s < write.started_s
            and self.r + other.w > self.n
        )


def text_of(dot: Dot) -> str:
    """A dot as people read it."""
    return f"{dot.actor}:{dot.counter}"


def _texts(dots: Iterable[Dot]) -> str:
    return ", ".join(sorted(text_of(dot) for dot in dots))
