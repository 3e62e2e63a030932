"""Breaking the network between nodes, and healing it: partition, isolate, link, faults, heal.

Faults act on messages between nodes only; clients reach every node at any time. The nodes carry
them out, keep them over a restart, and lift them by themselves when `--for` is over.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvctl.cli.complete_names import complete_node
from kvctl.cli.durations import format_duration, parse_duration
from kvctl.cli.invocation import Invocation, command, command_family, split_list
from kvctl.cli.output import Table
from kvctl_node.errors import InvalidRequestError

if TYPE_CHECKING:
    from kvctl.cluster.faults import Injected
    from kvctl.cluster.network import Network
    from kvctl_node.protocol.link_fault import LinkFault

app = command_family()

LINKS_SHOWN_MAX = 6

For = Annotated[
    str | None,
    typer.Option("--for", metavar="DURATION", help="Heal it by itself after so long, such as 30s."),
]


@command(
    app,
    "partition",
    examples=(
        "kvctl partition n1,n2 n3,n4,n5          nothing passes between the two groups",
        "kvctl partition n1,n2                   the same: the others are the other side",
        "kvctl partition n1,n2 n3,n4 --for 30s   n5 is in no group and keeps all its links",
    ),
    goes_on=True,
)
def partition(
    run: Invocation,
    *,
    groups: Annotated[
        list[str],
        typer.Argument(
            metavar="NODE,...", help="Groups of nodes, two or more.", autocompletion=complete_node
        ),
    ],
    for_: For = None,
) -> None:
    """Cut the network between groups of nodes.

    Both directions, at both ends. A node in no group keeps its links to all of them, as a bridge; a
    single group is cut off from all other nodes. Prints the id of the fault, for kvctl heal.
    """
    sides = [split_list([group]) for group in groups]
    injected = _network(run).partition(sides, for_s=_for_s(for_))
    _show_injected(run, injected)
    named = {name for side in sides for name in side}
    bridges = [node.name for node in run.open_cluster()[1].nodes if node.name not in named]
    if len(sides) > 1 and bridges:
        run.out.note(f"in no group, hence with all links: {', '.join(bridges)}.")


@command(
    app,
    "isolate",
    examples=(
        "kvctl isolate n1               n1 neither hears nor is heard",
        "kvctl isolate n1 --in          it hears nothing, and is heard",
        "kvctl isolate n1 --out         it hears, and is not heard",
    ),
    goes_on=True,
)
def isolate(
    run: Invocation,
    *,
    nodes: Annotated[
        list[str],
        typer.Argument(metavar="NODE", help="Nodes, by name.", autocompletion=complete_node),
    ],
    inward: Annotated[
        bool, typer.Option("--in", help="Cut only what the others send to it.")
    ] = False,
    outward: Annotated[
        bool, typer.Option("--out", help="Cut only what it sends to the others.")
    ] = False,
    for_: For = None,
) -> None:
    """Cut a node off from all others, or only one direction.

    Several nodes are cut off from each other, too. Prints the id of the fault, for kvctl heal.
    """
    both = inward == outward
    injected = _network(run).isolate(
        split_list(nodes),
        inward=inward or both,
        outward=outward or both,
        for_s=_for_s(for_),
    )
    _show_injected(run, injected)


@command(
    app,
    "link",
    examples=(
        "kvctl link 'n1>n2' --drop                       n2 hears nothing of n1, n1 hears n2",
        "kvctl link 'n1<>n2' --delay 200ms --jitter 50ms both ways 150 to 250 ms longer",
        "kvctl link '*>n3' --loss 10% --dup 5% --for 1m  whatever goes to n3",
    ),
    goes_on=True,
)
def link(
    run: Invocation,
    *,
    links: Annotated[
        list[str],
        typer.Argument(
            metavar="LINK", help="n1>n2 for one way, n1<>n2 for both; * for all other nodes."
        ),
    ],
    delay: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Every message takes so much longer...")
    ] = None,
    jitter: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="...give or take so much, so they overtake."),
    ] = None,
    loss: Annotated[
        str | None, typer.Option(metavar="P%", help="So many of the messages are lost.")
    ] = None,
    dup: Annotated[
        str | None, typer.Option(metavar="P%", help="So many of the messages arrive twice.")
    ] = None,
    drop: Annotated[bool, typer.Option("--drop", help="Nothing gets through.")] = False,
    for_: For = None,
) -> None:
    """Make single links slow, lossy or dead, each way by itself.

    Several faults on one link add up. Prints the id of the fault, for kvctl heal.
    """
    from kvctl.cluster.faults import FaultOptions

    if not (delay or jitter or loss or dup or drop):
        raise InvalidRequestError(
            "nothing was asked to happen on the link.",
            hint="say --delay, --loss, --dup or --drop.",
        )
    options = FaultOptions(
        drop=drop,
        loss=parse_share(loss, option="--loss"),
        delay_ms=_milliseconds(delay, option="--delay"),
        jitter_ms=_milliseconds(jitter, option="--jitter"),
        duplicate=parse_share(dup, option="--dup"),
        for_s=_for_s(for_),
    )
    injected = _network(run).link(split_list(links), options)
    _show_injected(run, injected)


@command(app, "faults", examples=("kvctl faults", "kvctl faults -o json | jq '.faults[].hits'"))
def faults(run: Invocation) -> None:
    """List the active faults and how many messages each hit.

    Asked from the nodes themselves; a node that does not run is looked up in its directory.
    """
    active = _network(run).faults()
    items = [fault_document(fault) for fault in active]
    columns = ("ID", "KIND", "LINKS", "EFFECT", ">HITS", "ENDS")
    table = Table(columns, [_row(fault) for fault in active])
    run.out.result({"faults": items}, table, items)
    if not active:
        run.out.told("no fault is active.")


@command(
    app,
    "heal",
    examples=("kvctl heal          everything", "kvctl heal f2       one fault"),
    goes_on=True,
)
def heal(
    run: Invocation,
    *,
    fault: Annotated[
        str | None, typer.Argument(metavar="ID", help="Which one (default: all).")
    ] = None,
) -> None:
    """Lift injected faults, all or one.

    Returns when they are lifted at every node. The nodes then find each other again by themselves;
    kvctl wait converged waits for that.
    """
    healed = _network(run).heal(fault or "")
    items = [fault_document(one) for one in healed.faults]
    document = {"healed": items, "later": list(healed.later)}
    rows = [(one.id, one.kind, str(one.hits)) for one in healed.faults]
    run.out.result(document, Table(("HEALED", "KIND", ">HITS"), rows), items)
    if not items:
        run.out.told("no fault was active.")
    if healed.later:
        run.out.warn(
            f"no answer from {', '.join(healed.later)}: healed there once it goes on.",
            hint=run.shown("kvctl status shows what it does."),
        )


def _network(run: Invocation) -> Network:
    return run.supervisor().network(run.open_cluster()[0].name)


# ------------------------------------------------------------------ reading


def parse_share(text: str | None, *, option: str) -> float:
    """`10%` or `0.1` as a fraction; 0 if it was not given. Raises `InvalidRequestError`."""
    if text is None:
        return 0.0
    number = text.strip()
    try:
        share = float(number[:-1]) / 100 if number.endswith("%") else float(number)
    except ValueError as error:
        raise _no_share(text, option) from error
    if not 0 < share <= 1:
        raise _no_share(text, option)
    return share


def _no_share(text: str, option: str) -> InvalidRequestError:
    return InvalidRequestError(
        f"{option} is not a share of the messages: {text!r}.",
        hint=f"write it with a percent sign: {option} 10%.",
    )


def _milliseconds(text: str | None, *, option: str) -> int:
    if text is None:
        return 0
    return max(1, round(parse_duration(text, option=option) * 1000))


def _for_s(text: str | None) -> float | None:
    return parse_duration(text, option="--for") if text else None


# ------------------------------------------------------------------ showing


def fault_document(fault: LinkFault) -> dict[str, Any]:
    """A fault as JSON shows it; `expires_ms` in wall-clock milliseconds, or null."""
    return {
        "id": fault.id,
        "kind": fault.kind,
        "links": [list(link) for link in fault.links],
        "hits": fault.hits,
        "expires_ms": fault.expires_ms,
        "drop": fault.drop,
        "loss": fault.loss,
        "delay_ms": fault.delay_ms,
        "jitter_ms": fault.jitter_ms,
        "duplicate": fault.duplicate,
    }


def _show_injected(run: Invocation, injected: Injected) -> None:
    fault = injected.fault
    document = {
        **fault_document(fault),
        "told": list(injected.told),
        "later": list(injected.later),
    }
    row = (fault.id, fault.kind, _links(fault), _effect(fault), _ends(fault))
    if run.out.is_terminal or run.out.is_json:
        run.out.result(document, Table(("ID", "KIND", "LINKS", "EFFECT", "ENDS"), [row]))
    else:
        run.out.result(document, Table(("ID",), [(fault.id,)]))
    if injected.later:
        run.out.note(
            f"no answer from {', '.join(injected.later)}: in force there once it serves again."
        )


def _row(fault: LinkFault) -> tuple[str, ...]:
    return (fault.id, fault.kind, _links(fault), _effect(fault), str(fault.hits), _ends(fault))


def _links(fault: LinkFault) -> str:
    """`n1<>n2 n1>n3`, shortened."""
    known = set(fault.links)
    words = []
    for one, other in sorted(known):
        if (other, one) not in known:
            words.append(f"{one}>{other}")
        elif one < other:
            words.append(f"{one}<>{other}")
    if len(words) > LINKS_SHOWN_MAX:
        return f"{' '.join(words[:LINKS_SHOWN_MAX])} and {len(words) - LINKS_SHOWN_MAX} more"
    return " ".join(words)


def _effect(fault: LinkFault) -> str:
    """`loses 10%, delays 200ms±50ms`."""
    words = []
    if fault.drop:
        words.append("cut")
    if fault.loss:
        words.append(f"loses {fault.loss * 100:.3g}%")
    if fault.delay_ms:
        jitter = f"±{fault.jitter_ms}ms" if fault.jitter_ms else ""
        words.append(f"delays {fault.delay_ms}ms{jitter}")
    if fault.duplicate:
        words.append(f"doubles {fault.duplicate * 100:.3g}%")
    return ", ".join(words)


def _ends(fault: LinkFault) -> str:
    if fault.expires_ms is None:
        return "when healed"
    return f"in {format_duration(max(0.0, fault.expires_ms / 1000 - time.time()))}"
