r"""Commands that are shown to be pasted: in hints, notes and findings.

A shown command does what the sentence around it says. So a key in it is quoted (`escaping.quoted`),
one that begins with a dash stands behind `--`, and where the command that is running was told its
cluster with `-c`, so is the one that it shows: without it, it would go to another cluster.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from kvctl.text.escaping import command

CLUSTERLESS = frozenset({"ls", "doctor", "demo", "run", "completion"})
"""Commands that are about no single cluster, or about one of their own."""

_QUOTED_OR_COMMAND = re.compile(
    r"""  \$'(?:[^'\\]|\\.)*' | '[^']*' | "[^"]*"     # words that hold a key, whatever it says
        | (?<![\w/.=-])kvctl\ (?=(?P<name>[a-z]+)\b)
    """,
    re.VERBOSE,
)


def kvctl_command(name: str, *operands: str, options: Sequence[str] = ()) -> str:
    """`kvctl NAME OPERANDS OPTIONS`, quoted; `--` goes before operands that look like options."""
    if any(operand.startswith("-") for operand in operands):
        return command("kvctl", name, *options, "--", *operands)
    return command("kvctl", name, *operands, *options)


def for_cluster(text: str, cluster: str | None, known: Sequence[str]) -> str:
    """The text with `-c CLUSTER` in each of its commands; as it is if no cluster was named.

    `known` are the names of all commands: `kvctl keeps it` is prose. A command that names a cluster
    itself is left alone.
    """
    if cluster is None:
        return text

    def named(match: re.Match[str]) -> str:
        name = match["name"]
        if name is None or name in CLUSTERLESS or name not in known:
            return match[0]
        return command("kvctl", "-c", cluster) + " "

    return _QUOTED_OR_COMMAND.sub(named, text)
