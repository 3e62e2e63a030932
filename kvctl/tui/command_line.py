"""The command line of the dashboard: `:` and a command, named as on the shell.

    :kill n2     :config set r=1 w=3     :partition n1,n2 n3,n4     :where user:1     :nodes

What changes the cluster becomes a `Deed`, what only looks becomes a `Show`. A leading `kvctl` may
be typed or left out.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from difflib import get_close_matches
from typing import NamedTuple

from kvctl.cluster.fault_links import described_links
from kvctl.text.shell_words import words_of
from kvctl.tui import deeds, replica_deeds
from kvctl.tui.deeds import Deed
from kvctl.view.state import ClusterView
from kvctl_node.errors import InvalidRequestError


class Show(NamedTuple):
    """Look at something: `page` by its name, a `key`'s way, `help`, or leave (`quit`)."""

    what: str
    subject: str = ""


class Command(NamedTuple):
    """One command of the dashboard."""

    usage: str
    summary: str
    parse: Callable[[Sequence[str], ClusterView], list[Deed] | Show]


def _for_each_node(
    make: Callable[[str], Deed],
) -> Callable[[Sequence[str], ClusterView], list[Deed]]:
    def parse(words: Sequence[str], view: ClusterView) -> list[Deed]:
        return [make(node) for node in _nodes(words, view)]

    return parse


def _nodes(words: Sequence[str], view: ClusterView) -> list[str]:
    """The names in these words, checked; commas work, too."""
    names = [name for word in words for name in word.split(",") if name]
    if not names:
        raise InvalidRequestError("name a node.", hint=f"the nodes are {', '.join(view.nodes)}.")
    for name in names:
        if name not in view.nodes:
            raise InvalidRequestError(
                f"there is no node {name!r}.", hint=f"the nodes are {', '.join(view.nodes)}."
            )
    return list(dict.fromkeys(names))


def _partition(words: Sequence[str], view: ClusterView) -> list[Deed]:
    if not words:
        raise InvalidRequestError("name the groups.", hint="partition n1,n2 n3,n4")
    groups = [_nodes([word], view) for word in words]
    return [deeds.partition(groups, tuple(view.nodes))]


def _isolate(words: Sequence[str], view: ClusterView) -> list[Deed]:
    return [deeds.isolate(_nodes(words, view), tuple(view.nodes))]


def _heal(words: Sequence[str], view: ClusterView) -> list[Deed]:
    return [deeds.heal(word) for word in words] or [deeds.heal()]


def _link(words: Sequence[str], view: ClusterView) -> list[Deed]:
    described = [word for word in words if word != "--drop"]
    if not described or "--drop" not in words:
        raise InvalidRequestError(
            "link takes links and --drop here.",
            hint="link 'n1>n2' --drop; the command line has delay and loss, too.",
        )
    return [deeds.link(described_links(tuple(view.nodes), described), described)]


def _hints(words: Sequence[str], view: ClusterView) -> list[Deed]:
    if list(words) == ["hold"]:
        return [replica_deeds.hold()]
    if list(words) == ["release"]:
        return [replica_deeds.release()]
    raise InvalidRequestError("hints takes hold or release.", hint="hints hold")


def _merkle(words: Sequence[str], view: ClusterView) -> list[Deed]:
    names = _nodes(words, view)
    if len(names) != 2:
        raise InvalidRequestError("merkle takes two nodes.", hint="merkle n1 n2")
    return [replica_deeds.compare(names[0], names[1])]


def _of_nodes(
    make: Callable[[Sequence[str]], Deed],
) -> Callable[[Sequence[str], ClusterView], list[Deed]]:
    """One deed for the named nodes, or for all without a name."""
    return lambda words, view: [make(_nodes(words, view) if words else ())]


def _config(words: Sequence[str], view: ClusterView) -> list[Deed]:
    if not words or words[0] != "set" or len(words) < 2:
        raise InvalidRequestError("config set takes r=, w= and mode=.", hint="config set r=1 w=3")
    numbers: dict[str, int] = {}
    mode: str | None = None
    for word in words[1:]:
        name, _, value = word.partition("=")
        if name == "mode":
            mode = value
        elif name in ("n", "r", "w") and value.isdecimal():
            numbers[name] = int(value)
        else:
            raise InvalidRequestError(
                f"{word!r} is no setting.", hint="config set r=1 w=3 mode=strict"
            )
    return [
        deeds.set_quorum(
            view.quorum,
            n=numbers.get("n"),
            r=numbers.get("r"),
            w=numbers.get("w"),
            mode=mode,
        )
    ]


