"""What a setting of N, R, W and mode guarantees, and what it does not, in plain words.

Pure arithmetic and prose: the facts follow from overlapping quorums.

* R + W > N: any R replicas and any W replicas share one, so a read meets the last acknowledged
  write, as long as both count only the same N owners.
* 2W > N: any two write quorums share a replica, so at most one side of a partition can write.
* A quorum of k out of N can be had while at most N - k of them are gone.

In sloppy mode a stand-in counts in the place of an owner it can not reach. Sets of stand-ins on two
sides of a partition share nobody, so both statements about overlap hold only while the owners are
reachable. Source: DeCandia et al., "Dynamo: Amazon's Highly Available Key-value Store", SOSP 2007,
sections 4.5 and 4.6.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from kvctl_node.config import QuorumConfig


class Guarantee(NamedTuple):
    """One property a user may count on, or may not."""

    name: str
    holds: bool
    text: str


class Explanation(NamedTuple):
    """Everything there is to say about a setting."""

    quorum: QuorumConfig
    durability: str
    read_failures_tolerated: int
    """Owners of a key that can be gone with reads still answered, in strict mode."""
    write_failures_tolerated: int
    guarantees: tuple[Guarantee, ...]

    def to_json(self) -> dict[str, Any]:
        """What `kvctl config explain -o json` prints."""
        quorum = self.quorum
        return {
            "n": quorum.n,
            "r": quorum.r,
            "w": quorum.w,
            "mode": quorum.mode,
            "durability": self.durability,
            "read_failures_tolerated": self.read_failures_tolerated,
            "write_failures_tolerated": self.write_failures_tolerated,
            "guarantees": [guarantee._asdict() for guarantee in self.guarantees],
        }


def explain(quorum: QuorumConfig, durability: str = "os") -> Explanation:
    """The guarantees of a setting that was validated."""
    return Explanation(
        quorum=quorum,
        durability=durability,
        read_failures_tolerated=quorum.n - quorum.r,
        write_failures_tolerated=quorum.n - quorum.w,
        guarantees=(
            _reads_see_writes(quorum),
            _one_side_writes(quorum),
            _reads_available(quorum),
            _writes_available(quorum),
            _disk_loss(quorum),
            _power_loss(quorum, durability),
            _monotonic_reads(quorum),
            Guarantee(
                "no_silent_choice",
                True,
                "Concurrent writes of one key are all kept, as siblings, until somebody resolves "
                "them.",
            ),
            Guarantee(
                "transactions",
                False,
                "Nothing spans two keys, and no setting makes the store linearizable: a write "
                "whose fate is unknown may appear later, and a read may meet it before that.",
            ),
        ),
    )


def _reads_see_writes(quorum: QuorumConfig) -> Guarantee:
    n, r, w, mode = quorum.n, quorum.r, quorum.w, quorum.mode
    overlap = r + w > n
    if not overlap:
        text = (
            f"R+W = {r + w} is not more than N = {n}: a read may ask only replicas the last "
            "write has not reached yet, and return an older value or not found."
        )
    elif mode == "strict":
        text = (
            f"R+W = {r + w} > N = {n}: a read that begins after a write was acknowledged "
            "returns that write, or a later one."
        )
    else:
        text = (
            f"R+W = {r + w} > N = {n}: while the owners of the key are reachable, a read that "
            "begins after a write was acknowledged returns it, or a later one. While a stand-in "
            "holds the write for an owner, a read on the other side of a partition may miss it."
        )
    return Guarantee("read_your_writes", overlap and (mode == "strict" or n == 1), text)


def _one_side_writes(quorum: QuorumConfig) -> Guarantee:
    n, w = quorum.n, quorum.w
    majority = 2 * w > n
    if quorum.mode == "sloppy":
        text = (
            "Sloppy: each side of a partition that has W healthy nodes goes on taking writes; what "
            "both sides write becomes siblings."
        )
        return Guarantee("one_side_writes", False, text)
    if majority:
        text = (
            f"W = {w} > N/2: two writes of a key always share a replica, so at most one side of a "
            "partition takes writes of it; the other answers unavailable."
        )
    else:
        text = (
            f"W = {w} is not more than N/2: both sides of a partition may take writes of one key; "
            "what both write becomes siblings."
        )
    return Guarantee("one_side_writes", majority, text)


def _reads_available(quorum: QuorumConfig) -> Guarantee:
    return _available("reads", quorum.n, quorum.r, quorum.mode, "R")


def _writes_available(quorum: QuorumConfig) -> Guarantee:
    return _available("writes", quorum.n, quorum.w, quorum.mode, "W")


def _available(what: str, n: int, needed: int, mode: str, letter: str) -> Guarantee:
    spare = n - needed
    owners = f"{spare} of its {n} owner{'s' if n > 1 else ''}"
    if mode == "strict":
        text = (
            f"N-{letter} = {spare}: {what} of a key go on with {owners} gone; with more they stop."
        )
    elif what == "writes":
        text = (
            f"Writes of a key go on with {owners} gone, and with more as long as {needed} healthy "
            "node" + ("s are" if needed > 1 else " is") + " left to take them: stand-ins keep them "
            "for the owners, with hints."
        )
    else:
        text = (
            f"Reads of a key go on with {owners} gone, and with more as far as stand-ins hold the "
            "key; a stand-in without it is no evidence that it does not exist."
        )
    return Guarantee(f"{what}_survive_a_failure", spare > 0 or mode == "sloppy", text)


def _disk_loss(quorum: QuorumConfig) -> Guarantee:
    w = quorum.w
    if w == 1:
        text = (
            "W = 1: an acknowledged write may be on a single disk until the others have it; if "
            "that disk is destroyed before, the write is lost."
        )
    else:
        text = (
            f"An acknowledged write is on {w} disks; it survives {w - 1} of them being destroyed "
            "before the others have caught up."
        )
    return Guarantee("acknowledged_writes_survive_a_lost_disk", w > 1, text)


def _power_loss(quorum: QuorumConfig, durability: str) -> Guarantee:
    if durability == "fsync":
        text = "fsync: an acknowledged write survives kill -9, and a power loss of all machines."
    else:
        text = (
            "os: an acknowledged write survives kill -9 of every node. In a power loss it survives "
            f"while fewer than W = {quorum.w} machines lose power at once."
        )
    return Guarantee("acknowledged_writes_survive_power_loss", durability == "fsync", text)


def _monotonic_reads(quorum: QuorumConfig) -> Guarantee:
    overlapping_reads = 2 * quorum.r > quorum.n or quorum.r + quorum.w > quorum.n
    text = (
        "Two reads in a row may go back in time while a write is under way or its fate is unknown; "
        "get --repair blocking prevents that"
    )
    text += "." if overlapping_reads else ", once R+W > N."
    return Guarantee("monotonic_reads", False, text)
