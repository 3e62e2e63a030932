"""A broken promise, and the promises by number."""

from __future__ import annotations

from typing import Final

PROMISES: Final = {
    0: "no node breaks an assertion of its own",
    1: "an acknowledged write is present or causally covered",
    2: "no dot names two values",
    4: "a put dominates exactly its context",
    6: "read-modify-write never grows siblings",
    7: "quiesced primaries are identical",
    8: "the deleted never revive",
    10: "reads with R + W > N see acknowledged writes; absence needs evidence",
    11: "blocking reads are monotonic",
    12: "the owners of a partition are N distinct nodes, in distinct zones where there are enough",
    13: "same epoch, same ring hash",
    15: "a hint that is gone is covered by its target, or was dropped and counted",
    17: "a healed cluster converges in bounded time",
    19: "what is acknowledged is durable on W nodes",
    20: "one request id, one visible value",
    21: "what was refused as unavailable is never read",
    22: "an event's trace clock tells of all that came before it",
}


class Violation(AssertionError):
    """A promise was broken. `key` is the key concerned, b"" if there is none."""

    def __init__(self, number: int, key: bytes, what: str) -> None:
        self.number = number
        self.key = key
        self.what = what
        super().__init__(f"invariant {number} ({PROMISES[number]}): {key.decode()}: {what}")

    def __reduce__(self) -> tuple[type[Violation], tuple[int, bytes, str]]:
        # It travels between processes; exceptions are rebuilt from their one message otherwise.
        return Violation, (self.number, self.key, self.what)
