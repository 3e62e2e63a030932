"""The one place where a failure becomes a sentence, a hint and an exit code.

Whatever a command raises on purpose is a `StoreError` with one plain sentence; this module prints
it to stderr, as text or, with `-o json`, as `{"error": {"code", "kind", "message", "hint"}}`, and
ends the command with the code of `kvctl.errors.exit_code_of`. A traceback is shown only with
`--debug`. A closed stdout ends quietly: whoever closed it has what they wanted (`streams`). Ctrl-C
ends with 130.
"""

from __future__ import annotations

import errno
from collections.abc import Callable
from difflib import get_close_matches

import msgspec
import typer

from kvctl.cli.streams import ReaderGoneError, print_error, print_error_lines
from kvctl.errors import ExitCode, exit_code_of
from kvctl.text.escaping import printable, printable_json
from kvctl_node.errors import StoreError

# Recent versions of Typer carry their own copy of click under a private name; the public class
# leads to its base in old and new ones.
USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]
COMMAND_LINE_ERROR: type[Exception] = typer.BadParameter.__mro__[2]


def run_guarded(
    command: Callable[[], None], *, json: bool, debug: bool, cluster: str | None = None
) -> None:
    """Run a command's body; on failure report it and raise `typer.Exit` with its exit code.

    `cluster` is the one that was named with `-c`: shown commands name it, too.
    """
    try:
        command()
    except StoreError as error:
        report(error, json=json, debug=debug, cluster=cluster)
        raise typer.Exit(int(exit_code_of(error))) from error
    except KeyboardInterrupt as error:
        raise typer.Exit(int(ExitCode.INTERRUPTED)) from error
    except ReaderGoneError as error:
        raise typer.Exit(int(ExitCode.DONE)) from error
    except BrokenPipeError as error:  # some other pipe than stdout: it is no way to end well
        raise typer.Exit(report_system(error, json=json, debug=debug)) from error


def report(error: StoreError, *, json: bool, debug: bool, cluster: str | None = None) -> None:
    """Print one of our own errors to stderr."""
    if debug:
        _print_traceback(error)
    code, hint = int(exit_code_of(error)), shown_hint(error.hint, cluster)
    print_failure(code, error.kind, error.message, hint, json=json)


def shown_hint(hint: str, cluster: str | None) -> str:
    """A hint whose commands name the cluster that this command was told with `-c`."""
    if not hint or cluster is None:
        return hint
    from kvctl.cli.app import COMMANDS
    from kvctl.text.shown_commands import for_cluster

    return for_cluster(hint, cluster, list(COMMANDS))


def print_failure(code: int, kind: str, message: str, hint: str, *, json: bool) -> None:
    """The form every failure has."""
    if json:
        message, hint = printable(message), printable(hint)
        print_error_document(
            {"error": {"code": code, "kind": kind, "message": message, "hint": hint}}
        )
        return
    print_error(f"error: {message}")
    if hint:
        print_error(f"hint: {hint}")


def report_usage(error: Exception, *, json: bool) -> int:
    """Print what Typer has to say about the arguments; returns the exit code."""
    message = sentence(_message_of(error))
    print_failure(int(ExitCode.USAGE), "usage", message, _usage_hint(error), json=json)
    return int(ExitCode.USAGE)


def report_defect(error: Exception, *, json: bool, debug: bool) -> int:
    """Print what nobody foresaw, and how to find out more; returns the exit code."""
    if debug:
        _print_traceback(error)
    message = sentence(f"kvctl itself failed: {type(error).__name__}: {error}")
    hint = "" if debug else "the same command with --debug shows where."
    print_failure(int(ExitCode.NO), "defect", message, hint, json=json)
    return int(ExitCode.NO)


_FULL = "free some disk space, then try again; what was acknowledged is not lost."
_HINTS = {
    errno.ENOSPC: _FULL,
    errno.EDQUOT: _FULL,
    errno.EROFS: "make the file system writable, or set KVCTL_HOME to a directory on another one.",
}


def report_system(error: OSError, *, json: bool, debug: bool) -> int:
    """Print what the system refused, and over what; returns the exit code."""
    if debug:
        _print_traceback(error)
    about = f"{error.filename}: " if error.filename else ""
    message = sentence(f"the system refused: {about}{error.strerror or error}")
    hint = _HINTS.get(error.errno or 0, "")
    print_failure(int(ExitCode.NO), "system", message, hint, json=json)
    return int(ExitCode.NO)


def print_error_document(document: object) -> None:
    """A JSON document on a line of stderr."""
    print_error(printable_json(msgspec.json.encode(document).decode()))


def _print_traceback(error: BaseException) -> None:
    import traceback

    print_error_lines("".join(traceback.format_exception(error)))


def sentence(text: str) -> str:
    """The text as one sentence: one line, lower case at the start, a full stop at the end."""
    text = " ".join(text.split())
    if text[:1].isupper() and not text[:2].isupper():
        text = text[0].lower() + text[1:]
    return text if text.endswith((".", "!", "?")) else text + "."


def did_you_mean(wrong: str, known: list[str]) -> str:
    """`did you mean put?`, or "" when nothing known is close."""
    matches = get_close_matches(wrong, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(matches)}?" if matches else ""


def wants_json(arguments: list[str]) -> bool:
    """Whether the command line asks for JSON, told without parsing it: it may be what is wrong."""
    for place, argument in enumerate(arguments):
        if argument == "--":
            return False
        if argument in ("-o", "--output"):
            following = arguments[place + 1 : place + 2]
            if following and following[0] in ("json", "jsonl"):
                return True
        elif argument in ("-ojson", "-ojsonl", "--output=json", "--output=jsonl"):
            return True
    return False


def _message_of(error: Exception) -> str:
    option = getattr(error, "option_name", None)
    if option is not None and hasattr(error, "possibilities"):
        return f"there is no option {option}"
    formatted = getattr(error, "format_message", None)
    message = str(formatted()) if callable(formatted) else str(error)
    return message.replace("Value error, ", "")  # how pydantic, below Typer, introduces a sentence


def _usage_hint(error: Exception) -> str:
    possibilities = getattr(error, "possibilities", None)
    if possibilities:
        return f"did you mean {' or '.join(sorted(possibilities))}?"
    hint = getattr(error, "hint", "")
    if hint:
        return str(hint)
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "kvctl"
    return f"{path} --help shows how it is used."
