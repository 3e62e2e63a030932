"""Ownership: the ring as a whole, and the preference list of a key.

Taken from a node that runs, since only nodes know the current epoch; while none does, computed from
the configuration in the same way the nodes compute it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from kvctl.cli.complete_names import complete_node
from kvctl.cli.invocation import Invocation, command, command_family, split_list, text_to_bytes
from kvctl.cli.output import Table, one_line
from kvctl.errors import ClusterUnreachableError
from kvctl_node.errors import InvalidRequestError, UnavailableError

if TYPE_CHECKING:
    from kvctl_node.config import ClusterConfig
    from kvctl_node.ring.partition_map import PartitionMap
    from kvctl_node.ring.server import Server

app = command_family()


@command(app, "ring", examples=("kvctl ring", "kvctl ring -o json | jq '.owners[].share'"))
def ring(run: Invocation) -> None:
    """Show who owns how much of the ring.

    SHARE is the part of all replicas a node owns, TARGET the part its capacity entitles it to.
    """
    from kvctl_node.ring.ownership import ownership

    config, partition_map = _current_map(run)
    owners = [share._asdict() for share in ownership(partition_map, _servers(config))]
    document = {
        "epoch": partition_map.epoch,
        "hash": partition_map.hash.hex(),
        "partitions": partition_map.partitions,
        "owners": owners,
    }
    rows = [
        (
            owner["node"],
            str(owner["replicas"]),
            str(owner["primaries"]),
            f"{owner['share']:.2%}",
            f"{owner['target']:.2%}",
        )
        for owner in owners
    ]
    title = f"epoch {document['epoch']}, {document['partitions']} partitions, N={partition_map.n}"
    columns = ("NODE", ">REPLICAS", ">PRIMARIES", ">SHARE", ">TARGET")
    run.out.result(document, Table(columns, rows, title), owners)


@command(
    app,
    "where",
    examples=(
        "kvctl where user:1                    owners, then those who would stand in",
        "kvctl where user:1 --without n2,n3    who would take the write with n2 and n3 down",
    ),
)
def where(
    run: Invocation,
    *,
    keys: Annotated[list[str], typer.Argument(metavar="KEY", help="Keys; need not exist.")],
    without: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NODE,...",
            help="Suppose these nodes unreachable, and show who fills their slots.",
            autocompletion=complete_node,
        ),
    ] = None,
) -> None:
    """Show which nodes own a key, and who stands in for them."""
    from kvctl.client.request_builder import check_key

    limit = run.open_cluster()[1].limits.key_bytes_max
    checked = [text_to_bytes(key) for key in keys]
    for key in checked:
        check_key(key, limit)
    _, partition_map = _current_map(run)
    unreachable = split_list(without)
    for name in unreachable:
        if name not in partition_map.members:
            raise InvalidRequestError(
                f"there is no node {name!r}.",
                hint=f"the nodes are {', '.join(partition_map.members)}.",
            )
    items = [_place(partition_map, key, unreachable) for key in checked]
    rows = [_place_row(item) for item in items]
    columns = ["KEY", ">PARTITION", "PRIMARIES", "FALLBACKS"]
    if unreachable:
        columns.append(f"WITHOUT {','.join(unreachable)}")
    table = Table(columns, rows)
    if len(items) == 1:
        run.out.result(items[0], table)
    else:
        run.out.result({"keys": items}, table, items)


def _place(partition_map: PartitionMap, key: bytes, unreachable: list[str]) -> dict[str, Any]:
    from kvctl_node.ring.preference_list import walk

    partition = partition_map.partition_of(key)
    preference = partition_map.preference_list(partition)
    document: dict[str, Any] = {
        "key": key.decode(),
        "partition": partition,
        "primaries": list(preference.primaries),
        "fallbacks": list(preference.fallbacks),
    }
    if unreachable:
        document["without"] = unreachable
        document["slots"] = [
            {"primary": slot.primary, "node": slot.node} for slot in walk(preference, unreachable)
        ]
    return document


def _place_row(place: dict[str, Any]) -> tuple[str, ...]:
    row = (
        one_line(place["key"].encode()),
        str(place["partition"]),
        ",".join(place["primaries"]),
        ",".join(place["fallbacks"]),
    )
    if "slots" not in place:
        return row
    return (*row, ",".join(_slot(slot["primary"], slot["node"]) for slot in place["slots"]))


def _slot(primary: str, node: str | None) -> str:
    if node is None:
        return f"nobody for {primary}"
    return node if node == primary else f"{node} for {primary}"


def _current_map(run: Invocation) -> tuple[ClusterConfig, PartitionMap]:
    """The map a running node uses, or the one the configuration leads to."""
    _, config = run.open_cluster()
    try:
        with run.connect() as client:
            return config, client.describe().ring
    except (ClusterUnreachableError, UnavailableError):
        run.out.note("no node answers; this is computed from the configuration.")
    from kvctl_node.ring.claim import claim

    servers = _servers(config)
    return config, claim(servers, partitions=config.partitions, n=config.quorum.n)


def _servers(config: ClusterConfig) -> list[Server]:
    from kvctl_node.ring.server import Server

    return [Server(node.name, node.capacity, node.zone) for node in config.nodes]
