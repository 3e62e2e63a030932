"""`python -m kvctl_node`: the one place where a node's parts are put together.

    python -m kvctl_node --directory CLUSTER_DIR --name n1 --nonce HEX
                         [--cluster-id HEX] [--known-generation G] [--known-actor-epoch E]

    CLUSTER_DIR/cluster.json        the cluster's configuration
    CLUSTER_DIR/keys/               CURVE keys (`kvctl_node.runtime.security`)
    CLUSTER_DIR/nodes/n1/           data, disk.mark, lock, node.log, events.jsonl, exit.json,
                                    faults.json

The nonce is handed out with every status, so that whoever started this process can tell it from
another that was given its pid later. The cluster id says whose process it is, whatever lies in the
directory by now. The known generation and actor epoch are what the cluster remembers of this name;
a disk that knows less was wiped or restored from an old copy.

A node that cannot go on says why in one sentence, on stderr and in `exit.json`, and ends with a
code of its own (sysexits.h has all but the first): 2 configuration, 70 a bug, 71 the system allows
too few open files, 73 the data directory cannot be used, 74 storage, 75 a port is taken. A start
removes the `exit.json` of the one before.
"""

from __future__ import annotations

import argparse
import logging
import os
import random
import sys
import traceback
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from pathlib import Path

import msgspec

from kvctl_node.config import ClusterConfig, load_config
from kvctl_node.errors import (
    ConfigError,
    CorruptRecordError,
    DataDirectoryError,
    DataFormatError,
    DirectoryGoneError,
    OpenFilesError,
    StorageError,
    StoreError,
)
from kvctl_node.identity import NodeIdentity, open_identity
from kvctl_node.node import Node
from kvctl_node.runtime.boot_id import read_boot_id
from kvctl_node.runtime.curve_sockets import PortTakenError
from kvctl_node.runtime.directory_watch import DirectoryWatch
from kvctl_node.runtime.event_log import EventLog
from kvctl_node.runtime.event_loop import EventLoop
from kvctl_node.runtime.fault_control import FaultControl
from kvctl_node.runtime.link_faults import LinkFaults
from kvctl_node.runtime.node_log import close_node_log, open_node_log
from kvctl_node.runtime.open_files import check_hard_limit, node_files, raise_soft_limit
from kvctl_node.runtime.stop_signal import StopSignal
from kvctl_node.runtime.system_clock import SystemClock
from kvctl_node.runtime.zmq_transport import ZmqTransport
from kvctl_node.storage.engine import SqliteStorageEngine

EXIT_CONFIG = 2
EXIT_BUG = 70
EXIT_OPEN_FILES = 71
EXIT_DATA_DIRECTORY = 73
EXIT_STORAGE = 74
EXIT_PORT_TAKEN = 75
EXIT_FILE_NAME = "exit.json"
EXIT_ROOM_FILE_NAME = "exit.room"
EXIT_ROOM_BYTES = 4096

logger = logging.getLogger("kvctl_node.main")


class ExitRecord(msgspec.Struct, frozen=True):
    """Why a node ended, as kept in `exit.json`. `nonce` says which process wrote it."""

    code: int
    kind: str
    message: str
    hint: str
    at_ms: int
    nonce: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a node until it is told to stop; returns the exit code."""
    options = _parse(arguments)
    try:
        _serve(options)
    except StoreError as error:
        return _report(options, error, _exit_code(error))
    except Exception as error:  # noqa: BLE001
        # The top of the process: a bug leaves its trace, and a sentence like everything else.
        traceback.print_exception(error)
        bug = StoreError(
            f"{options.name} ended by an internal error: {type(error).__name__}: {error}.",
            hint="the traceback is on its stderr.",
        )
        return _report(options, bug, EXIT_BUG)
    return 0


def _serve(options: argparse.Namespace) -> None:
    """Open everything, run the loop, and close everything in reverse order."""
    config = load_config(options.directory / "cluster.json")
    config.node(options.name)
    if options.cluster_id not in ("", config.cluster_id):
        raise ConfigError(f"{options.directory} holds another cluster than {options.name} is of.")
    needed = node_files(config).total
    check_hard_limit(needed, options.name)
    raise_soft_limit(needed)
    home = _prepare_directory(_home(options))
    clock = SystemClock()
    with ExitStack() as resources:
        stop = resources.enter_context(StopSignal())
        storage = SqliteStorageEngine.open(home, config.storage, partitions=config.partitions)
        resources.callback(storage.close)
        # Only now, holding the directory's lock, are the files in it ours to touch.
        (home / EXIT_FILE_NAME).unlink(missing_ok=True)
        _set_room_aside(home)
        resources.callback(close_node_log, open_node_log(home))
        faults = LinkFaults(options.name, random.Random())
        transport = ZmqTransport(config, options.name, options.directory / "keys", clock, faults)
        resources.callback(transport.close)
        identity = _open_identity(options, config, storage)
        node = Node(config, identity, storage, random.Random())
        journal = EventLog(
            home, node=identity.name, generation=identity.generation, publish=transport.publish
        )
        resources.callback(journal.close)
        fault_control = FaultControl(faults, options.name, home, record=node.outbox.record)
        fault_control.load()
        fault_control.register(node.admin)
        resources.callback(fault_control.close)
        timed = (DirectoryWatch(storage.check_directory), fault_control, transport)
        loop = EventLoop(node, storage, transport, journal, clock, timed)
        node.runtime_stats = loop.stats
        logger.info(
            "%s serves: pid %d, generation %d", identity.name, identity.pid, identity.generation
        )
        _run(options, loop, storage, stop)


def _run(
    options: argparse.Namespace, loop: EventLoop, storage: SqliteStorageEngine, stop: StopSignal
) -> None:
    """Run the loop; a storage failure is logged here, while the log is still open."""
    try:
        loop.run(stop)
        storage.check_directory()  # before anything in it is closed
    except DirectoryGoneError as error:
        logger.critical("%s", error.message)
        _tell(options, error.message, error.hint)
        sys.stderr.flush()
        # Nothing is closed: SQLite would delete its log by name, which may be another node's now.
        os._exit(EXIT_DATA_DIRECTORY)
    except StorageError as error:
        logger.critical("storage failed, nothing of this turn was sent: %s", error.message)
        raise


def _open_identity(
    options: argparse.Namespace, config: ClusterConfig, storage: SqliteStorageEngine
) -> NodeIdentity:
    """Who this node is, from its disk and from what is remembered of it elsewhere."""
    return open_identity(
        storage,
        cluster_id=config.cluster_id,
        former_clusters=config.former_clusters,
        name=options.name,
        durability=config.storage.durability,
        boot_id=read_boot_id(),
        fresh_uuid=os.urandom(16).hex(),
        known_generation=options.known_generation,
        known_actor_epoch=options.known_actor_epoch,
        disk_doubt=storage.disk_doubt,
        nonce=options.nonce,
        pid=os.getpid(),
    )


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m kvctl_node", description="Run one node.")
    parser.add_argument("--directory", type=Path, required=True, help="the cluster's directory")
    parser.add_argument("--name", required=True, help="the node's name in cluster.json")
    parser.add_argument("--nonce", required=True, help="tells this process from any other")
    parser.add_argument("--cluster-id", default="", help="the cluster the node is started for")
    parser.add_argument("--known-generation", type=int, default=0)
    parser.add_argument("--known-actor-epoch", type=int, default=0)
    return parser.parse_args(arguments)


def _home(options: argparse.Namespace) -> Path:
    """The node's own directory."""
    return Path(options.directory) / "nodes" / str(options.name)


