"""Setting and lifting the faults of one node: by command, by file, and by the clock.

    kvctl ──fault_set, fault_lift──▶ FaultControl ──▶ LinkFaults (what they do)
                                        │    ▲
                            writes      ▼    │ looks, once a second
                                      faults.json ◀── kvctl, while the node does not answer
    wall clock ──expires_ms──▶ lifted

`faults.json` in the node's directory is what is in force, at any time: written before a command is
answered, read at the start, and looked at now and then while the node runs. So faults outlive a
`kill -9`; a node that is down or paused can be given a fault or be healed all the same; and there
is no fault that deleting the file would not lift.

Faults are a tool for experiments, not data: a damaged file is put aside with a warning, and the
node serves without faults.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec

from kvctl_node.admin import AdminCommands, text_argument
from kvctl_node.errors import InvalidRequestError, StorageError
from kvctl_node.ports import Instant
from kvctl_node.protocol.link_fault import (
    FAULTS_FILE_NAME,
    LinkFault,
    decode_faults,
    encode_faults,
    parse_fault,
)
from kvctl_node.runtime.link_faults import LinkFaults

LOOK_INTERVAL_S = 1.0

logger = logging.getLogger(__name__)

Stamp = tuple[int, int, int] | None
"""What tells one version of the file from another; None: there is none."""


class FaultControl:
    """The faults in force at one node, kept in its directory."""

    def __init__(
        self, faults: LinkFaults, node: str, home: Path, *, record: Callable[..., None]
    ) -> None:
        """`record(kind, **fields)` takes events. Nothing is in force before `load`."""
        self._faults = faults
        self._node = node
        self._path = home / FAULTS_FILE_NAME
        self._record = record
        self._stamp: Stamp = None
        self._look_s = 0.0

    # ------------------------------------------------------------ commands

    def register(self, admin: AdminCommands) -> None:
        """Offer `fault_set`, `fault_lift` and `faults`."""
        admin.register("fault_set", self.on_set_command)
        admin.register("fault_lift", self.on_lift_command)
        admin.register("faults", self.on_list_command)

    def on_set_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """A `LinkFault` as plain data: in force and on disk when answered.

        Raises `InvalidRequestError`, or `StorageError` if it cannot be kept.
        """
        fault = parse_fault(arguments).at(self._node)
        if not fault.links:
            raise InvalidRequestError(f"the fault {fault.id} has no link from or to {self._node}.")
        before = self._faults.find(fault.id)
        self._faults.set(fault)
        try:
            self._save()
        except OSError as error:
            self._faults.lift(fault.id)
            if before is not None:
                self._faults.set(before)
            raise StorageError(f"{self._path.name} cannot be written: {error.strerror}.") from error
        self._tell_set(fault)
        return self._documents([fault], "faults")

    def on_lift_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """`{"id": ...}`, or without an id all: lifted when answered, with the last hits.

        Raises `StorageError` if they would be back after a restart.
        """
        wanted = text_argument(arguments, "id", "")
        ids = [wanted] if wanted else [fault.id for fault in self._faults.reports()]
        lifted = self._lift(ids, "command")
        try:
            self._save()
        except OSError as error:
            raise StorageError(
                f"{self._path.name} cannot be written: {error.strerror}.",
                hint="the faults are lifted, and would be back after a restart.",
            ) from error
        return self._documents(lifted, "lifted")

    def on_list_command(self, arguments: dict[str, Any], now: Instant) -> dict[str, Any]:
        """Every fault in force and its hits at this node."""
        return self._documents(self._faults.reports(), "faults")

    def _documents(self, faults: Iterable[LinkFault], word: str) -> dict[str, Any]:
        return {word: [msgspec.to_builtins(fault) for fault in faults]}

    # ------------------------------------------------------------ time

    def on_tick(self, now: Instant) -> None:
        """Follow the file, and lift what has expired."""
        if now.monotonic_s >= self._look_s:
            self._look_s = now.monotonic_s + LOOK_INTERVAL_S
            if _stamp_of(self._path) != self._stamp:
                self.load()
        if self._faults.active:
            expired = self._faults.expired(now.wall_ms)
            if expired:
                self._lift(expired, "expired")
                self._save_if_possible()

    def next_wakeup_s(self, now: Instant) -> float | None:
        """Seconds until a fault expires, None if none does."""
        expiry_ms = self._faults.next_expiry_ms() if self._faults.active else None
        return None if expiry_ms is None else (expiry_ms - now.wall_ms) / 1000

    # ------------------------------------------------------------ the file

    def load(self) -> None:
        """Put in force what the file says, and nothing else."""
        self._stamp = _stamp_of(self._path)
        wanted = {fault.id: fault.at(self._node) for fault in self._read()}
        known = {fault.id: fault for fault in self._faults.reports()}
        self._lift([one for one in known if one not in wanted], "file")
        for fault_id, fault in wanted.items():
            before = known.get(fault_id)
            if fault.links and not _same(before, fault):
                self._set_from_file(fault)

    def _set_from_file(self, fault: LinkFault) -> None:
        try:
            self._faults.set(fault)
        except InvalidRequestError as error:
            logger.warning("the fault %s is ignored: %s", fault.id, error.message)
        else:
            self._tell_set(fault)

    def _read(self) -> tuple[LinkFault, ...]:
        try:
            return decode_faults(self._path.read_bytes())
        except FileNotFoundError:
            return ()
        except OSError as error:
            logger.warning("%s cannot be read: %s", self._path.name, error.strerror)
            return ()
        except InvalidRequestError as error:
            aside = self._path.with_suffix(".damaged")
            logger.warning("%s is put aside as %s: %s", self._path.name, aside.name, error.message)
            self._path.replace(aside)
            self._stamp = None
            return ()

    def _save(self) -> None:
        """Replace the file atomically; no faults, no file. Raises `OSError`."""
        faults = self._faults.reports()
        if not faults:
            self._path.unlink(missing_ok=True)
        else:
            draft = self._path.with_name(f".{self._path.name}.node")
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(encode_faults(faults))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
        self._stamp = _stamp_of(self._path)

    def _save_if_possible(self) -> None:
        try:
            self._save()
        except OSError as error:
            # What the file still says has expired, so it does no harm.
            logger.warning("%s cannot be written: %s", self._path.name, error.strerror)

    def close(self) -> None:
        """Keep the hits counted since the last change."""
        if self._faults.active and _stamp_of(self._path) == self._stamp:
            self._save_if_possible()

    # ------------------------------------------------------------ telling

    def _lift(self, ids: Iterable[str], reason: str) -> list[LinkFault]:
        """Lift those that are in force, and tell."""
        lifted = [fault for one in ids if (fault := self._faults.lift(one)) is not None]
        for fault in lifted:
            self._record(
                "fault_lifted", fault=fault.id, fault_kind=fault.kind, hits=fault.hits, by=reason
            )
            logger.info("fault %s (%s) is lifted: %s", fault.id, fault.kind, reason)
        return lifted

    def _tell_set(self, fault: LinkFault) -> None:
        self._record(
            "fault_set",
            fault=fault.id,
            fault_kind=fault.kind,
            links=[f"{sender}>{receiver}" for sender, receiver in fault.links],
            expires_ms=fault.expires_ms,
        )
        logger.info("fault %s (%s) is set on %d links", fault.id, fault.kind, len(fault.links))


def _stamp_of(path: Path) -> Stamp:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino, found.st_size


def _same(one: LinkFault | None, other: LinkFault) -> bool:
    """Whether both do the same, whatever they have hit so far."""
    return one is not None and msgspec.structs.replace(one, hits=0) == msgspec.structs.replace(
        other, hits=0
    )