def _one_key(words: Sequence[str]) -> str:
    if len(words) != 1:
        raise InvalidRequestError("give one key.", hint="a key with spaces wants quotes.")
    return words[0]


def _put(words: Sequence[str], view: ClusterView) -> list[Deed]:
    if len(words) != 2:
        raise InvalidRequestError("put takes a key and a value.", hint="put greeting hello")
    if words[1] == "-":
        raise InvalidRequestError(
            "- stands for standard input, which a dashboard has not.",
            hint="kvctl put KEY - reads it.",
        )
    return [deeds.put(words[0], words[1])]


COMMANDS: dict[str, Command] = {
    "kill": Command("kill NODE...", "SIGKILL nodes", _for_each_node(deeds.kill)),
    "start": Command("start NODE...", "start nodes", _for_each_node(deeds.start)),
    "stop": Command("stop NODE...", "stop nodes cleanly", _for_each_node(deeds.stop)),
    "pause": Command("pause NODE...", "SIGSTOP nodes", _for_each_node(deeds.pause)),
    "resume": Command("resume NODE...", "SIGCONT nodes", _for_each_node(deeds.resume)),
    "restart": Command("restart NODE...", "stop and start", _for_each_node(deeds.restart)),
    "partition": Command("partition n1,n2 n3,n4", "cut the links between groups", _partition),
    "isolate": Command("isolate NODE...", "cut nodes off from all others", _isolate),
    "link": Command("link 'n1>n2' --drop", "cut single links", _link),
    "heal": Command("heal [ID]", "lift one fault, or all", _heal),
    "hints": Command("hints [hold|release]", "stop or resume handing hints on", _hints),
    "handoff": Command("handoff [NODE...]", "push hints now", _of_nodes(replica_deeds.push)),
    "merkle": Command("merkle NODE NODE", "compare two nodes", _merkle),
    "repair": Command("repair [NODE...]", "make replicas equal", _of_nodes(replica_deeds.repair)),
    "config": Command("config set r=1 w=3 mode=strict", "change the quorum, live", _config),
    "put": Command("put KEY VALUE", "write a key", _put),
    "get": Command("get KEY", "read a key", lambda words, _: [deeds.get(_one_key(words))]),
    "del": Command("del KEY", "delete a key", lambda words, _: [deeds.delete(_one_key(words))]),
    "where": Command(
        "where KEY", "walk a key to its owners", lambda words, _: Show("key", _one_key(words))
    ),
    "help": Command("help", "keys and commands", lambda words, _: Show("help")),
    "quit": Command("quit", "leave; the cluster goes on", lambda words, _: Show("quit")),
}


def parse_command(text: str, view: ClusterView, pages: Sequence[str]) -> list[Deed] | Show:
    """What a typed line means. Raises `InvalidRequestError` with a sentence and a hint."""
    try:
        words = words_of(text)
    except ValueError as error:
        raise InvalidRequestError("a quotation mark is missing.") from error
    if words and words[0] == "kvctl":
        words = _without_cluster(words[1:], view)
    if not words:
        raise InvalidRequestError("type a command.", hint="help lists them.")
    name = words[0]
    if name in pages and not (name in COMMANDS and len(words) > 1):
        return Show("page", name)
    command = COMMANDS.get(name)
    if command is None:
        close = get_close_matches(name, [*COMMANDS, *pages], n=1)
        raise InvalidRequestError(
            f"there is no command {name!r}.",
            hint=f"did you mean {close[0]}?" if close else "help lists them.",
        )
    arguments = words[1:]
    if "--" in arguments:
        # Only arguments stand behind it; here it means nothing more.
        arguments.remove("--")
    return command.parse(arguments, view)


def _without_cluster(words: list[str], view: ClusterView) -> list[str]:
    """Commands that were copied may name their cluster; this one is the only one here."""
    if words[:1] != ["-c"]:
        return words
    if words[1:2] != [view.cluster]:
        raise InvalidRequestError(f"this dashboard watches {view.cluster}, no other cluster.")
    return words[2:]
