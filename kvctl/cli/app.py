"""`kvctl` itself: the table of commands, loaded one at a time, and the way into the process.

Importing every command to run one would cost each `kvctl get` the imports of all the others. So
the table below names the module each command lives in, together with the one-line summary that
`kvctl --help` shows; a test holds the summaries to the commands' own.
"""

from __future__ import annotations

import os
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
import typer.main

from kvctl.cli.guard import (
    COMMAND_LINE_ERROR,
    USAGE_ERROR,
    did_you_mean,
    report_defect,
    report_system,
    report_usage,
    wants_json,
)
from kvctl.cli.invocation import group_callback
from kvctl.cli.quick_parameters import QuickGroup
from kvctl.cli.streams import print_error_lines, silence_stdout
from kvctl.errors import ExitCode

if TYPE_CHECKING:
    from collections.abc import Sequence

COMPLETION_VARIABLE = "_KVCTL_COMPLETE"


class Entry(NamedTuple):
    """Where a command lives."""

    module: str
    summary: str
    is_group: bool = False
    """True if the module's whole app is the command, with commands of its own."""


SECTIONS: dict[str, dict[str, Entry]] = {
    "Clusters": {
        "up": Entry("lifecycle", "Start a cluster, making it first if there is none."),
        "down": Entry("lifecycle", "Stop a cluster; its data stays unless --purge."),
        "ls": Entry("lifecycle", "List the clusters on this machine."),
        "doctor": Entry("lifecycle", "Find what is left over or damaged, and mend it with --fix."),
        "config": Entry("config", "Check, show, change and explain settings.", is_group=True),
    },
    "Nodes": {
        "status": Entry("status", "Show the facts about every node: process, socket, answer."),
        "start": Entry("nodes", "Start nodes and wait until they serve."),
        "stop": Entry("nodes", "Stop nodes cleanly."),
        "restart": Entry("nodes", "Stop nodes cleanly and start them again."),
        "kill": Entry("nodes", "Kill nodes at once (SIGKILL)."),
        "pause": Entry("nodes", "Freeze nodes (SIGSTOP): there, but silent."),
        "resume": Entry("nodes", "Let paused nodes go on (SIGCONT)."),
        "wipe": Entry("nodes", "Destroy the disks of nodes; they start again empty."),
    },
    "Data": {
        "put": Entry("data", "Store a value under a key."),
        "get": Entry("data", "Print the value of a key."),
        "del": Entry("data", "Delete a key."),
        "scan": Entry("data", "List keys and values, by prefix."),
        "conflicts": Entry("conflicts", "List the keys that have siblings."),
        "resolve": Entry("conflicts", "Replace the siblings of a key by one value."),
        "load": Entry("transfer", "Store records from JSON Lines."),
        "dump": Entry("transfer", "Write all records as JSON Lines."),
    },
    "Network": {
        "partition": Entry("faults", "Cut the network between groups of nodes."),
        "isolate": Entry("faults", "Cut a node off from all others, or only one direction."),
        "link": Entry("faults", "Make single links slow, lossy or dead, each way by itself."),
        "faults": Entry("faults", "List the active faults and how many messages each hit."),
        "heal": Entry("faults", "Lift injected faults, all or one."),
    },
    "Replication": {
        "hints": Entry("replication", "Show the writes kept for nodes that could not be reached."),
        "handoff": Entry("replication", "Push the hints home now, and wait until none is left."),
        "merkle": Entry("replication", "Compare two nodes by their Merkle trees; changes nothing."),
        "repair": Entry(
            "replication",
            "Compare Merkle trees and merge what differs, both ways.",
        ),
    },
    "Insight": {
        "dashboard": Entry(
            "dashboard", "Watch the cluster on a screen of its own, and break it by key."
        ),
        "ring": Entry("ring", "Show who owns how much of the ring."),
        "where": Entry("ring", "Show which nodes own a key, and who stands in for them."),
        "gossip": Entry("gossip", "Show what each node believes of each other."),
        "wait": Entry("gossip", "Wait until something is true of the cluster."),
        "logs": Entry("logs", "Print the nodes' logs, merged by time."),
        "events": Entry("logs", "Print what happened inside the nodes, merged by time."),
        "metrics": Entry("metrics", "Print figures of all nodes as OpenMetrics text."),
        "bench": Entry("bench", "Measure throughput and latency, and verify what is read."),
    },
    "Demos": {
        "demo": Entry("demo", "Play a guided failure demo; without a name, list them."),
        "run": Entry("demo", "Play a scenario file."),
    },
    "Shell": {
        "completion": Entry(
            "completion", "Set up completion for bash, zsh or fish.", is_group=True
        ),
    },
}
COMMANDS: dict[str, Entry] = {
    name: entry for section in SECTIONS.values() for name, entry in section.items()
}


