"""Moving records in and out: load and dump, both streaming.

`load` keeps many requests in flight and never two of one key, so the last line of a key wins.
It goes on past a record that is refused, names it, and says so with its exit code. A request whose
fate is unknown was retried by the client under the same id; if it is still unknown it is reported
as such, since loading the file again is then safe and useful.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer

from kvctl.cli.durations import format_duration
from kvctl.cli.guard import print_error_document
from kvctl.cli.invocation import Invocation, command, command_family, text_to_bytes
from kvctl.cli.progress import Progress
from kvctl.cli.record_lines import (
    LINE_BYTES_MAX,
    Record,
    parse_record,
    read_lines,
    record_document,
)
from kvctl.cli.streams import print_error
from kvctl.errors import ClusterUnreachableError, ExitCode, exit_code_of
from kvctl_node.errors import IndeterminateError, InvalidRequestError, StoreError

if TYPE_CHECKING:
    from kvctl.client import Batch, Pending

app = command_family()

IN_FLIGHT = 256
REFUSALS_NAMED_MAX = 20
"""Further ones are counted: who loads a million wrong lines has one mistake, not a million."""


@command(
    app,
    "load",
    examples=("kvctl load records.jsonl", "kvctl -c a dump | kvctl -c b load"),
    goes_on=True,
)
def load(
    run: Invocation,
    *,
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A file of JSON Lines; - is standard input.")
    ] = "-",
    w: Annotated[
        int | None,
        typer.Option("-w", min=1, help="W of every write: acknowledgements to wait for."),
    ] = None,
    in_flight: Annotated[
        int, typer.Option(min=1, max=4096, help="How many requests are under way at once.")
    ] = IN_FLIGHT,
) -> None:
    """Store records from JSON Lines.

    Lines are {"key","value","enc"}, or {"key","siblings":[...]}, which is restored as siblings.
    Overwrites what is there; of several lines with one key the last wins. A record that is refused
    is named on stderr (after the first 20 they are counted), the rest goes on, and the exit code is
    1; if the worst was a write whose fate is unknown, it is 4.
    """
    with ExitStack() as stack:
        stream, size = _open(file, stack)
        client = stack.enter_context(run.connect())
        wanted = not run.out.quiet and not run.out.is_json
        progress = stack.enter_context(Progress("load", bytes_total=size, wanted=wanted))
        loader = Loader(json=run.out.is_json, w=w)
        began_s = time.monotonic()
        try:
            with client.batch(in_flight, ordered=True) as batch:
                for number, line in read_lines(stream, file):
                    loader.load_line(batch, number, line)
                    progress.advance(len(line or b""))
                    loader.check_reachable()
        except KeyboardInterrupt:
            run.out.note(f"interrupted: {loader.summary(time.monotonic() - began_s)}")
            raise
    loader.check_reachable()
    seconds = time.monotonic() - began_s
    if run.out.is_json:
        run.out.json_line({**loader.counts(), "seconds": round(seconds, 3)})
    run.out.note(loader.summary(seconds))
    if loader.refused:
        raise typer.Exit(int(ExitCode.NO))
    if loader.indeterminate:
        raise typer.Exit(int(ExitCode.INDETERMINATE))


class Loader:
    """Submits records to a batch and counts what became of them."""

    def __init__(self, *, json: bool, w: int | None) -> None:
        self.loaded = 0
        """Records of which every version was acknowledged."""
        self.refused = 0
        self.indeterminate = 0
        self._json = json
        self._w = w
        self._unreachable: ClusterUnreachableError | None = None

    def load_line(self, batch: Batch, number: int, line: bytes | None) -> None:
        """Submit one line (None: it was too long); blocks while too much is in flight."""
        if line is None:
            limit = InvalidRequestError(f"the line is longer than {LINE_BYTES_MAX} bytes.")
            self._refuse(number, "", limit)
            return
        try:
            record = parse_record(line)
        except InvalidRequestError as error:
            self._refuse(number, getattr(error, "key", ""), error)
            return
        self._submit(batch, number, record)

    def _submit(self, batch: Batch, number: int, record: Record) -> None:
        if len(record.versions) > 1:
            # All or none: the first version supersedes siblings that a refused one should join.
            try:
                for value in record.versions:
                    batch.check(record.key, value)
                batch.check_siblings(record.versions)
            except InvalidRequestError as error:
                self._refuse(number, record.key, error)
                return
        fate = _Fate(waiting=len(record.versions))
        on_done = partial(self._on_done, number, record.key, fate)
        for place, value in enumerate(record.versions):
            blind = place > 0  # the first supersedes what is there, the others join it
            try:
                if value is None:
                    batch.delete(record.key, blind=blind, w=self._w, on_done=on_done)
                else:
                    batch.put(record.key, value, blind=blind, w=self._w, on_done=on_done)
            except InvalidRequestError as error:  # over a limit: nothing was sent
                fate.failed = True
                self._refuse(number, record.key, error)
                return

    def _on_done(self, number: int, key: str, fate: _Fate, pending: Pending) -> None:
        fate.waiting -= 1
        error = pending.error
        if error is not None and not fate.failed:
            fate.failed = True
            self._refuse(number, key, error)
        if not fate.waiting and not fate.failed:
            self.loaded += 1

    def _refuse(self, number: int, key: str, error: StoreError) -> None:
        if isinstance(error, ClusterUnreachableError):
            self._unreachable = error
        if isinstance(error, IndeterminateError):
            self.indeterminate += 1
        else:
            self.refused += 1
        if self.refused + self.indeterminate > REFUSALS_NAMED_MAX:
            return
        if not self._json:
            named = f" ({key})" if key else ""
            print_error(f"line {number}{named}: {error.message}")
            return
        document = {
            "code": int(exit_code_of(error)),
            "kind": error.kind,
            "message": error.message,
            "hint": error.hint,
            "line": number,
            "key": key,
        }
        print_error_document({"error": document})

    def check_reachable(self) -> None:
        """Raises `ClusterUnreachableError` once no node answers any more: going on is no use."""
        if self._unreachable is not None:
            raise self._unreachable

    def counts(self) -> dict[str, int]:
        """What became of the records."""
        return {
            "loaded": self.loaded,
            "refused": self.refused,
            "indeterminate": self.indeterminate,
        }

    def summary(self, seconds: float) -> str:
        """The same as a sentence."""
        parts = [f"{self.loaded} records loaded in {format_duration(max(seconds, 0.001))}"]
        if self.refused:
            parts.append(f"{self.refused} refused")
        if self.indeterminate:
            parts.append(f"{self.indeterminate} may or may not have been stored: load them again")
        unnamed = self.refused + self.indeterminate - REFUSALS_NAMED_MAX
        if unnamed > 0:
            parts.append(f"of which {unnamed} are not named")
        return ", ".join(parts) + "."


class _Fate:
    """What became of the versions of one record so far."""

    __slots__ = ("failed", "waiting")

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        self.failed = False


def _open(file: str, stack: ExitStack) -> tuple[IO[bytes], int | None]:
    """The stream to read and its size, if it has one."""
    if file == "-":
        if sys.stdin.isatty():
            raise InvalidRequestError(
                "there is nothing to load.", hint="name a file, or pipe JSON Lines in."
            )
        return sys.stdin.buffer, None
    path = Path(file)
    try:
        stream = stack.enter_context(path.open("rb"))
    except OSError as error:
        raise InvalidRequestError(f"cannot read {file}: {error.strerror}.") from error
    return stream, path.stat().st_size if path.is_file() else None


@command(app, "dump", examples=("kvctl dump > all.jsonl", "kvctl dump user: | gzip > users.gz"))
def dump(
    run: Invocation,
    *,
    prefix: Annotated[
        str, typer.Argument(metavar="PREFIX", help="Only keys that begin so (default: all).")
    ] = "",
    r: Annotated[
        int | None, typer.Option("-r", min=1, help="R of every read: answers to wait for.")
    ] = None,
) -> None:
    """Write all records as JSON Lines.

    Always JSON Lines, whatever -o says; kvctl load reads them back, siblings included. Streams in
    bounded memory. Deleted keys do not appear. It is no snapshot: a key written meanwhile appears
    with its old or its new value.
    """
    wanted = not run.out.quiet and not run.out.is_terminal
    with run.connect() as client, Progress("dump", bytes_total=None, wanted=wanted) as progress:
        for result in client.scan(text_to_bytes(prefix), r=r):
            if result.found:
                run.out.json_line(record_document(result))
                progress.advance(0)
    run.out.note(f"{progress.records} records written.")