def _prepare_directory(home: Path) -> Path:
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DataDirectoryError(f"cannot create {home}: {error.strerror}.") from error
    return home


def _exit_code(error: StoreError) -> int:
    """The process's exit code for an expected error."""
    if isinstance(error, ConfigError):
        return EXIT_CONFIG
    if isinstance(error, OpenFilesError):
        return EXIT_OPEN_FILES
    if isinstance(error, DataDirectoryError):
        return EXIT_DATA_DIRECTORY
    if isinstance(error, PortTakenError):
        return EXIT_PORT_TAKEN
    return EXIT_STORAGE


def _way_out(name: str, error: StoreError) -> str:
    """What to do about it. Only here is it known which node the storage belongs to."""
    wipe = f"`kvctl wipe {name}` deletes what the node holds, and its peers rebuild it."
    if isinstance(error, CorruptRecordError):
        return wipe
    if isinstance(error, DataFormatError):
        return f"{error.hint} If the file is damaged, {wipe}"
    return error.hint


def _report(options: argparse.Namespace, error: StoreError, code: int) -> int:
    """Say why the node ends, to whoever watches now and to whoever asks later."""
    # Whoever reads it may have several clusters, each with a node of this name.
    tool = "kvctl"
    hint = _way_out(options.name, error)
    hint = hint.replace(f"`{tool} ", f"`{tool} -c {options.directory.name} ")
    _tell(options, error.message, hint)
    record = ExitRecord(
        code=code,
        kind=error.kind,
        message=error.message,
        hint=hint,
        at_ms=SystemClock().now().wall_ms,
        nonce=options.nonce,
    )
    home = _home(options)
    if home.is_dir():
        try:
            _leave_note(home, msgspec.json.encode(record))
        except OSError as failure:
            _tell(options, f"could not write {EXIT_FILE_NAME}: {failure.strerror}.", "")
    return code


def _leave_note(home: Path, note: bytes) -> None:
    """Write `exit.json`; on a full disk, into the room that was set aside for it."""
    draft = home / f"{EXIT_FILE_NAME}.{os.getpid()}"
    try:
        draft.write_bytes(note)
    except OSError:
        draft.unlink(missing_ok=True)
        draft = home / EXIT_ROOM_FILE_NAME
        with draft.open("r+b") as room:
            room.write(note.ljust(EXIT_ROOM_BYTES))
    draft.replace(home / EXIT_FILE_NAME)


def _set_room_aside(home: Path) -> None:
    """Keep some bytes of the disk for the last words of a node that ends because it is full."""
    room = home / EXIT_ROOM_FILE_NAME
    if not room.exists() or room.stat().st_size != EXIT_ROOM_BYTES:
        room.write_bytes(bytes(EXIT_ROOM_BYTES))


def _tell(options: argparse.Namespace, message: str, hint: str) -> None:
    # Its stderr is a file: on a full disk it takes nothing, and that is what there is to tell.
    with suppress(OSError):
        print(f"node {options.name}: {message}", file=sys.stderr, flush=True)  # noqa: T201
        if hint:
            print(f"hint: {hint}", file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    sys.exit(main())