class LazyGroup(QuickGroup):
    """A group that knows its commands by name and imports one when it is asked for it."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        if cmd_name not in self.commands:
            app = import_module(f"kvctl.cli.{entry.module}").app
            group = typer.main.get_group(app)
            group.name = cmd_name
            self.commands[cmd_name] = group if entry.is_group else group.commands[cmd_name]
        return self.commands[cmd_name]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        name = args[0]
        if name not in COMMANDS and not name.startswith("-") and not ctx.resilient_parsing:
            error = USAGE_ERROR(f"there is no command {name!r}.", ctx)
            vars(error)["hint"] = (
                did_you_mean(name, list(COMMANDS)) or "kvctl --help lists the commands."
            )
            raise error
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        for title, section in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(name, entry.summary) for name, entry in section.items()])


app = typer.Typer(
    name="kvctl",
    cls=LazyGroup,
    help="Run, see and break a leaderless, Dynamo-style key-value store on your own machine.",
    epilog="\b\nTwo commands to begin with:\n  kvctl up\n  kvctl put greeting hello\n"
    "\nkvctl COMMAND --help explains a command. State lives in KVCTL_HOME.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(group_callback())


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command line (default: `sys.argv`); returns the exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if COMPLETION_VARIABLE in os.environ:
        return _complete(given)
    json = wants_json(given)
    try:
        code = typer.main.get_command(app).main(
            given,
            prog_name="kvctl",
            complete_var=COMPLETION_VARIABLE,
            standalone_mode=False,
        )
        sys.stdout.flush()
    except COMMAND_LINE_ERROR as error:
        if type(error).__name__ == "NoArgsIsHelpError":
            print_error_lines(str(error))
            return int(ExitCode.USAGE)
        return report_usage(error, json=json)
    except (KeyboardInterrupt, typer.Abort):
        return int(ExitCode.INTERRUPTED)
    except BrokenPipeError:
        silence_stdout()
        return int(ExitCode.DONE)
    except OSError as error:
        if error.filename is None:
            silence_stdout()  # that is what refused, and what is left in its buffer would again
        return report_system(error, json=json, debug="--debug" in given)
    except Exception as error:  # noqa: BLE001 - the top of the process: nothing is above
        return report_defect(error, json=json, debug="--debug" in given)
    return code if isinstance(code, int) else int(ExitCode.DONE)


def _complete(arguments: list[str]) -> int:
    """Answer a shell that asks what fits: at every press of the tab key, in the middle of a line.

    There is no place for complaints, so whatever fails completes to nothing. The command itself
    will say what is wrong.
    """
    from typer._completion_classes import completion_init

    completion_init()
    try:
        typer.main.get_command(app).main(
            arguments, prog_name="kvctl", complete_var=COMPLETION_VARIABLE, standalone_mode=False
        )
        sys.stdout.flush()
    except Exception:  # noqa: BLE001 - said by the command itself, when it is run
        return int(ExitCode.NO)
    return int(ExitCode.DONE)
